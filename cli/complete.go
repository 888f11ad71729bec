package cli

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"howdah/control"
)

// completeCluster offers the clusters of the state directory.
func (a *app) completeCluster(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	h, err := a.house()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return h.Clusters(), cobra.ShellCompDirectiveNoFileComp
}

// completeMembers offers members, and clusters as the first word.
func (a *app) completeMembers(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	h, err := a.house()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []string
	name := ""
	if len(args) > 0 && slices.Contains(h.Clusters(), args[0]) {
		name = args[0]
	}
	if len(args) == 0 {
		words = h.Clusters()
	}
	for _, m := range members(cmd.Context(), h, name) {
		if !slices.Contains(args, m) {
			words = append(words, m)
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// completeTo offers the members of the cluster named on the line.
func (a *app) completeTo(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	h, err := a.house()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	return members(cmd.Context(), h, name), cobra.ShellCompDirectiveNoFileComp
}

// members asks the store for the names, and where it does not answer at once
// names the nodes of this machine.
func members(ctx context.Context, h control.House, name string) []string {
	c, err := h.Open(name)
	if err != nil {
		return nil
	}
	defer c.Close()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	if s, err := c.State(ctx); err == nil {
		return s.Names()
	}
	var names []string
	for _, n := range c.Nodes {
		names = append(names, n.Member)
	}
	return names
}
