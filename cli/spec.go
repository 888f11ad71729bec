package cli

import (
	"slices"

	"howdah/spec"
)

// findings prints what there is to say about an inventory to stderr.
func (a *app) findings(w spec.World, kinds ...string) {
	if a.json {
		return
	}
	for _, f := range w.Findings {
		if slices.Contains(kinds, f.Kind) {
			text := f.Text
			if f.Do != "" {
				text += "; " + f.Do
			}
			a.warnf("%s: %s: %s\n", w.Place(f.Line), f.Kind, text)
		}
	}
}
