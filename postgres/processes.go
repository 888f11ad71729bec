package postgres

// Processes returns every live process of the server in a data directory, the
// postmaster or not. Whoever else works there, a person's shell for one, is not
// among them.
func Processes(data string) ([]Proc, error) {
	all, err := holders(data)
	var procs []Proc
	for _, h := range all {
		procs = append(procs, h.Proc)
	}
	return procs, err
}

// Frozen says that a server is there and every process of it is stopped.
func Frozen(data string) bool {
	all, err := holders(data)
	for _, h := range all {
		if !h.stopped() {
			return false
		}
	}
	return err == nil && len(all) > 0
}
