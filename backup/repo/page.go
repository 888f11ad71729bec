package repo

import "encoding/binary"

// PageSize is PostgreSQL's block, and SegmentPages how many a file of a
// relation holds before the next begins.
const (
	PageSize     = 8192
	SegmentPages = 131072
)

// seeds and prime of the checksum (storage/checksum_impl.h).
var seeds = [32]uint32{
	0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
	0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
	0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
	0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
}

const prime = 16777619

// PageGood says whether a page has the checksum that it carries. A new page,
// all zero, has none. block counts from the beginning of the relation.
func PageGood(page []byte, block uint32) bool {
	if binary.LittleEndian.Uint16(page[14:]) == 0 { // pd_upper
		for _, b := range page {
			if b != 0 {
				return false
			}
		}
		return true
	}
	return pageChecksum(page, block) == binary.LittleEndian.Uint16(page[8:])
}

func pageChecksum(page []byte, block uint32) uint16 {
	sums := seeds
	for row := 0; row < PageSize; row += 4 * len(sums) {
		for i := range sums {
			at := row + 4*i
			v := binary.LittleEndian.Uint32(page[at:])
			if at == 8 {
				v &= 0xFFFF0000 // pd_checksum counts as zero
			}
			t := sums[i] ^ v
			sums[i] = t*prime ^ t>>17
		}
	}
	result := uint32(0)
	for range 2 {
		for i := range sums {
			sums[i] = sums[i]*prime ^ sums[i]>>17
		}
	}
	for _, s := range sums {
		result ^= s
	}
	return uint16((result^block)%65535 + 1)
}
