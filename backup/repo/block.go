package repo

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"
)

// Block incremental files, as pgBackRest writes them since 2.46 (an earlier
// form had the same format number and other bytes). A file's object holds
// super blocks, each some blocks of the file compressed and encrypted as one,
// and behind them a map, which says of every block of the file in which super
// block of which backup it is. (src/command/backup/blockMap.c)
//
//	| super block | super block | … | map |

// A Block is one item of a map: where a block of the file is.
type Block struct {
	Reference int   // the backup, as an index into the manifest's references
	Bundle    int64 // 0: the file has an object of its own there
	Offset    int64 // of the super block in its object
	Stored    int64 // bytes that it takes there
	Plain     int64 // bytes that it holds
	Index     int64 // which of its blocks this is
	Checksum  []byte
}

// BlockChecksum is the first size bytes of the XXH3 of a block.
func BlockChecksum(block []byte, size int) []byte {
	sum := xxh3.Hash128(block).Bytes()
	return sum[:size]
}

// Bits of a map's numbers.
const (
	refLast, refContinue, refGap       = 1, 2, 4 // of a reference that was seen before
	refBundle, refOffset               = 2, 4    // of one that was not
	refContinueLast                    = 4       // with refContinue
	superLast, superChange, superTotal = 1, 2, 4
)

// place is what is remembered of a reference between its runs.
type place struct {
	plain, bundle, offset, stored, index int64
}

// mapReader reads numbers of seven bits a byte, the lowest first.
type mapReader struct {
	data []byte
	err  error
}

func (r *mapReader) number() int64 {
	n, size := binary.Uvarint(r.data)
	if size <= 0 || n > 1<<62 {
		if r.err == nil {
			r.err = Errorf(BadFormat, "the block map ends in the middle of a number, or has one that is too large")
		}
		r.data = nil
		return 0
	}
	r.data = r.data[size:]
	return int64(n)
}

// ParseBlockMap reads a map whose blocks have size bytes and checksums sum
// bytes; a file has at most so many blocks.
func ParseBlockMap(data []byte, size int64, sum, most int) ([]Block, error) {
	r := &mapReader{data: data}
	if r.number()&1 != 0 {
		return nil, Errorf(BadFormat, "the block map is of a later version")
	}
	var all []Block
	places := map[int]*place{}
	var before int64 // stored size of the super block before, of any reference
	first := true
	for last := false; !last && r.err == nil; {
		bits := r.number()
		reference := int(bits >> 3)
		last = bits&refLast != 0
		at, seen := places[reference]
		continued, alone := false, false
		if !seen {
			at = &place{plain: size}
			places[reference] = at
			if bits&refBundle != 0 {
				at.bundle = r.number()
			}
			if bits&refOffset != 0 {
				at.offset = r.number()
			}
		} else {
			switch {
			case bits&refContinue != 0:
				continued, alone = true, bits&refContinueLast != 0
			case bits&refGap != 0:
				at.offset += at.stored + r.number()
			default:
				at.offset += at.stored
			}
		}
		for n := 0; ; n++ {
			kind := int64(superTotal)
			switch {
			case continued && n == 0:
				if alone {
					kind |= superLast
				}
			default:
				kind = r.number()
				value := kind >> 3
				if first {
					first = false
				} else {
					value = before + (value>>1 ^ -(value & 1))
				}
				if n > 0 {
					at.offset += at.stored
				}
				at.stored, at.index = value, 0
				if kind&superChange != 0 {
					p := r.number()
					at.plain = p >> 1 * size
					if p&1 != 0 {
						at.plain += r.number()
					}
				}
			}
			if continued && n == 0 {
				// The total of a continued super block is always there.
				kind |= superTotal
			}
			before = at.stored
			blocks := (at.plain + size - 1) / size
			if kind&superTotal != 0 {
				t := r.number()
				blocks = t>>1 + 1
				if t&1 != 0 {
					at.index += r.number()
				}
			}
			if r.err != nil {
				return nil, r.err
			}
			if at.stored < 0 || at.plain < 0 || at.plain > 1<<30 || blocks < 0 || int64(len(all))+blocks > int64(most) || blocks*int64(sum) > int64(len(r.data)) {
				return nil, Errorf(BadFormat, "the block map has sizes that can not be")
			}
			for range blocks {
				all = append(all, Block{reference, at.bundle, at.offset, at.stored, at.plain, at.index, r.data[:sum]})
				r.data = r.data[sum:]
				at.index++
			}
			if kind&superLast != 0 {
				break
			}
		}
	}
	if r.err == nil && len(r.data) > 0 {
		return nil, Errorf(BadFormat, "%d bytes follow the block map", len(r.data))
	}
	return all, r.err
}
