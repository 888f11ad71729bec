package cli

import (
	"time"

	"github.com/spf13/cobra"

	"howdah/control"
	"howdah/spec"
)

func (a *app) certs() *cobra.Command {
	cmd := &cobra.Command{
		Use: "certs", Short: "The certificates by which machines know each other",
		Long: `Certs shows the authority and the certificates of the nodes of this machine, with
the day on which each ends. A supervisor that was given an inventory renews those of
its nodes a month before they end.`,
		Example: "  howdah certs\n  howdah certs renew\n  howdah certs rotate pigsty.yml",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownWord(cmd, "verb", args[0])
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error {
			h, err := a.house()
			if err != nil {
				return err
			}
			c, err := h.Certs()
			switch {
			case err != nil:
				return err
			case a.json:
				a.printJSON(a.Out, c)
				return nil
			}
			t := table{columns: []string{"Certificate", "Signed by", "Until", "File"}}
			for _, one := range append(c.Authorities, c.Nodes...) {
				t.rows = append(t.rows, []string{one.Of, one.Signed, one.Until.UTC().Format(time.DateOnly), one.Path})
			}
			a.printf("%s", t.String())
			if len(c.Authorities) > 1 {
				a.printf("Two authorities are trusted: one follows the other. `howdah certs rotate` goes on.\n")
			}
			return nil
		},
	}
	a.jsonFlag(cmd)
	cmd.AddCommand(a.certsRenew(), a.certsRotate())
	return cmd
}

func (a *app) certsRenew() *cobra.Command {
	var due bool
	cmd := &cobra.Command{
		Use: "renew", Short: "Give the nodes of this machine other certificates and keys",
		Long: `Renew makes another certificate and key for every node of this machine, by the
authority in the state directory. Nothing is restarted for them: the roles take them
at their next handshake, PostgreSQL by a reload.

With --due it does so only where one ends within a month, or was made by an authority
that signs no more; where another authority is to be trusted from now on, a member of
etcd is started again for that.`,
		Example: "  howdah certs renew\n  howdah certs renew --due",
		Args:    nothing(": it is about the nodes of this machine"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := a.house()
			if err != nil {
				return err
			}
			c, err := h.Certs()
			if err != nil {
				return err
			}
			if ok, err := a.sure("renew the certificates of "+count(len(c.Nodes), "node"), harmless); !ok {
				return err
			}
			done, err := h.RenewCertificates(cmd.Context(), due)
			if a.json && err == nil {
				a.printJSON(a.Out, map[string]any{"done": append([]string{}, done...)})
				return nil
			}
			for _, what := range done {
				a.printf("%s\n", what)
			}
			if err == nil && len(done) == 0 {
				a.printf("Nothing was due.\n")
			}
			return err
		},
	}
	a.changeFlags(cmd)
	cmd.Flags().BoolVar(&due, "due", false, "only what ends soon, or is of an authority that signs no more")
	return cmd
}

func (a *app) certsRotate() *cobra.Command {
	var o control.Installation
	cmd := &cobra.Command{
		Use: "rotate [INVENTORY]", Short: "Take a step from the authority to another one",
		Long: `Rotate replaces the authority in three steps, one each time that it is given: every
machine trusts a second one beside the first; the second one signs all certificates;
nobody trusts the first any more. No step ends a session, and none restarts
PostgreSQL. With an inventory it is done over SSH on all machines, as "howdah install"
logs in; if one of them missed a step, that is done there, and no other.

Without an inventory it is done on this machine: copy ca.pem and ca.key of DIR/ca to
all others and run "howdah certs renew --due" there, before the next step.

Whoever checks the server's certificate (sslrootcert) needs the new ca.pem before the
second step.`,
		Example: "  howdah certs rotate pigsty.yml --dry-run\n  howdah certs rotate pigsty.yml",
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return usage("certs rotate takes one inventory, not %d: %q", len(args), args)
			case len(args) == 0 && (o.Login.Identity != "" || o.Login.AcceptNew):
				return usage("--identity and --accept-new are for the machines of an inventory, and none is given")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := a.house()
			if err != nil {
				return err
			}
			what, err := h.NextTurn()
			if err != nil {
				return err
			}
			turn := h.Turn
			if len(args) > 0 {
				inv, err := control.ReadInventory(args[0])
				if err != nil {
					return err
				}
				a.findings(inv.World, spec.Warning)
				way := a.climbing(a.Err, time.Now())
				defer way.end()
				o.Login, o.Progress = a.login(o.Login), way.step
				i, err := h.Installer(cmd.Context(), inv, o)
				if err != nil {
					return err
				}
				defer i.Close()
				way.end()
				turn = i.Turn
			}
			if ok, err := a.sure(what, harmless); !ok {
				return err
			}
			t, err := turn(cmd.Context())
			switch {
			case err != nil:
				return err
			case a.json:
				a.printJSON(a.Out, t)
				return nil
			}
			switch t.Stage {
			case "announced":
				a.printf("Two authorities are trusted, and the first still signs. Give ca.pem to whoever checks servers by it; then give this command again.\n")
			case "signing":
				a.printf("The second authority signs. When all is well, give this command again: then the first is trusted no more.\n")
			default:
				a.printf("One authority is trusted.\n")
			}
			return nil
		},
	}
	a.changeFlags(cmd)
	cmd.Flags().StringVarP(&o.Login.Identity, "identity", "i", "", "file of the private key to log in with (default: those of the agent and of ~/.ssh)")
	cmd.Flags().BoolVar(&o.Login.AcceptNew, "accept-new", false, "trust machines that nobody knows yet, and write their keys to ~/.ssh/known_hosts")
	_ = cmd.MarkFlagFilename("identity") // the flag was just made
	return cmd
}
