package control

import (
	"context"
	"fmt"
	"slices"
	"time"

	"howdah/problem"
)

// An Order is a change that somebody may want of a cluster, in words that fit through
// any door.
type Order struct {
	Verb   string `json:"verb"`             // one of Verbs
	Member string `json:"member,omitempty"` // whom it is about; of a switchover who is to lead, "": whoever is ahead
	To     string `json:"to,omitempty"`     // of a peek: the moment

	Matchers []string `json:"matchers,omitempty"` // of a silence: what alerts' labels have to be
	For      string   `json:"for,omitempty"`      // and for how long: 2h
	Comment  string   `json:"comment,omitempty"`  // and why
	Silence  string   `json:"silence,omitempty"`  // which one ends
}

// Verbs of orders.
const (
	VerbSwitchover = "switchover"
	VerbRestart    = "restart"
	VerbReinit     = "reinit"
	VerbPause      = "pause"
	VerbResume     = "resume"
	VerbPeek       = "peek"
	VerbEndPeek    = "end-peek"
	VerbSilence    = "silence"
	VerbUnsilence  = "unsilence"
)

// A Planned order was checked, and not done yet.
type Planned struct {
	Text  string                                // what it would do
	Costs string                                // what clients and data go through
	Risky bool                                  // it gives up data: a person types the member's name
	Peek  *Peek                                 // of a peek: what would be used
	Do    func(context.Context) (string, error) // and what came of it
}

// reinitWithin is the time allowed to a fresh copy: it takes as long as the data are large.
const reinitWithin = 12 * time.Hour

// pauseWithin is the time that members have to see a pause.
const pauseWithin = 15 * time.Second

// PlanOrder checks an order, which changes nothing.
func (c *Cluster) PlanOrder(ctx context.Context, o Order) (p Planned, err error) {
	switch o.Verb {
	case VerbSwitchover:
		change, err := c.PlanSwitchover(ctx, o.Member, time.Time{})
		if err != nil {
			return p, err
		}
		p.Text, p.Costs = change.String(), "writes wait for about a second; nothing that was acknowledged is lost"
		p.Do = func(ctx context.Context) (string, error) {
			done, err := change.Do(ctx)
			return fmt.Sprintf("%s leads on timeline %s after %s", done.To, done.Timeline, done.Took.Round(time.Millisecond)), err
		}
	case VerbRestart:
		if o.Member == "" {
			return p, unclear(o)
		}
		s, err := c.State(ctx)
		if err != nil {
			return p, err
		}
		if _, err := c.PlanRestart(ctx, o.Member); err != nil {
			return p, err
		}
		p.Text, p.Costs = "restart PostgreSQL of "+o.Member, "its sessions end; who reads there has to connect again"
		if s.LeaderName() == o.Member {
			p.Costs = "it leads: writes wait until it runs again, and its sessions end"
		}
		p.Do = func(ctx context.Context) (string, error) {
			took, err := c.Restart(ctx, o.Member)
			return fmt.Sprintf("%s restarted in %s", o.Member, took.Round(time.Millisecond)), err
		}
	case VerbReinit:
		if o.Member == "" {
			return p, unclear(o)
		}
		if err := c.PlanReinit(ctx, o.Member); err != nil {
			return p, err
		}
		p.Text, p.Costs, p.Risky = "give up the data of "+o.Member+" and copy them anew from the leader", "it serves nobody until it has been copied; its data are moved aside", true
		p.Do = func(ctx context.Context) (string, error) {
			ctx, cancel := context.WithTimeout(ctx, reinitWithin)
			defer cancel()
			if err := c.Reinit(ctx, o.Member, false); err != nil {
				return "", err
			}
			if err := c.AwaitReinit(ctx, o.Member); err != nil {
				return "", &problem.Error{
					Code: "change-unknown", What: o.Member + " was asked to begin anew, and is not seen to stream", Why: err.Error(),
					Do: "see `howdah status " + c.Name + "` and its log", Err: err,
				}
			}
			return o.Member + " streams again", nil
		}
	case VerbPause, VerbResume:
		on := o.Verb == VerbPause
		p.Text, p.Costs = o.Verb+" cluster "+c.Name, "failover is on again"
		if on {
			p.Costs = "nothing is promoted, stopped or started by itself until somebody resumes"
		}
		p.Do = func(ctx context.Context) (string, error) {
			if _, err := c.pause(ctx, on); err != nil {
				return "", err
			}
			return "cluster " + c.Name + " is " + o.Verb + "d", c.AwaitPause(ctx, on, pauseWithin)
		}
	case VerbPeek:
		return c.planPeek(ctx, o)
	case VerbEndPeek:
		return c.planEndPeek(ctx, o)
	case VerbSilence:
		return c.planSilence(ctx, o)
	case VerbUnsilence:
		return c.planUnsilence(ctx, o)
	default:
		return p, unclear(o)
	}
	return p, nil
}

func unclear(o Order) error {
	verbs := []string{VerbSwitchover, VerbRestart, VerbReinit, VerbPause, VerbResume, VerbPeek, VerbEndPeek, VerbSilence, VerbUnsilence}
	if slices.Contains(verbs, o.Verb) {
		return &problem.Error{Code: "member-unknown", What: "cannot " + o.Verb, Why: "no member is named", Do: "name one"}
	}
	return &problem.Error{Code: "order-unknown", What: fmt.Sprintf("cannot do %q", o.Verb), Why: "nobody knows what that is", Do: fmt.Sprint("ask for one of ", verbs)}
}

// As is the cluster for somebody who came by a door of ours: what is asked of members
// carries that name.
func (c *Cluster) As(who string) *Cluster {
	as := *c
	as.by = who
	return &as
}

// person says who asks, for the record.
func (c *Cluster) person() string {
	if c.by != "" {
		return c.by
	}
	return person()
}
