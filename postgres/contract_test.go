package postgres_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/pg"
	"howdah/postgres/postgrestest"
	"howdah/test/testpg"
)

// machine is the contract's world of real servers, on loopback addresses of
// their own so that passwords and ports are as in production.
type machine struct {
	t       *testing.T
	major   int
	servers map[string]*testpg.Server
	inits   *int // of this version so far
}

// quick is a server whose initdb is a copy of an earlier one: one real initdb a
// version is enough to know that it works.
type quick struct{ *testpg.Server }

func (q quick) Init(ctx context.Context, _ func(done, total int64)) error {
	if q.Look(ctx).Data != pg.DataMissing {
		return q.Server.Init(ctx, nil)
	}
	q.Template()
	return nil
}

func (m *machine) Server(name string) postgrestest.Server {
	m.t.Helper()
	m.servers[name] = testpg.Start(m.t, testpg.Major(m.major), testpg.Named(name), testpg.TCP())
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	server := m.servers[name]
	watching.Go(func() { _ = server.Run(ctx) })
	m.t.Cleanup(func() { cancel(); watching.Wait() })
	if *m.inits++; *m.inits == 1 {
		return m.servers[name]
	}
	return quick{m.servers[name]}
}

func (m *machine) Upstream(name string) pg.Upstream { return m.servers[name].Upstream() }

func (m *machine) Write(name string, rows int) error {
	_, err := m.servers[name].Exec(m.t.Context(),
		fmt.Sprintf("CREATE TABLE IF NOT EXISTS contract (n int); INSERT INTO contract SELECT generate_series(1, %d)", rows))
	return err
}

func (m *machine) Rows(name string) int {
	got, err := m.servers[name].Exec(m.t.Context(), "SELECT count(*) FROM contract")
	if err != nil {
		return -1
	}
	n, _ := strconv.Atoi(got)
	return n
}

func (m *machine) Wait(what string, holds func() bool) {
	m.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !holds(); <-tick.C {
		if time.Now().After(end) {
			m.t.Fatalf("waited in vain: %s", what)
		}
	}
}

func (m *machine) Smart(name string) {
	s := m.servers[name]
	dial(m.t, s)
	if err := unix.Kill(s.Look(m.t.Context()).PID, unix.SIGTERM); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) Has(program string) bool {
	for _, s := range m.servers {
		return s.Programs().Has(program)
	}
	return testpg.Start(m.t, testpg.Major(m.major)).Programs().Has(program)
}

func TestContract(t *testing.T) {
	for _, major := range testpg.Majors(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			inits := 0
			postgrestest.Test(t, func(t *testing.T) postgrestest.World {
				return &machine{t, major, map[string]*testpg.Server{}, &inits}
			})
		})
	}
}
