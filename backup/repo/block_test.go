package repo

import (
	"encoding/hex"
	"fmt"
	"testing"
)

// Maps that the real pgBackRest 2.59 wrote.
func TestBlockMap(t *testing.T) {
	for _, tt := range []struct {
		data string
		want []string // reference, bundle, offset, stored, plain, index, checksum
	}{
		{"000e01c81cc70b060203d82c4f2e16f48889498db00612b0910787040c050288e73ab21f0b53ded9653354fd1ac86f6bbe0f00b10e7b2e527e", []string{
			"1 1 3656 184 24576 0 03d82c4f2e16", "1 1 3656 184 24576 1 f48889498db0", "0 18 116912 216 49152 2 88e73ab21f0b",
			"0 18 116912 216 49152 3 53ded9653354", "0 18 116912 216 49152 4 fd1ac86f6bbe", "1 1 3656 184 24576 2 b10e7b2e527e",
		}},
		{"000613a0d902c7b9010802834bcb9ac66f6888150ba7350a01f9b9029933003a4e29070101fdc7a413c8f0", []string{
			"0 19 44192 2968 32768 0 834bcb9ac66f", "0 19 44192 2968 32768 1 6888150ba735", "1 1 0 456 8192 0 9933003a4e29", "0 19 44192 2968 32768 3 fdc7a413c8f0",
		}},
	} {
		data, err := hex.DecodeString(tt.data)
		if err != nil {
			t.Fatal(err)
		}
		blocks, err := ParseBlockMap(data, 8192, 6, 100)
		if err != nil || len(blocks) != len(tt.want) {
			t.Errorf("%s: %+v, %v", tt.data, blocks, err)
			continue
		}
		for i, b := range blocks {
			if got := fmt.Sprintf("%d %d %d %d %d %d %x", b.Reference, b.Bundle, b.Offset, b.Stored, b.Plain, b.Index, b.Checksum); got != tt.want[i] {
				t.Errorf("block %d is %s, want %s", i, got, tt.want[i])
			}
		}
		for n := range data {
			if _, err := ParseBlockMap(data[:n], 8192, 6, 100); err == nil {
				t.Errorf("%d of %d bytes are taken for a map", n, len(data))
			}
		}
	}
}

func FuzzBlockMap(f *testing.F) {
	data, _ := hex.DecodeString("000e01c81cc70b060203d82c4f2e16f48889498db00612b0910787040c050288e73ab21f0b53ded9653354fd1ac86f6bbe0f00b10e7b2e527e")
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		blocks, err := ParseBlockMap(data, 8192, 6, 1000)
		if err == nil && len(blocks) > 1000 {
			t.Errorf("%d blocks", len(blocks))
		}
	})
}
