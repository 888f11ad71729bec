package keep

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"howdah/backup"
	"howdah/backup/archive"
	"howdah/backup/repo"
	"howdah/backup/restore"
	"howdah/backup/retain"
	"howdah/backup/schedule"
	"howdah/backup/server"
	"howdah/backup/stanza"
	"howdah/backup/take"
	"howdah/lease"
	"howdah/lifecycle"
	"howdah/logkey"
	"howdah/nodefile"
	"howdah/pg"
	"howdah/pki"
	"howdah/secret"
	"howdah/spec"
)

// turn is how often a member looks whether there is something to do. What a look
// costs is a few small files, and for a standby one request over a connection
// that is there.
const turn = 5 * time.Second

// sharedTurn is how often it looks into a repository that all members share,
// where every look costs requests; after a step of its own it looks anyway.
const sharedTurn = time.Minute

// archiveWait is how long a backup waits for its WAL.
const archiveWait = 2 * time.Minute

// A Keeper keeps one member's repository; of several the first one's has the others'
// beside it. Each looks and acts for itself, so that one which can not be reached
// keeps no other waiting; what they have in common is the door, and that one backup
// is made at a time.
type Keeper struct {
	// Rehearse makes a drill beside this member, and records it; nil: none are made.
	Rehearse func(context.Context) error

	node      spec.Node
	log       *slog.Logger
	desk      backup.Desk
	times     []spec.BackupTime
	drillTime *spec.BackupTime // nil: when a person asks
	drills    chan struct{}    // one is to be made
	also      []*Keeper        // of the other repositories
	all       []*Keeper        // of all: this and also, or whose one of also this is
	acts      chan struct{}    // full while one of them makes a backup, or copies
	peers     *http.Client
	server    *tls.Config
	leads     func() bool
	wake      chan struct{}
	listed    listed // only turns use it

	sight sight // for the metrics

	mu       sync.Mutex
	state    state
	asked    *question
	leader   string    // who led when it was last heard of
	drilling time.Time // since when a drill is made here; zero: none is
	lends    *lending  // this member's part in the leader's backup; nil: it has none
}

// state is what turns remember. Only turns write it; the door reads it.
type state struct {
	since      time.Time   // this member leads; zero: it does not
	filled     pg.Timeline // of the server when the archive was given what belongs before it; 0: it was not
	again      time.Time   // when filling is tried again, if it failed
	looked     bool        // since this member leads, the others were asked what they have
	running    *Run
	failed     *Failure
	last       time.Time // of a failure
	holds      bool      // the leader's backups, as its next
	streamed   Streamed  // up to where the log is here; zero: this member does not stream
	rehearsing rehearsing
	gap        gap // in the archive

	seen map[string]string // marks of others whose repository was copied whole
	dirs map[string]string // directories of theirs that were

	glance struct { // of a shared repository: what was last seen, for whoever asks
		at    time.Time // zero: it is another now
		state State
	}
	changed int // how often this member has changed what is there
}

// listed is what was last seen of a shared repository, for the next turns.
type listed struct {
	at      time.Time
	backups []repo.Backup
	ok      bool
}

// A question is a person's wish for a backup.
type question struct {
	kind  repo.Type
	ended chan struct{} // closed when backup or err is there
	done  repo.Backup
	err   error
}

// New makes the keeper of a node's repositories.
func New(n spec.Node, log *slog.Logger) (*Keeper, error) {
	var all []*Keeper
	acts := make(chan struct{}, 1)
	for _, one := range n.Repositories() {
		said := log
		if len(n.Backup.More) > 0 {
			said = log.With(logkey.Repository, cmp.Or(one.Backup.Name, fmt.Sprintf("repo%d", one.Backup.Key())))
		}
		k, err := newKeeper(one, said)
		if err != nil {
			return nil, err
		}
		k.acts = acts
		all = append(all, k)
	}
	for _, k := range all {
		k.all = all
	}
	k := all[0]
	k.also, k.node.Backup.More = all[1:], n.Backup.More
	if n.Backup.Drill != "" {
		t, err := spec.ParseDrillTime(n.Backup.Drill)
		if err != nil {
			return nil, fmt.Errorf("schedule of drills: %w", err)
		}
		k.drillTime = &t
	}
	return k, nil
}

