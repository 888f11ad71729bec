package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"howdah/control"
)

// A climb shows how a cluster comes up: a line for each change of a member, and
// for copies of the data that are under way a bar at the foot of a terminal,
// elsewhere a line every ten percent.
type climb struct {
	out   io.Writer
	draw  bool // out is a terminal
	began time.Time
	shown map[string]control.Step
	said  map[string]string // why something failed
	bars  bool              // are at the foot now
}

// climbing begins to show progress on out; with --json there is nothing to see.
func (a *app) climbing(out io.Writer, began time.Time) *climb {
	if a.json {
		out = io.Discard
	}
	return &climb{out: out, draw: a.Terminal, began: began, shown: map[string]control.Step{}, said: map[string]string{}}
}

func (c *climb) step(s control.Step) {
	before := c.shown[s.Member]
	c.shown[s.Member] = s
	c.wipe()
	const every = 10 // percent
	switch {
	case s.Failed != "" && s.Failed != c.said[s.Member]:
		c.said[s.Member] = s.Failed
		c.line(s)
	case s.State != before.State:
		s.Failed = ""
		c.line(s)
	case !c.draw && s.Copied >= 0 && (before.Copied < 0 || s.Copied/every > before.Copied/every):
		c.line(s)
	}
	c.foot()
}

// end takes the bars away.
func (c *climb) end() { c.wipe() }

func (c *climb) line(s control.Step) {
	copied := ""
	if s.Copied >= 0 && !c.draw {
		copied = fmt.Sprintf(", %d %%", s.Copied)
	}
	fmt.Fprintf(c.out, "%6.1f s  %s: %s%s\n", time.Since(c.began).Seconds(), s.Member, s.State, copied)
	if s.Failed != "" {
		fmt.Fprintf(c.out, "          %s\n", s.Failed)
	}
}

// wipe clears the line that the cursor stands on (ECMA-48, EL).
func (c *climb) wipe() {
	if c.bars {
		fmt.Fprint(c.out, "\r\x1b[K")
		c.bars = false
	}
}

// foot draws a bar for each copy, side by side.
func (c *climb) foot() {
	if !c.draw {
		return
	}
	const width = 20
	var bars []string
	for _, name := range slices.Sorted(maps.Keys(c.shown)) {
		if n := c.shown[name].Copied; n >= 0 {
			full := min(n, 100) * width / 100
			bars = append(bars, fmt.Sprintf("%s [%s%s] %d %%", name, strings.Repeat("#", full), strings.Repeat("-", width-full), n))
		}
	}
	if len(bars) > 0 {
		fmt.Fprintf(c.out, "          %s", strings.Join(bars, "  "))
		c.bars = true
	}
}
