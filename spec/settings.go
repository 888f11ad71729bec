package spec

// Settings are what an inventory says of a machine itself. What it does not say stays as
// it is there.
type Settings struct {
	Name   string   `json:"name,omitempty"`   // of the machine
	Zone   string   `json:"zone,omitempty"`   // of time: Europe/Berlin
	NTP    []string `json:"ntp,omitempty"`    // as chrony writes them: pool pool.ntp.org iburst
	Kernel []Kernel `json:"kernel,omitempty"` // by name
	Hosts  []string `json:"hosts,omitempty"`  // lines of its hosts file
	Admin  *Admin   `json:"admin,omitempty"`  // the user who administers it
}

// A Kernel is one parameter of the kernel.
type Kernel struct {
	Name  string `json:"name"` // vm.swappiness
	Value string `json:"value"`
}

// An Admin is a user of a machine.
type Admin struct {
	Name string   `json:"name"`
	UID  int      `json:"uid,omitempty"`  // 0: any
	Sudo string   `json:"sudo,omitempty"` // all, nopass; "": as it is
	Keys []string `json:"keys,omitempty"` // public ones, by which it logs in
}