// newKeeper makes the keeper of one repository.
func newKeeper(n spec.Node, log *slog.Logger) (*Keeper, error) {
	k := &Keeper{
		node: n, log: log, wake: make(chan struct{}, 1), drills: make(chan struct{}, 1), leads: func() bool {
			p, ok := lease.Read(n.Paths.Page)
			return ok && p.Role == lease.Primary
		},
	}
	var err error
	if k.desk, err = DeskOf(n, k.voice); err != nil {
		return nil, err
	}
	for _, line := range n.Backup.Times {
		t, err := spec.ParseBackupTime(line)
		if err != nil {
			return nil, fmt.Errorf("schedule of backups: %w", err)
		}
		k.times = append(k.times, t)
	}
	if n.TLS.Cert != "" {
		peers, err := pki.Open(n.TLS)
		if err != nil {
			return nil, err
		}
		k.peers = &http.Client{Transport: &http.Transport{DialTLSContext: peers.Dial(&net.Dialer{}), IdleConnTimeout: time.Minute, ResponseHeaderTimeout: 20 * time.Second}}
		k.server = peers.Server()
	}
	return k, nil
}

// voice logs what the commands tell. That a segment was there already is no
// news when archives are filled and copied.
func (k *Keeper) voice(level slog.Level, text string) {
	if level >= slog.LevelWarn {
		k.log.Warn("backup", "says", text)
	} else {
		k.log.Debug("backup", "says", text)
	}
}

// Run keeps the repositories until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	if err := k.configure(); err != nil {
		return err
	}
	parts := []lifecycle.Part{{Name: "turns", Run: k.turns, Grace: 2 * time.Second}, {Name: "stream", Run: k.stream, Grace: 2 * time.Second}, {Name: "drills", Run: k.makeDrills, Grace: 2 * time.Second}}
	for _, o := range k.also {
		in := " of " + o.stanza().String()
		parts = append(parts, lifecycle.Part{Name: "turns" + in, Run: o.turns, Grace: 2 * time.Second}, lifecycle.Part{Name: "stream" + in, Run: o.stream, Grace: 2 * time.Second})
	}
	if k.server != nil {
		parts = append(parts, lifecycle.Part{Name: "door", Run: k.serve, Grace: time.Second})
	}
	return lifecycle.Run(ctx, parts...)
}

// configure writes the file that archive_command names.
func (k *Keeper) configure() error {
	var secrets map[string]secret.Text
	mode := os.FileMode(0o640)
	if k.node.Backup.Secret() {
		mode = 0o600
		var err error
		if secrets, err = nodefile.Secrets(k.node); err != nil {
			return err
		}
	}
	path, text := k.node.Backup.Config, ConfigText(k.node, secrets)
	if old, err := os.ReadFile(path); err == nil && string(old) == text {
		return nil
	}
	return nodefile.WriteFile(path, []byte(text), mode, -1, -1)
}

