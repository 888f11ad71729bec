package ha

import (
	"howdah/cluster"
	"howdah/pg"
)

// asked carries out what a person asked of this member, whose server runs. The
// request is seen to be off the store before anything happens, so that it is
// carried out at most once whatever dies in between.
func (t *turn) asked() bool {
	m := &t.m
	if m.Restart != 0 && m.Restart == t.Server.PID {
		t.note("restart=asked")
		t.begin(cluster.KindRestart, t.Self.Name, "asked for")
		t.work(Stop{})
		return true
	}
	m.Restart = 0 // another server runs by now
	r, here := t.State.Request(t.Self.Name)
	key, kind := cluster.DirRequests, r.Kind
	if !here && !t.State.Config.Pause() {
		r, here = t.due()
		key, kind = cluster.DirSchedules, r.Kind
		if here && !t.matches(r) {
			kind = ""
		}
	}
	t.take(key, r, here, kind)
	return false
}

// take takes a request off the store, and up once it is seen to be off.
func (t *turn) take(key string, r cluster.Request, here bool, kind string) {
	m := &t.m
	switch {
	case here:
		t.note("request=%s", r.Kind)
		m.Request = Request{r.Mod, kind}
		if !t.quiet() {
			t.do(Drop{Key: key + t.Self.Name, Over: r.Mod})
		}
		t.wakeBy(t.Now + soon)
	case m.Request.Mod != 0:
		switch m.Request.Kind {
		case cluster.RequestRestart:
			m.Restart = t.Server.PID
		case cluster.RequestReload:
			m.Reload = true
		case cluster.RequestReinit:
			// What leads is where others copy from; of a standby cluster, there is another.
			m.Reinit.Asked = t.claimed() == 0 || t.standbyCluster()
		}
		m.Request = Request{}
		t.wakeBy(t.Now)
	}
}

// due is a request for later whose time has come.
func (t *turn) due() (cluster.Request, bool) {
	r, ok := t.State.Schedule(t.Self.Name)
	if !ok {
		return r, false
	}
	if wait := r.Schedule.Sub(t.Wall); wait > 0 {
		t.wakeBy(t.Now + min(wait, t.Timers.Renew))
		return r, false
	}
	return r, true
}

// matches says that what was demanded of a restart for later holds now that its
// time has come. Patroni's restart_matches, and its patience with a late one.
func (t *turn) matches(r cluster.Request) bool {
	s := t.Server
	version, _ := pg.VersionNum(r.Version)
	role := cluster.RolePrimary
	if s.Recovering {
		role = cluster.RoleReplica
	}
	switch {
	case t.Wall.Sub(r.Schedule) > t.State.Config.LoopWait()*3/2:
		t.note("restart=missed")
	case r.Started != "" && r.Started != cluster.Stamp(s.Started):
		t.note("restart=done")
	case r.Role != "" && r.Role != role, r.Version != "" && version <= s.Version, r.Pending && !s.Restart:
		t.note("restart=unmatched")
	default:
		return true
	}
	return false
}

// reinit makes room for a fresh copy that a person asked for: the server is
// ended and its data moved aside, and from there on this is a new member.
func (t *turn) reinit() bool {
	r, here := t.State.Request(t.Self.Name)
	if t.Server.Process != pg.ProcessRunning && (here && r.Kind == cluster.RequestReinit || t.m.Request.Kind == cluster.RequestReinit) {
		t.take(cluster.DirRequests, r, here, r.Kind) // a server that does not come up is what it is asked for most
	}
	if !t.m.Reinit.Asked {
		return false
	}
	t.note("reinit=asked")
	if t.m.Reinit.Begun {
		return false
	}
	if t.Server.Process != pg.ProcessNone {
		t.work(Kill{})
		return true
	}
	t.m.Reinit.Begun = true
	t.m.Rejoin.Aside = t.Server.Data == pg.DataPresent
	return false
}

// askedInPause carries out what a person asks under maintenance, which a server
// of theirs does not do by itself: it is restarted, reloaded or copied anew.
func (t *turn) askedInPause() bool {
	s := t.Server
	leads := t.leading()
	if !leads && (t.State.LeaderName() == "" || t.State.LeaderName() == t.Self.Name || t.writes()) {
		return false
	}
	if t.m.Restart != 0 && s.Process == pg.ProcessNone {
		t.note("restart=asked")
		switch _, ready := t.upstream(); {
		case leads && s.Control.Clean() && !s.Standby:
			t.work(Start{})
		case !leads && ready:
			t.work(Start{Standby: true, Up: t.source()})
		default:
			t.m.Restart = 0
		}
		return true
	}
	if s.Process == pg.ProcessRunning && s.Answers {
		if t.asked() || t.configure() {
			return true
		}
	}
	return !leads && t.m.Reinit.Asked
}
