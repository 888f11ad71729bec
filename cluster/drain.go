package cluster

import "errors"

// A Drain tells every gateway that a planned change of leader is under way: To
// comes next, and with Hold the leader of Epoch is given no new transactions. Its
// Mod is the generation that gateways acknowledge. It says nothing any more once
// another epoch has begun; the zero Drain, put over it, calls it off.
type Drain struct {
	Mod   int64  `json:"-"`
	From  string `json:"from,omitempty"`
	To    string `json:"to,omitempty"`
	Epoch int64  `json:"epoch,omitempty"` // of From
	Hold  bool   `json:"hold,omitempty"`
}

// Open says that a change is under way.
func (d Drain) Open() bool { return d.From != "" }

// Encode is the value to put.
func (d Drain) Encode() string { return encode(d) }

// ParseDrain reads a drain. One that is incomplete asks for nothing.
func ParseDrain(value []byte) (Drain, error) {
	var d Drain
	err := decode(value, &d)
	if err == nil && d != (Drain{}) && (d.From == "" || d.To == "" || d.Epoch == 0) {
		err = errors.New("from, to and epoch are needed")
	}
	if err != nil {
		return Drain{}, err
	}
	return d, nil
}

// A PictureDrain is a drain of the present reign.
type PictureDrain struct {
	From       string `json:"from"`
	To         string `json:"to"`
	Hold       bool   `json:"hold"`
	Generation int64  `json:"generation"`
}

// drainOf is what gateways are to do about s; nil: nothing.
func drainOf(s State) *PictureDrain {
	d := s.Drain
	if d == nil || !d.Open() || s.Leader == nil || s.Leader.Mod != d.Epoch || s.Leader.Name != d.From {
		return nil
	}
	return &PictureDrain{From: d.From, To: d.To, Hold: d.Hold, Generation: d.Mod}
}