func (k *Keeper) turns(ctx context.Context) error {
	tick := time.NewTicker(turn)
	defer tick.Stop()
	for {
		step := k.next(ctx)
		if step.Do != schedule.Rest {
			k.do(ctx, step)
			if ctx.Err() == nil {
				continue // there may be more
			}
		} else {
			k.rehearse(ctx)
		}
		select {
		case <-tick.C:
		case <-k.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// next looks, and decides.
func (k *Keeper) next(ctx context.Context) schedule.Step {
	v := schedule.View{Now: time.Now(), First: k.node.Backup.First, Times: k.times, Shared: k.node.Backup.Shared()}
	control, err := server.ReadControl(k.node.Postgres.Data)
	if err != nil {
		k.answer(repo.Backup{}, errNotLeader)
		return schedule.Step{Do: schedule.Rest} // there is no database yet
	}
	// A member leads from when its promotion begins, before its timeline does.
	timeline, err := archive.Timeline(k.node.Postgres.Data)
	if err != nil {
		k.log.Warn("log not looked at", logkey.Error, err)
	}
	k.mu.Lock()
	switch leads := k.leads(); {
	case !leads:
		if !k.state.since.IsZero() { // what it failed to do as the leader is another's now
			k.state.failed, k.state.last = nil, time.Time{}
		}
		k.state.since, k.state.filled, k.state.looked, k.state.gap, k.state.rehearsing = time.Time{}, 0, false, gap{}, rehearsing{}
	case k.state.since.IsZero():
		k.state.holds = false
		k.state.since, k.state.failed, k.state.last = v.Now, nil, time.Time{}
	}
	v.Leads, v.Filled, v.Failed = k.state.since, timeline != 0 && k.state.filled == timeline || v.Now.Before(k.state.again), k.state.last
	if k.asked != nil {
		v.Asked = k.asked.kind
	}
	seen := k.state.seen
	v.Looked = k.state.looked
	k.mu.Unlock()
	if v.Shared && v.Leads.IsZero() {
		k.listed = listed{} // what there is then is not this member's doing
	} else {
		v.Backups, v.Stanza = k.own(ctx, control.DB, v.Now)
	}
	pausing := v.Now.Before(v.Failed.Add(schedule.Pause))
	switch {
	case v.Leads.IsZero() && v.Shared:
	case v.Leads.IsZero():
		if pausing {
			return schedule.Step{Do: schedule.Rest}
		}
		offers := k.hear(ctx)
		for _, o := range offers {
			if o.Leads {
				v.Wanted = slices.Contains(k.node.Backup.Holders(o.Member), k.node.Member)
			}
		}
		k.mu.Lock()
		k.state.holds = v.Wanted
		k.mu.Unlock()
		v.Source = schedule.Source(false, nil, seen, offers)
	case v.Now.Before(v.Leads.Add(schedule.Settle)) || pausing:
	case !v.Looked && !v.Shared:
		v.Source, v.Looked = schedule.Source(true, v.Backups, nil, k.ask(ctx, k.others()...)), true
		k.mu.Lock()
		k.state.looked = v.Source == ""
		k.mu.Unlock()
	case len(v.Backups) > 0:
		newest := v.Backups[len(v.Backups)-1]
		v.Hole = k.hole(ctx, v.Now, newest)
		k.settle(ctx, v.Now, newest)
	}
	step := schedule.Next(v)
	if step.Do == schedule.Rest && v.Asked != "" {
		k.mu.Lock()
		err := errNotLeader
		if f := k.state.failed; f != nil && !v.Leads.IsZero() {
			err = errors.New(f.Does + ": " + f.Error)
		}
		k.mu.Unlock()
		k.answer(repo.Backup{}, err)
	}
	return step
}

var errNotLeader = errors.New("this member does not lead any more; ask again")

// own lists the backups of a database in the node's repository; ok is false if
// that does not know it.
func (k *Keeper) own(ctx context.Context, db repo.DB, now time.Time) (all []repo.Backup, ok bool) {
	if k.node.Backup.Shared() {
		if l := k.listed; now.Sub(l.at) < sharedTurn {
			return l.backups, l.ok
		}
		defer func() { k.listed = listed{now, all, ok} }()
	}
	info, err := k.stanza().BackupInfo(ctx)
	if err != nil || !info.DB.Same(db) {
		return nil, false
	}
	for _, b := range info.Backups {
		if b.DB == info.DB.ID {
			all = append(all, b)
		}
	}
	_, err = k.stanza().ArchiveInfo(ctx)
	return all, err == nil
}

func (k *Keeper) stanza() *stanza.Stanza { return k.desk.Stanzas[0] }

// others are the other members that have a repository.
func (k *Keeper) others() []spec.Holder {
	return slices.DeleteFunc(slices.Clone(k.node.Backup.Members), func(h spec.Holder) bool { return h.Member == k.node.Member })
}

// hear asks whoever led last, and all if that is nobody.
func (k *Keeper) hear(ctx context.Context) []schedule.Offer {
	for _, h := range k.others() {
		if h.Member == k.leader {
			if offers := k.ask(ctx, h); len(offers) == 1 && offers[0].Leads {
				return offers
			}
		}
	}
	offers := k.ask(ctx, k.others()...)
	k.leader = ""
	for _, o := range offers {
		if o.Leads {
			k.leader = o.Member
		}
	}
	return offers
}

// ask asks members what they have. Who does not answer has nothing.
func (k *Keeper) ask(ctx context.Context, members ...spec.Holder) []schedule.Offer {
	var offers []schedule.Offer
	for _, s := range k.states(ctx, members...) {
		o := schedule.Offer{Member: s.Member, Leads: s.Leads, Mark: s.Mark}
		for _, b := range s.Backups {
			o.Backups = append(o.Backups, repo.Backup{Label: b.Label, Type: b.Type, Start: b.Start.Unix(), Stop: b.Stop.Unix()})
		}
		offers = append(offers, o)
	}
	return offers
}

// states is what members say of their repositories, of those that answer.
func (k *Keeper) states(ctx context.Context, members ...spec.Holder) []State {
	if k.peers == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	states := make([]State, len(members))
	var wg sync.WaitGroup
	for i, h := range members {
		wg.Go(func() {
			if s, err := (Client{URL: h.URL, HTTP: k.peers}).State(ctx); err == nil {
				states[i] = s.of(k.node.Backup)
				if states[i].Member != "" {
					states[i].Member = h.Member
				}
			}
		})
	}
	wg.Wait()
	return slices.DeleteFunc(states, func(s State) bool { return s.Member == "" })
}

// do carries a step out. What fails is said, and tried again after a pause.
func (k *Keeper) do(ctx context.Context, step schedule.Step) {
	does := string(step.Do)
	switch step.Do {
	case schedule.Take:
		does = string(step.Type) + " backup"
	case schedule.Copy:
		does = "copy from " + step.From
	case schedule.Introduce:
		does = "preparing the repository"
	case schedule.Fill:
		does = "archiving what a former leader left"
	}
	began := time.Now()
	run := &Run{Does: does, Why: step.Why, Began: began.UTC()}
	k.mu.Lock()
	k.state.running = run
	k.mu.Unlock()
	if step.Do == schedule.Take || step.Do == schedule.Copy {
		select {
		case k.acts <- struct{}{}:
			defer func() { <-k.acts }()
		case <-ctx.Done():
			return
		}
	}
	progress := func(done, total int64) {
		k.mu.Lock()
		defer k.mu.Unlock()
		run.Done, run.Total = done, total
	}
	var err error
	switch step.Do {
	case schedule.Introduce:
		err = k.introduce(ctx)
	case schedule.Fill:
		names, of, failed := archive.Fill{Path: k.node.Postgres.Data, Coding: codingWAL, Voice: k.voice}.Into(ctx, k.stanza())
		if len(names) > 0 {
			k.log.Info("archived what a former leader left", "segments", names)
		}
		k.mu.Lock()
		if failed == nil {
			k.state.filled, k.state.again = of, time.Time{}
		} else {
			k.state.filled, k.state.again = 0, time.Now().Add(schedule.Pause)
		}
		k.mu.Unlock()
		if failed != nil { // no reason to make no backups
			k.log.Warn("not archived what a former leader left", logkey.Error, failed, "again_in", schedule.Pause)
		}
	case schedule.Copy:
		err = k.copy(ctx, step.From, progress)
		k.mu.Lock()
		k.state.looked = true // a leader goes on with what it has then
		k.mu.Unlock()
	case schedule.Take:
		var done repo.Backup
		done, err = k.take(ctx, step.Type, progress, func(what string) {
			k.mu.Lock()
			defer k.mu.Unlock()
			run.Waits = what
		})
		k.forget()
		if ctx.Err() == nil {
			k.answer(done, err)
		}
		if err == nil {
			k.log.Info("backup made", "label", done.Label, "why", step.Why, logkey.Took, time.Since(began), "bytes", done.Delta, "stored", done.RepoDelta)
		}
		// A backup needs more memory than all that comes until the next. What
		// pools hold goes with the second collection.
		runtime.GC()
		debug.FreeOSMemory()
	}
	k.forget()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state.running = nil
	switch {
	case err == nil:
		k.state.failed, k.state.last = nil, time.Time{}
	case ctx.Err() == nil:
		if k.state.failed == nil || k.state.failed.Error != err.Error() {
			k.log.Warn("backup step failed", "step", does, logkey.Error, err, "again_in", schedule.Pause)
		}
		k.state.failed, k.state.last = &Failure{Does: does, At: time.Now().UTC(), Error: err.Error()}, time.Now()
	}
}

// forget has a shared repository looked at again.
func (k *Keeper) forget() {
	k.listed = listed{}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state.glance.at = time.Time{}
	k.state.changed++
}

// answer tells whoever asked.
func (k *Keeper) answer(b repo.Backup, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if q := k.asked; q != nil {
		k.asked = nil
		q.done, q.err = b, err
		close(q.ended)
	}
}

// introduce makes the stanza, or tells it that the database is another one now:
// what there is of the former stays.
func (k *Keeper) introduce(ctx context.Context) error {
	info, err := k.stanza().BackupInfo(ctx)
	if control, unread := server.ReadControl(k.node.Postgres.Data); err == nil && unread == nil && info.DB.Same(control.DB) {
		// It is known there, so that it is the archive's list that cannot be read, and
		// is said, or mended.
		return patient(ctx, func() error { return k.desk.Create(ctx, false) })
	}
	if err == nil && k.node.Backup.Shared() {
		// Whose it is nobody here knows: a cluster of that name elsewhere, or the one
		// that this took the place of.
		return fmt.Errorf("%s has backups of another database under the name %s (system identifier %s, PostgreSQL %s), and they are left as they are: "+
			"give this cluster another name, path or bucket; or, if it takes that one's place, run `howdah pgbackrest --config=%s --stanza=%s stanza-upgrade`",
			k.node.Backup.Bucket, k.desk.Stanza, info.DB.System, info.DB.Version, k.node.Backup.Config, k.desk.Stanza)
	}
	if err == nil {
		k.log.Warn("the repository's database is another one now", "repository", k.node.Backup.Repo)
		return patient(ctx, func() error { return k.desk.Upgrade(ctx, false) })
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return patient(ctx, func() error { return k.desk.Create(ctx, false) })
}

// patient does what needs the archive's lock: who pushes before there is a stanza
// takes it for a moment, and comes to nothing.
func patient(ctx context.Context, do func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(10 * time.Second); ; {
		err := do()
		if repo.ClassOf(err) != repo.LockAcquire || time.Now().After(limit) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

func (k *Keeper) take(ctx context.Context, kind repo.Type, progress func(done, total int64), waits func(what string)) (repo.Backup, error) {
	keep := policy(k.node)
	b := take.Backup{
		Type: kind, Coding: codingBackup, Workers: workers(), Rate: k.node.Backup.Rate, Fast: true,
		Annotation: map[string]string{take.Maker: k.node.Member},
		Bundle:     true, BundleSize: cmp.Or(k.node.Backup.BundleSize, bundleSize), BundleLimit: cmp.Or(k.node.Backup.BundleLimit, bundleLimit),
		ArchiveCheck: true, ArchiveCommand: true, Wait: archiveWait, Progress: progress,
		PreferStandby: true, Resume: true, SaveEvery: 1 << 30, Lag: k.node.Backup.MostLag(), Waits: waits,
	}
	from := k.lender(ctx)
	if from != nil {
		defer from.Close()
		b.Standby = from
	}
	done, err := k.desk.Backup(ctx, b, &keep)
	if err == nil && done.Standby {
		k.log.Info("the backup was copied from the disk of a standby", logkey.Member, from.member, "label", done.Label)
	}
	return done, err
}

// copy brings here what another member has.
func (k *Keeper) copy(ctx context.Context, from string, progress func(done, total int64)) error {
	i := slices.IndexFunc(k.node.Backup.Members, func(h spec.Holder) bool { return h.Member == from })
	client := Client{URL: k.node.Backup.Members[i].URL, HTTP: k.peers}
	s, err := client.State(ctx)
	if err != nil {
		return err
	}
	if s = s.of(k.node.Backup); s.Member == "" {
		return fmt.Errorf("%s has no repository of that kind", from)
	}
	locks, err := stanza.Lock(k.desk.Locks, k.desk.Stanza, []int{k.stanza().Repo}, stanza.LockBackup)
	if err != nil {
		return err
	}
	k.mu.Lock()
	if k.state.seen == nil {
		k.state.seen, k.state.dirs = map[string]string{}, map[string]string{}
	}
	seen, dirs := k.state.seen, k.state.dirs
	k.mu.Unlock()
	if _, same := seen[from]; !same { // another member's directories are others
		clear(seen)
		clear(dirs)
	}
	c := copier{
		from:     &stanza.Stanza{Storage: client.Storage(), Name: k.desk.Stanza, Repo: 1},
		to:       k.stanza(),
		progress: progress, seen: dirs,
	}
	err = c.run(ctx)
	locks.Release()
	if err != nil {
		clear(dirs)
		return err
	}
	keep := map[int]retain.Policy{k.stanza().Repo: policy(k.node)}
	if err := k.desk.Expire(ctx, keep, "", false); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	seen[from] = s.Mark
	return nil
}

// State is what the keepers say of the repositories, of the first in words of its own.
func (k *Keeper) State(ctx context.Context) State {
	also := make([]State, len(k.also))
	var all sync.WaitGroup
	for i, o := range k.also {
		all.Go(func() { also[i] = o.alone(ctx) })
	}
	s := k.alone(ctx)
	all.Wait()
	s.Also = also
	return s
}

// alone is what a keeper says of its own repository.
func (k *Keeper) alone(ctx context.Context) State {
	leads := k.leads()
	s := k.look(ctx, leads)
	s.Drill, _ = LastDrill(k.node) // what was looked at may be of before it
	s.Leads, s.Free = leads, free(k.node)
	k.mu.Lock()
	s.Drilling = k.drilling
	if leads {
		s.DrillDue = k.state.rehearsing.due
	}
	if r := k.state.running; r != nil {
		run := *r
		s.Running = &run
	}
	s.Failed, s.Hole = k.state.failed, k.state.gap.missing
	if k.state.streamed.Timeline != 0 {
		s.Streamed = k.state.streamed
	}
	k.mu.Unlock()
	if s.Leads {
		newest := repo.Backup{} // unknown while the repository cannot be read, which is when log is given up
		if n := len(s.Backups); n > 0 {
			newest.ArchiveStart = s.Backups[n-1].Segments[0]
		}
		s.Lost = k.givenUp(newest)
		s.Archive, s.Archived = k.pending(), k.archived(s.Newest)
		if next := schedule.Soonest(schedule.View{Now: time.Now(), Times: k.times}); !next.IsZero() {
			s.Next = next.Format(time.RFC3339)
		}
	}
	return s
}

// look is what there is in the repository. Of one that all share the leader says
// it, and not at every question.
func (k *Keeper) look(ctx context.Context, leads bool) State {
	if !k.node.Backup.Shared() {
		return look(ctx, k.node)
	}
	if !leads {
		return unseen(k.node)
	}
	k.mu.Lock()
	last, changed := k.state.glance, k.state.changed
	k.mu.Unlock()
	now := time.Now()
	if now.Sub(last.at) < sharedTurn/3 {
		return last.state
	}
	s := lookAt(ctx, k.node, k.stanza())
	k.mu.Lock()
	defer k.mu.Unlock()
	if s.Unwell == "" && changed == k.state.changed {
		k.state.glance.at, k.state.glance.state = now, s
	}
	return s
}

// unseen says of a node's repository where it is.
func unseen(n spec.Node) State {
	s := State{Member: n.Member, Repository: n.Backup.Name, Backups: []Backup{}, Path: n.Backup.Repo}
	s.Drill, _ = LastDrill(n) // one that can not be read is none
	if n.Backup.Shared() {
		s.Bucket = n.Backup.Bucket.String()
	}
	return s
}

// archived is up to where WAL of the server's timeline is archived, if its
// newest segment is of that.
func (k *Keeper) archived(newest string) string {
	c, err := server.ReadControl(k.node.Postgres.Data)
	if err != nil {
		return ""
	}
	timeline, begins, err := pg.ParseSegment(newest, uint64(c.Segment))
	if err != nil || timeline != c.Timeline {
		return ""
	}
	return (begins + pg.LSN(c.Segment)).String()
}

// Look is what there is in a node's repositories, whether its jobs run or not.
func Look(ctx context.Context, n spec.Node) State {
	var all []State
	for _, one := range n.Repositories() {
		all = append(all, look(ctx, one))
	}
	all[0].Also = all[1:]
	return all[0]
}

func look(ctx context.Context, n spec.Node) State {
	at, err := Open(n)
	if err != nil {
		s := unseen(n)
		s.Unwell = err.Error()
		return s
	}
	return lookAt(ctx, n, at)
}

func lookAt(ctx context.Context, n spec.Node, at *stanza.Stanza) State {
	s := unseen(n)
	view, err := backup.Look(ctx, at)
	switch {
	case err != nil:
		s.Unwell = err.Error()
		return s
	case view.Missing != nil:
		s.Unwell, s.Empty = "it is empty", true
		if !errors.Is(view.Missing, fs.ErrNotExist) {
			s.Unwell, s.Empty = view.Missing.Error(), false
		}
		return s
	}
	s.System = view.Info.DB.System.String()
	for _, b := range view.Info.Backups {
		s.Backups = append(s.Backups, backupOf(b))
	}
	for _, a := range view.Archives {
		if a.DB.ID == view.Info.DB.ID {
			s.Oldest, s.Newest = a.Min, a.Max
		}
	}
	if holes, err := archive.Holes(ctx, at, view.Info.DB.ArchiveID()); err == nil { // what can not be read of them is verify's to say
		s.Holes = reachable(holes, view.Info.Backups)
	}
	s.Mark = mark(ctx, at, view.Info)
	s.Streamed = tailOf(ctx, at, view.Info)
	return s
}

// tailOf is the end of the newest tail in a repository that nobody streams into.
func tailOf(ctx context.Context, at *stanza.Stanza, info repo.BackupInfo) (s Streamed) {
	tails, err := archive.Tails(ctx, at, info.DB.ArchiveID(), "")
	if err != nil || len(tails) == 0 {
		return s
	}
	last := tails[slices.Max(slices.Collect(maps.Keys(tails)))]
	size := int64(16 << 20)
	if i := len(info.Backups); i > 0 {
		size = restore.SegmentSize(info.Backups[i-1].LSNStart, info.Backups[i-1].ArchiveStart)
	}
	timeline, begins, err := pg.ParseSegment(last.Segment, uint64(size))
	if err != nil {
		return s
	}
	return Streamed{Timeline: timeline, LSN: (begins + pg.LSN(last.End)).String(), Segment: last.Segment}
}

// mark is another text when the repository has changed: its lists, or a
// directory of WAL.
func mark(ctx context.Context, at *stanza.Stanza, info repo.BackupInfo) string {
	var last time.Time
	for _, d := range info.History {
		list, err := at.List(ctx, repo.ArchivePath(at.Name, d.ArchiveID()))
		if err != nil {
			return "" // differs from what was seen
		}
		for _, e := range list {
			if e.Modified.After(last) {
				last = e.Modified
			}
		}
	}
	label := ""
	if n := len(info.Backups); n > 0 {
		label = info.Backups[n-1].Label
	}
	return fmt.Sprintf("%d %s %d", len(info.Backups), label, last.UnixNano())
}

// pending is what waits to be archived, in this repository.
func (k *Keeper) pending() Archive {
	list, err := os.ReadDir(filepath.Join(k.node.Postgres.Data, "pg_wal", "archive_status"))
	if err != nil {
		return Archive{}
	}
	var a Archive
	for _, e := range list {
		name, ready := strings.CutSuffix(e.Name(), ".ready")
		if !ready || len(k.all) > 1 && k.spool().Has(k.stanza(), filepath.Join(k.node.Postgres.Data, "pg_wal", name)) {
			continue
		}
		a.Pending++
		if st, err := e.Info(); err == nil && (a.Since.IsZero() || st.ModTime().Before(a.Since)) {
			a.Since = st.ModTime().UTC()
		}
	}
	if a.Pending > 0 {
		size := int64(16 << 20)
		if c, err := server.ReadControl(k.node.Postgres.Data); err == nil {
			size = cmp.Or(c.Segment, size)
		}
		a.Bytes = int64(a.Pending) * size
	}
	return a
}

// await waits until the turns have brought something about.
func (k *Keeper) await(ctx context.Context, so func(*state) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		k.mu.Lock()
		is := so(&k.state)
		k.mu.Unlock()
		if is {
			return nil
		}
		k.nudge()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.New("the archive is not complete yet; jobs.log of this member says why")
		}
	}
}

// nudge makes the next turn come now.
func (k *Keeper) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// flush has everything that is committed archived: a restore can then reach any
// moment until now. The small transaction gives recovery a commit after it. Of
// several repositories one must have it, and the others are waited for a little.
func (k *Keeper) flush(ctx context.Context) (Flushed, error) {
	conn, err := k.desk.Server.Connect(ctx)
	if err != nil {
		return Flushed{}, err
	}
	defer conn.Close()
	if conn.Standby {
		return Flushed{}, errNotLeader
	}
	if err := conn.CanArchive(true); err != nil {
		return Flushed{}, err
	}
	of, err := conn.Timeline(ctx)
	if err != nil {
		return Flushed{}, err
	}
	f := Flushed{At: time.Now().UTC()}
	if f.LSN, f.Segment, err = conn.Flush(ctx); err != nil {
		return Flushed{}, err
	}
	wait, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(k.all))
	for _, one := range k.all {
		go func() { ended <- one.flushed(wait, of, f.Segment) }()
	}
	var errs []error
	there := false
	for range k.all {
		err := <-ended // all come to an end, the latest by wait
		if errs = append(errs, err); err == nil && !there {
			there = true
			defer time.AfterFunc(flushOthers, cancel).Stop()
		}
	}
	if there {
		return f, nil
	}
	return f, errors.Join(errs...)
}

// flushOthers is how long the other repositories are waited for when one has it.
const flushOthers = 3 * time.Second

// flushed waits until a segment of a timeline is in this repository. What a former
// leader left is archived first; what was found before this server's timeline began
// is no answer.
func (k *Keeper) flushed(ctx context.Context, of pg.Timeline, segment string) error {
	if err := k.await(ctx, func(s *state) bool { return s.filled >= of }); err != nil {
		return err
	}
	info, err := k.stanza().ArchiveInfo(ctx)
	if err != nil {
		return err
	}
	return archive.Wait(ctx, k.stanza(), info.DB.ArchiveID(), []string{segment}, 30*time.Second)
}
