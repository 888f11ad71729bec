package ha

import "howdah/cluster"

// configure keeps the server on the parameters of the dynamic configuration
// (postgresql.parameters): what may change while it runs counts at once, the
// rest waits for a restart, which the member publishes.
func (t *turn) configure() bool {
	c, due := t.unset()
	if !due || t.failing(c) {
		return false
	}
	t.note("config=changed")
	t.work(c)
	return true
}

// unset says that the server was not given what the configuration says now. A
// configuration that can not be read changes nothing.
func (t *turn) unset() (Configure, bool) {
	c := t.State.Config
	if !t.Known || t.State.Unknown(cluster.KeyConfig) || c.Data == nil || c.Mod == t.m.SetAt && !t.m.Reload {
		return Configure{}, false
	}
	parameters := c.Parameters()
	t.forLogical(parameters)
	if t.m.Disk.Shut {
		parameters["default_transaction_read_only"] = "on"
	}
	want := cluster.ParametersText(parameters)
	if want == t.m.Set || want == noParameters && t.m.Set == "" {
		t.m.SetAt = c.Mod
	}
	return Configure{Parameters: want, Reread: t.m.Reload}, c.Mod != t.m.SetAt || t.m.Reload
}

// noParameters is the text of none, which is what a server begins with.
const noParameters = "{}"
