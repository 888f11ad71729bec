package node

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"howdah/ha"
	"howdah/logkey"
	"howdah/node/process"
	"howdah/nodefile"
	"howdah/problem"
	"howdah/spec"
)

// A pulse is the guard's share of an agent that hangs: ha.Pulse says when it is ended,
// and its keeper starts another once it is gone, which takes up its lease.
type pulse struct {
	node  spec.Node
	still time.Duration
	keeps func() bool // the agent is to run, and to be started again when it ends

	ha.Pulse
	spared process.ID // who was said to be left alone
	told   int        // of how many ends the agent is told
}

func newPulse(n spec.Node, keeps func() bool) *pulse {
	return &pulse{node: n, still: n.Agent.Timers.Still(), keeps: keeps}
}

// listen ends an agent whose loop stands still. It returns when the guard must look
// again at the latest.
func (g *Guard) listen(now time.Duration, beat uint64, again time.Duration) time.Duration {
	p := g.Pulse
	if p == nil {
		return again
	}
	p.Listen(now, beat)
	if p.told > 0 && p.Ends == 0 {
		g.hangs("")
	}
	if due := p.Due(p.still); now < due {
		return min(again, due)
	}
	id, ok := p.agent()
	if !ok || !p.keeps() {
		return again
	}
	still, how := now-p.Since, holding(id)
	if !p.End(now, born(id), p.still, how != "") {
		if how != "" && p.spared != id {
			p.spared = id
			g.Log.Warn("agent stands still and is left alone", logkey.PID, id.PID, "still", still, "why", how)
		}
		return again
	}
	g.Log.Error("agent hangs, another is started in its place", logkey.PID, id.PID, "still", still, "ended", p.Ends)
	if err := id.Signal(unix.SIGKILL); err != nil && !errors.Is(err, process.ErrGone) {
		g.Log.Error("it could not be ended", logkey.PID, id.PID, logkey.Error, err)
	}
	if p.Ends >= ha.EndsTold {
		g.hangs("its loop stood still " + strconv.Itoa(p.Ends) + " times, this time for " + still.Round(time.Millisecond).String() +
			", and it was ended each time; the next one has " + (p.Due(p.still) - p.Since).String())
	}
	return again
}

// hangs tells the next agent why it is one, for a person; "" is over.
func (g *Guard) hangs(why string) {
	p := g.Pulse
	p.told = p.Ends
	h := nodefile.Hangs{}
	if why != "" {
		h.Problem = problem.Error{
			Code: "agent-hangs", What: "the agent of " + p.node.Member + " hangs again and again", Why: why,
			Do: "look for what holds it up: the disk that its log is on, memory that is paged out, a machine that is too busy (`howdah doctor`)",
		}
	}
	if err := nodefile.WriteHangs(p.node, h); err != nil {
		g.Log.Warn("the agent was not told that it hung", logkey.Error, err)
	}
}

// agent is the process that is the node's agent by its file and its arguments.
func (p *pulse) agent() (process.ID, bool) {
	id, ok := RoleFile(p.node, "agent").Read()
	if !ok {
		return process.ID{}, false
	}
	args := id.Args()
	return id, len(args) == 4 && args[1] == "agent" && args[3] == p.node.Paths.Dir
}

// born is when a process began, on the boot clock: its start time counts in ticks of it.
func born(id process.ID) time.Duration {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every platform that Go has
	return time.Duration(id.Start) * tick
}

// holding says what keeps a process from going on that ending it would not mend, or not
// be meant to; "": nothing of the kind.
func holding(id process.ID) string {
	status, err := os.ReadFile("/proc/" + id.String() + "/status")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(status)) {
		if by, ok := strings.CutPrefix(line, "TracerPid:"); ok && strings.TrimSpace(by) != "0" {
			return "process " + strings.TrimSpace(by) + " debugs it"
		}
	}
	tasks, _ := os.ReadDir("/proc/" + id.String() + "/task")
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		if s, ok := process.Look(tid); ok && s.State == 'D' {
			return "it waits for a disk"
		}
	}
	return ""
}
