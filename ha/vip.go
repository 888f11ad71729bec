package ha

// virtual tells of the virtual address in the trail, where it is or should be.
func (t *turn) virtual() {
	v := t.VIP
	switch {
	case v.Held:
		t.note("vip=held")
	case v.Address != "" && t.leading() && !t.standbyCluster():
		t.note("vip=missing")
	}
	if v.Problem.Code != "" {
		t.problems = append(t.problems, v.Problem)
	}
}
