package agent

import (
	"context"
	"errors"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/ha"
	"howdah/ha/quorum"
	"howdah/pg"
	"howdah/postgres"
	"howdah/problem"
)

// A Server is the PostgreSQL server of this node, as the agent works on it.
// postgres.Server is the real one; the simulator has a model of it; both keep
// the contract in postgres/postgrestest.
type Server interface {
	Look(ctx context.Context) pg.Status
	// Init makes the cluster's database system: an empty one, or out of the repository that
	// the inventory names.
	Init(ctx context.Context, progress func(done, total int64)) error
	Clone(ctx context.Context, from pg.Upstream, progress func(done, total int64)) error
	// Restore brings a backup of the system back from a repository, to go on from as a
	// standby, and says which.
	Restore(ctx context.Context, system pg.SystemID, progress func(done, total int64)) (from string, err error)
	Rewind(ctx context.Context, from pg.Upstream) error
	Recover(ctx context.Context) error
	Start(ctx context.Context, up *pg.Upstream) error
	Promote(ctx context.Context, tl pg.Timeline) error
	// Refuse takes nothing more from the leader of epoch or before, and says where
	// the log ends then.
	Refuse(ctx context.Context, epoch int64) (quorum.Fence, error)
	// Whole says that copied data have caught up.
	Whole(ctx context.Context) error
	// Shut has the server, which does not run, let nobody in once it is started as
	// a primary, until Admit.
	Shut(ctx context.Context) error
	Admit(ctx context.Context) error
	Follow(ctx context.Context, up pg.Upstream) error
	Stop(ctx context.Context, mode postgres.Mode) error
	Kill(ctx context.Context) error
	Slots(ctx context.Context, want, spare []string) error
	// Logical drops the logical slots that are named and, on a primary, makes those of want.
	Logical(ctx context.Context, want []pg.Slot, drop []string) error
	// Advance moves slots of a standby; stuck is a logical one that can not be moved.
	Advance(ctx context.Context, slots []pg.Slot) (stuck string, err error)
	// Adopt copies logical slots from a primary, and leaves this standby stopped.
	Adopt(ctx context.Context, from pg.Upstream, names []string) error
	Checkpoint(ctx context.Context) error
	// Fill brings the log near the end of its segment, if a stop would fill it. It is a
	// courtesy: that it could not is said in the log.
	Fill(ctx context.Context)
	// Adjust gives the server parameters beyond the node's own. What PostgreSQL
	// would not start with is left out, and the error says so.
	Adjust(ctx context.Context, parameters map[string]string) error
	// Synchronize sets synchronous_standby_names, with a note beside it.
	Synchronize(ctx context.Context, names, note string) error
	End(ctx context.Context) (pg.LSN, error)
	// Identify asks a server of another cluster who it is, and how far it has the log of tl.
	Identify(ctx context.Context, up pg.Upstream, tl pg.Timeline) (pg.Elsewhere, error)
	Keep(ctx context.Context, from pg.LSN, tl pg.Timeline) (path string, err error)
	MoveAside(ctx context.Context) (path string, err error)
	// Install puts the data directory made in place of the one there is, which is
	// moved to aside; done again it finds that it is done.
	Install(ctx context.Context, made, aside string) error
	Freeze(ctx context.Context) error
	Thaw(ctx context.Context) error
}

// Perform carries out an action on the server and returns its outcome.
func Perform(ctx context.Context, s Server, action ha.Action, progress func(done, total int64)) ha.Ended {
	e := ha.Ended{Action: action}
	var err error
	switch a := action.(type) {
	case ha.Initdb:
		err = s.Init(ctx, progress)
	case ha.Clone:
		if a.Repository {
			e.Path, err = s.Restore(ctx, a.System, progress)
		} else {
			err = s.Clone(ctx, a.From, progress)
		}
	case ha.Rewind:
		err = s.Rewind(ctx, a.From)
	case ha.Recover:
		err = s.Recover(ctx)
	case ha.Start:
		var up *pg.Upstream
		if a.Standby {
			up = &a.Up
		}
		err = s.Start(ctx, up)
	case ha.Promote:
		err = s.Promote(ctx, a.Timeline)
	case ha.Fence:
		e.Fence, err = s.Refuse(ctx, a.Epoch)
	case ha.Whole:
		err = s.Whole(ctx)
	case ha.Shut:
		err = s.Shut(ctx)
	case ha.Admit:
		err = s.Admit(ctx)
	case ha.Follow:
		err = s.Follow(ctx, a.Up)
	case ha.Stop:
		err = s.Stop(ctx, postgres.Fast)
	case ha.Kill:
		err = s.Kill(ctx)
	case ha.Slots:
		err = s.Slots(ctx, names(a.Names), names(a.Spare))
	case ha.Logical:
		var want []pg.Slot
		if want, err = a.Want.Slots(); err == nil {
			err = s.Logical(ctx, want, names(a.Drop))
		}
	case ha.Advance:
		var all []pg.Slot
		if all, err = a.Slots.Slots(); err == nil {
			e.Slot, err = s.Advance(ctx, all)
		}
	case ha.Adopt:
		err = s.Adopt(ctx, a.From, names(a.Names))
	case ha.Checkpoint:
		if a.Stop {
			s.Fill(ctx)
		}
		err = s.Checkpoint(ctx)
	case ha.Configure:
		var parameters map[string]string
		if parameters, err = cluster.ParseParameters(a.Parameters); err == nil {
			err = s.Adjust(ctx, parameters)
		}
		if problem.Code(err) == postgres.Refused {
			e.Problem, err = problem.Plain(err), nil // the others count
		}
	case ha.Synchronize:
		err = s.Synchronize(ctx, a.Names, a.Memory)
	case ha.Measure:
		e.LSN, err = s.End(ctx)
	case ha.Identify:
		e.Other, err = s.Identify(ctx, a.Up, a.Timeline)
	case ha.Keep:
		e.Path, err = s.Keep(ctx, a.From, a.Timeline)
	case ha.MoveAside:
		e.Path, err = s.MoveAside(ctx)
	case ha.Install:
		err = s.Install(ctx, a.Made, a.Aside)
	case ha.Freeze:
		err = s.Freeze(ctx)
	case ha.Thaw:
		err = s.Thaw(ctx)
	default:
		err = errors.New("no work is called " + action.String())
	}
	if err != nil {
		e.Err, e.Code, e.Problem = err.Error(), problem.Code(err), problem.Plain(err)
	}
	return e
}

// names are those of a list with commas.
func names(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// Allowed is how long an action may take before it is given up.
func Allowed(action ha.Action) time.Duration {
	switch action.(type) {
	case ha.Initdb, ha.Clone, ha.Rewind, ha.Recover, ha.Start, ha.Keep:
		return 24 * time.Hour // as long as the data is large; Decide gives up a start
	case ha.Checkpoint:
		return time.Minute
	case ha.Fence, ha.Identify:
		return 5 * time.Second
	case ha.Promote, ha.Stop, ha.Adopt:
		return 30 * time.Second
	}
	return 10 * time.Second
}

func isLease(err error) bool { return errors.Is(err, dcs.ErrLease) }
