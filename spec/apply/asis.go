package apply

import (
	"context"

	"howdah/spec"
	"howdah/spec/plan"
)

// AsIs is what a server holds, whoever declared it, and what it stores of
// passwords.
func AsIs(ctx context.Context, o Order) (h plan.Have, verifiers map[string]string, err error) {
	r := &run{Order: o}
	if err := r.open(ctx); err != nil {
		return h, nil, r.fail("", err)
	}
	defer r.close(ctx)
	all, err := results(ctx, r.conn, "SELECT datname FROM pg_database WHERE datallowconn; SELECT rolname, rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL")
	if err != nil {
		return h, nil, r.fail("its catalogs could not be read", err)
	}
	for _, row := range all[0] { // so that each is looked into
		r.Objects.Databases = append(r.Objects.Databases[:len(r.Objects.Databases):len(r.Objects.Databases)], spec.Database{Name: row[0]})
	}
	verifiers = map[string]string{}
	for _, row := range all[1] {
		verifiers[row[0]] = row[1]
	}
	if h, err = r.look(ctx); err != nil {
		return h, nil, r.fail("its catalogs could not be read", err)
	}
	return h, verifiers, nil
}
