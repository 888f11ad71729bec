package cluster

import "testing"

// A drain counts for the reign that it was put in, and for no other.
func TestADrainIsOfOneReign(t *testing.T) {
	values := func(drain string) map[string]KV {
		return map[string]KV{
			KeyLeader: {Key: KeyLeader, Value: []byte("a"), Mod: 7},
			KeyDrain:  {Key: KeyDrain, Value: []byte(drain), Mod: 9},
		}
	}
	for drain, want := range map[string]*PictureDrain{
		`{"from":"a","to":"b","epoch":7}`:             {From: "a", To: "b", Generation: 9},
		`{"from":"a","to":"b","epoch":7,"hold":true}`: {From: "a", To: "b", Generation: 9, Hold: true},
		`{"from":"a","to":"b","epoch":6,"hold":true}`: nil,
		`{"from":"b","to":"a","epoch":7,"hold":true}`: nil,
		`{"from":"a","epoch":7,"hold":true}`:          nil,
		`{"from":"a","to":"b","hold":true}`:           nil,
		`{}`:                                          nil,
		`scribble`:                                    nil,
	} {
		got := PictureOf(Parse(9, values(drain))).Drain
		if (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Errorf("%s: %+v, want %+v", drain, got, want)
		}
	}
}

func TestDrainSettings(t *testing.T) {
	for text, ok := range map[string]bool{
		`{"howdah":{"drain":"2s","undrained":"abort"}}`: true,
		`{"howdah":{"drain":0,"undrained":"proceed"}}`:  true,
		`{"howdah":{"drain":null}}`:                     true,
		`{"howdah":{"drain":"6s"}}`:                     false,
		`{"howdah":{"drain":"soon"}}`:                   false,
		`{"howdah":{"undrained":"perhaps"}}`:            false,
	} {
		c, err := ParseConfig([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.SetTimers(); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}
