package keep

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"howdah/backup/schedule"
	"howdah/logkey"
	"howdah/spec"
)

// Who leads has restores rehearsed when the inventory says, and asks one member to
// do it. How that is done is not this package's to know: Rehearse is given.

// rehearseLook is how often a leader looks whether a drill is due that it knows to
// be; until then it looks once in rehearseSeldom, for a person may have made one.
const (
	rehearseLook   = time.Minute
	rehearseSeldom = time.Hour
)

// rehearsing is what a leader remembers of drills.
type rehearsing struct {
	looked time.Time // when it asked the others; zero: it has not
	due    time.Time // as it was then; zero: never
	asked  time.Time // when it last had somebody make one
}

// rehearse has a member make a drill, if one is due.
func (k *Keeper) rehearse(ctx context.Context) {
	now := time.Now()
	k.mu.Lock()
	since, was := k.state.since, k.state.rehearsing
	k.mu.Unlock()
	due := !was.due.IsZero() && !now.Before(was.due)
	switch waited := now.Sub(was.looked); {
	case k.drillTime == nil || since.IsZero() || now.Before(since.Add(schedule.Settle)):
		return
	case waited < rehearseLook || !due && waited < rehearseSeldom:
		return
	}
	states := append([]State{k.alone(ctx)}, k.states(ctx, k.others()...)...)
	r := rehearsal(now, k.drillTime, since, was.asked, states)
	beside := r.Beside()
	was.looked, was.due = now, r.Due()
	if beside != "" {
		was.asked = now
	}
	k.mu.Lock()
	if k.state.since.Equal(since) {
		k.state.rehearsing = was
	}
	k.mu.Unlock()
	if beside == "" {
		return
	}
	err := k.askForDrill(ctx, beside)
	if err != nil {
		k.log.Warn("restore not rehearsed", logkey.Member, beside, logkey.Error, err)
		return
	}
	k.log.Info("restore is to be rehearsed", logkey.Member, beside, "due", was.due)
}

// rehearsal is what all members say, as far as drills go; the leader's is first.
func rehearsal(now time.Time, line *spec.BackupTime, leads, asked time.Time, states []State) schedule.Rehearsal {
	r := schedule.Rehearsal{Now: now, Time: line, Leads: leads, Asked: asked}
	own := states[0].Backups
	if len(own) == 0 {
		return r
	}
	r.First = own[0].Stop
	newest := own[len(own)-1]
	for _, s := range states {
		m := schedule.Rehearser{Member: s.Member, Leads: s.Leads, Busy: !s.Drilling.IsZero(), Room: s.Free >= DrillNeeds(newest.Size)}
		m.Holds = s.Bucket != "" || len(s.Backups) > 0 && s.Backups[len(s.Backups)-1].Label == newest.Label
		if d := s.Drill; d != nil {
			m.Last = d.Began
			if said := d.said(); said.After(r.Last) {
				r.Last = said
			}
			if d.Verdict == Broke && d.Began.After(r.Broke) {
				r.Broke = d.Began
			}
		}
		r.Members = append(r.Members, m)
	}
	if r.Broke.Before(r.Last) {
		r.Broke = time.Time{}
	}
	return r
}

// DrillNeeds is how much room a drill takes whose backup takes so many bytes: those,
// what is replayed on top, and the log on its way, which recovery removes as it goes.
func DrillNeeds(size int64) int64 { return size + size/20 + 256<<20 }

// Spare is what a drill that nobody watches leaves free on a volume of that size: as
// much as no guard of the disk takes for little.
func Spare(size int64) int64 { return min(max(size/10, 512<<20), size/4, 64<<30) }

// free is how much of a node's volume a drill may take.
func free(n spec.Node) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(n.Paths.Dir, &st); err != nil {
		return 0
	}
	return max(int64(st.Bavail)*st.Bsize-Spare(int64(st.Blocks)*st.Bsize), 0)
}

// askForDrill has a member begin one.
func (k *Keeper) askForDrill(ctx context.Context, member string) error {
	if member == k.node.Member {
		return k.beginDrill()
	}
	for _, h := range k.others() {
		if h.Member == member {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			return Client{URL: h.URL, HTTP: k.peers}.Drill(ctx)
		}
	}
	return fmt.Errorf("%s has no repository", member)
}

// beginDrill has the part below make one.
func (k *Keeper) beginDrill() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.Rehearse == nil:
		return errors.New("this member makes no drills")
	case !k.drilling.IsZero():
		return errors.New("one is being made since " + k.drilling.UTC().Format(time.RFC3339))
	}
	k.drilling = time.Now().UTC()
	k.drills <- struct{}{} // has room: nothing was being made
	return nil
}

// makeDrills makes those that are asked for, one after the other.
func (k *Keeper) makeDrills(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.drills:
		}
		began := time.Now()
		err := k.Rehearse(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			k.log.Warn("rehearsed restore did not pass", logkey.Took, time.Since(began), logkey.Error, err)
		default:
			k.log.Info("rehearsed restore passed", logkey.Took, time.Since(began))
		}
		k.mu.Lock()
		k.drilling = time.Time{}
		k.mu.Unlock()
		runtime.GC() // as after a backup
		debug.FreeOSMemory()
	}
}
