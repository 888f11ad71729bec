package main

import (
	"context"

	"howdah/access/dns"
	"howdah/nodefile"
)

// runDNS answers for names.
func runDNS(ctx context.Context, dir string) error {
	n, err := nodefile.Load(dir)
	if err != nil {
		return err
	}
	return dns.Run(ctx, n, logger(n))
}
