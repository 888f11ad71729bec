package apply

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"howdah/problem"
	"howdah/secret"
	"howdah/spec"
	"howdah/spec/plan"
	"howdah/test/testpg"
)

func flagged(b bool) *bool { return &b }
func number(n int) *int    { return &n }

// connect reaches a server by its socket.
func connect(s *testpg.Server) Connect {
	return func(ctx context.Context, database string) (*pgconn.PgConn, error) {
		c, err := pgconn.ParseConfig("")
		if err != nil {
			return nil, err
		}
		c.Host, c.Port, c.User, c.Database = s.Node.Paths.Sockets, uint16(s.Node.Postgres.Port), spec.Superuser, database
		c.TLSConfig, c.Fallbacks = nil, nil
		return pgconn.ConnectConfig(ctx, c)
	}
}

// rich declares something of every kind.
func rich(s *testpg.Server) Order {
	return Order{
		Cluster: "test", Connect: connect(s),
		Secrets:   map[string]secret.Text{"user:app": "pä'ss", "user:hash": secret.Text("SCRAM-SHA-256$4096:c2FsdA==$" + strings.Repeat("A", 43) + "=:" + strings.Repeat("A", 43) + "="), "admin": "x"},
		Baselines: map[string]string{"app": "CREATE TABLE public.once (a int); INSERT INTO once VALUES (1); -- no more"},
		Objects: spec.Objects{
			Admin: "dba", Monitor: "mon", Admins: []string{spec.Superuser, "dbrole_admin"},
			Roles: []spec.Role{
				{Name: "dbrole_admin", Login: flagged(false), MemberOf: []spec.Membership{{Role: "pg_monitor"}}},
				{Name: "dba", System: true, Superuser: flagged(true), Secret: "admin", MemberOf: []spec.Membership{{Role: "dbrole_admin", Admin: flagged(true)}}},
				{Name: "mon", Comment: "looks", Parameters: map[string]string{"log_min_duration_statement": "1000"}},
				{
					Name: "app", Secret: "user:app", ConnLimit: number(20), CreateDB: flagged(true), ExpireIn: number(300), Comment: "it's the app",
					Parameters: map[string]string{"search_path": `app, "$user", public`, "work_mem": "9MB"},
				},
				{Name: "app", MemberOf: []spec.Membership{{Role: "dbrole_admin"}}}, // again
				{Name: "hash", Secret: "user:hash", ExpireAt: "2040-02-29 12:00+01"},
				{Name: `o"dd'\`, ExpireAt: "infinity"},
			},
			Schemas: []string{"monitor"}, Extensions: []spec.Extension{{Name: "pg_stat_statements", Schema: "monitor"}, {Name: "no_such_thing"}},
			Privileges: []string{
				"GRANT USAGE ON SCHEMAS TO mon", "GRANT SELECT ON TABLES TO mon", "GRANT ALL ON SEQUENCES TO dbrole_admin",
				"GRANT TRUNCATE ON TABLES TO dbrole_admin", "REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
			},
			Databases: []spec.Database{
				{
					Name: "app", Owner: "app", RevokeConn: true, ConnLimit: number(50), Baseline: "app.sql", Comment: "the app's",
					Parameters: map[string]string{"statement_timeout": "7min"}, Schemas: []spec.Schema{{Name: "app", Owner: "app"}, {Name: `S"x`}},
					Extensions: []spec.Extension{{Name: "hstore", Schema: "ext"}, {Name: "earthdistance"}},
				},
				{Name: `D"b`, Owner: `o"dd'\`, Template: "template0", Create: map[string]string{"encoding": "UTF8", "lc_collate": "C", "lc_ctype": "C"}},
				{Name: "shut", AllowConn: flagged(false), IsTemplate: flagged(true)},
				{Name: "copy", Template: "app"},
			},
		},
	}
}

func empty(t *testing.T, o Order) {
	t.Helper()
	p, err := Plan(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Steps {
		t.Errorf("there still is: %s (%s) %v", s.What, s.Why, s.SQL)
	}
}

// Everything is made; a second plan is empty; each kind of change is made, and
// the plan after it is empty.
func TestADeclarationIsMadeOnce(t *testing.T) {
	s := testpg.Start(t, testpg.Primary())
	s.Query("DROP DATABASE demo; ")
	s.Query("DROP ROLE demo")
	o := rich(s)
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Missing) != 1 || report.Missing[0] != "no_such_thing" || len(report.Left) > 0 {
		t.Errorf("missing %v, left %v", report.Missing, report.Left)
	}
	empty(t, o)
	in := func(database, sql string) string {
		t.Helper()
		conn, err := o.Connect(t.Context(), database)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		all, err := results(t.Context(), conn, sql)
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return fmt.Sprint(all[len(all)-1])
	}
	for sql, want := range map[string]string{
		"SELECT count(*) FROM once": "[[1]]",
		"SELECT datconnlimit, datistemplate FROM pg_database WHERE datname = 'app'":                                                                                                                                                   "[[50 f]]",
		"SELECT has_database_privilege('public', 'app', 'CONNECT'), has_database_privilege('mon', 'app', 'CONNECT')":                                                                                                                  "[[f t]]",
		"SET ROLE app; CREATE TABLE app.t (a int); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; RESET ROLE; SELECT has_table_privilege('mon', 'app.t', 'SELECT'), has_function_privilege('mon', 'app.f()', 'EXECUTE')": "[[t f]]",
	} {
		if got := in("app", sql); got != want {
			t.Errorf("%s: %s, want %s", sql, got, want)
		}
	}
	if log := s.Log(); strings.Contains(log, "SCRAM-SHA-256$") {
		t.Error("a password's verifier is in the server's log")
	}

	type change struct {
		name   string
		change func(*Order)
		want   string // some step
	}
	for _, batch := range [][]change{{
		{"password", func(o *Order) { o.Secrets["user:app"] = "other" }, "set the password of role app"},
		{"attribute", func(o *Order) { o.Objects.Roles[3].CreateDB = flagged(false) }, "changed role app: nocreatedb"},
		{"expiry", func(o *Order) { o.Objects.Roles[3].ExpireIn = number(10) }, "let role app expire"},
		{"parameter", func(o *Order) { o.Objects.Roles[3].Parameters["work_mem"] = "default" }, "set work_mem of role app"},
		{"comment", func(o *Order) { o.Objects.Roles[2].Comment = `a "b" \c` }, "said of role mon"},
		{"membership", func(o *Order) { o.Objects.Roles[4].MemberOf[0].Revoke = true }, "revoked dbrole_admin from role app"},
		{"less of one", func(o *Order) { o.Objects.Roles[1].MemberOf[0].Admin = flagged(false) }, "granted dbrole_admin to role dba"},
		{"limit", func(o *Order) { o.Objects.Databases[0].ConnLimit = number(-1) }, "changed database app: connection limit -1"},
		{"database parameter", func(o *Order) { o.Objects.Databases[0].Parameters["statement_timeout"] = "8min" }, "set statement_timeout of database app"},
		{"extension's schema", func(o *Order) { o.Objects.Databases[0].Extensions[0].Schema = "app" }, "moved extension hstore of database app to schema app"},
		{"extension's version", func(o *Order) { o.Objects.Databases[1].Extensions = []spec.Extension{{Name: "hstore", Version: "1.4"}} }, "made extension hstore in database"},
		{"privileges", func(o *Order) {
			o.Objects.Privileges = append(o.Objects.Privileges, "GRANT USAGE ON TYPES TO mon WITH GRANT OPTION")
			o.Objects.Privileges[1] = "REVOKE SELECT ON TABLES FROM mon"
		}, "set default privileges on what"},
	}, {
		{"owner", func(o *Order) { o.Objects.Databases[0].Owner = "mon" }, "gave database app to mon"},
		{"connections", func(o *Order) { o.Objects.Databases[0].RevokeConn = false }, "let everybody connect to database app"},
		{"schema's owner", func(o *Order) { o.Objects.Databases[0].Schemas[0].Owner = "mon" }, "gave schema app of database app to mon"},
		{"… and another", func(o *Order) { o.Objects.Databases[1].Extensions[0].Version = "1.8" }, "updated extension hstore"},
		{"open", func(o *Order) {
			o.Objects.Databases[2].AllowConn, o.Objects.Databases[2].IsTemplate = flagged(true), flagged(false)
		}, "changed database shut: is_template false"},
	}, {
		{"absent schema", func(o *Order) { o.Objects.Databases[0].Schemas[1].Absent = true }, "dropped schema S\"x of database app"},
		{"absent extension", func(o *Order) { o.Objects.Databases[0].Extensions[0].Absent = true }, "dropped extension hstore of database app"},
		{"absent database", func(o *Order) { o.Objects.Databases[3].State = spec.Absent }, "dropped database copy"},
		{"absent role", func(o *Order) { o.Objects.Databases[1].Owner = ""; o.Objects.Roles[6].Absent = true }, "dropped role o"},
	}} {
		for _, tt := range batch {
			tt.change(&o)
		}
		report, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range batch {
			if !strings.Contains(strings.Join(report.Done, "\n"), tt.want) {
				t.Errorf("%s: did %q, want %q", tt.name, report.Done, tt.want)
			}
		}
		if empty(t, o); t.Failed() {
			t.FailNow()
		}
	}

	// What nobody declared is told, and goes when that is asked for.
	s.Query("CREATE ROLE stranger LOGIN; ")
	s.Query("CREATE DATABASE strange OWNER stranger")
	in("app", "CREATE SCHEMA AUTHORIZATION stranger; CREATE TABLE public.his (a int); ALTER TABLE his OWNER TO stranger; ALTER ROLE mon SET work_mem = '1MB'; GRANT stranger TO mon")
	p, err := Plan(t.Context(), o)
	if err != nil || !p.Empty() || len(p.Drift) != 4 { // database app has a baseline: its schemas are not looked for
		t.Fatalf("%+v, %v", p, err)
	}
	if _, err := Run(t.Context(), o); err != nil || s.Query("SELECT count(*) FROM pg_roles WHERE rolname = 'stranger'") != "1" {
		t.Fatalf("drift went unasked: %v", err)
	}
	o.Prune = true
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	empty(t, o)
	if got := in("app", "SELECT tableowner FROM pg_tables WHERE tablename = 'his'"); got != "[[postgres]]" {
		t.Errorf("the table of the dropped role belongs to %s", got)
	}
}

// Ended before any step, and begun again, it ends where it would have: and the
// SQL that a database begins with has run once.
func TestEndedAnywhereAndBegunAgain(t *testing.T) {
	s := testpg.Start(t, testpg.Primary())
	s.Query("DROP DATABASE demo")
	s.Query("DROP ROLE demo")
	o := rich(s)
	o.Objects.Schemas, o.Objects.Extensions, o.Objects.Privileges = nil, nil, o.Objects.Privileges[:1]
	o.Objects.Databases = o.Objects.Databases[:2]
	stop := errors.New("ended")
	for left := 0; ; left++ {
		n := 0
		o.Before = func(plan.Step) error {
			if n++; n > 1 {
				return stop
			}
			return nil
		}
		_, err := Run(t.Context(), o)
		if err == nil {
			break
		}
		if !errors.Is(err, stop) || left > 200 {
			t.Fatalf("after %d steps: %v", left, err)
		}
	}
	o.Before = nil
	empty(t, o)
	conn, err := o.Connect(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if all, err := results(t.Context(), conn, "SELECT count(*) FROM once"); err != nil || all[0][0][0] != "1" {
		t.Errorf("the baseline ran: %v, %v", all, err)
	}
}

// What one object cannot have is told by name, and the others have all.
func TestOneFailureKeepsTheOthersFromNothing(t *testing.T) {
	s := testpg.Start(t, testpg.Primary())
	o := Order{Cluster: "test", Connect: connect(s), Baselines: map[string]string{"bad": "CREATE TABLE t (a int); SELECT nothing;", "psql": "\\i x"}, Objects: spec.Objects{
		Roles: []spec.Role{{Name: "a", Secret: "nowhere"}, {Name: "b", Parameters: map[string]string{"work_mem": "much"}}, {Name: "c", MemberOf: []spec.Membership{{Role: "nobody"}}}, {Name: "d"}},
		Databases: []spec.Database{
			{Name: "bad", Baseline: "bad.sql"}, {Name: "psql", Baseline: "psql.sql"}, {Name: "nobodys", Owner: "nobody", Schemas: []spec.Schema{{Name: "s"}}}, {Name: "good", Owner: "d"},
		},
	}}
	_, err := Run(t.Context(), o)
	if problem.Code(err) != "provision-failed" {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{`the secret "nowhere"`, "work_mem", "nobody", `column "nothing" does not exist`, `"\\i" is for psql`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %s", err, want)
		}
	}
	if got := s.Query("SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname IN ('bad', 'psql', 'nobodys', 'good')"); got != "bad good psql" {
		t.Errorf("databases: %s", got)
	}
	// A database whose SQL failed is nobody's to use, and is filled by the next try.
	if got := s.Query("SELECT datconnlimit FROM pg_database WHERE datname = 'bad'"); got != "0" {
		t.Errorf("a half made database takes %s connections", got)
	}
	o.Baselines["bad"], o.Objects.Databases = "CREATE TABLE t (a int)", o.Objects.Databases[:1]
	o.Objects.Roles = nil
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if got := s.Query("SELECT datconnlimit FROM pg_database WHERE datname = 'bad'"); got != "-1" {
		t.Errorf("filled, it takes %s connections", got)
	}
}

// Of many roles, which are made side by side, one that can not be is told, and each
// of the others is there once, also those that shared a transaction with it.
func TestManyRolesOfWhichOneFails(t *testing.T) {
	s := testpg.Start(t, testpg.Primary())
	o := Order{Cluster: "test", Connect: connect(s)}
	const n = 3*together + 7
	for i := range n {
		o.Objects.Roles = append(o.Objects.Roles, spec.Role{Name: fmt.Sprintf("many%03d", i), Comment: "one of them"})
	}
	o.Objects.Roles[together+3].Parameters = map[string]string{"work_mem": "much"}
	told := map[string]int{}
	o.After = func(s plan.Step, err error) { told[fmt.Sprint(err == nil, s.Object)]++ }
	report, err := Run(t.Context(), o)
	if problem.Code(err) != "provision-failed" || !strings.Contains(err.Error(), "make role many067: invalid value") || strings.Contains(err.Error(), "exists") {
		t.Fatalf("got %v", err)
	}
	if len(report.Done) != n-1 || len(told) != n || told["falserole many067"] != 1 || told["truerole many066"] != 1 {
		t.Errorf("%d of %d were made; heard %v", len(report.Done), n-1, told)
	}
	if got := s.Query("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'many%'"); got != strconv.Itoa(n-1) {
		t.Errorf("%s roles are there, want %d", got, n-1)
	}
	delete(o.Objects.Roles[together+3].Parameters, "work_mem")
	if report, err = Run(t.Context(), o); err != nil || len(report.Done) != 1 {
		t.Errorf("corrected: %q, %v", report.Done, err)
	}
	empty(t, o)
}

// A server that goes away ends the work with ErrLost: whoever knows where the
// primary is begins again there.
func TestALostServerIsLost(t *testing.T) {
	s := testpg.Start(t, testpg.Primary())
	o := Order{Cluster: "test", Connect: connect(s), Objects: spec.Objects{Roles: []spec.Role{{Name: "a"}, {Name: "b"}, {Name: "c"}}}}
	o.After = func(st plan.Step, err error) {
		if st.Object == "role a" {
			s.Query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'")
		}
	}
	if _, err := Run(t.Context(), o); !errors.Is(err, ErrLost) {
		t.Fatalf("got %v", err)
	}
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	b := testpg.Start(t, testpg.StandbyOf(s))
	o.Connect = connect(b)
	if _, err := Run(t.Context(), o); !errors.Is(err, ErrLost) {
		t.Errorf("on a standby: %v", err)
	}
}

// Every major reads and makes the same.
func TestEveryMajor(t *testing.T) {
	majors := testpg.Majors(t)
	for _, major := range majors[:len(majors)-1] { // the other tests have the newest
		s := testpg.Start(t, testpg.Primary(), testpg.Major(major))
		s.Query("DROP DATABASE demo")
		s.Query("DROP ROLE demo")
		o := rich(s)
		if _, err := Run(t.Context(), o); err != nil {
			t.Fatalf("PostgreSQL %d: %v", major, err)
		}
		empty(t, o)
	}
}

// processor is what this process and the server have used of it so far: on a busy
// machine it says more than a clock.
func processor(t *testing.T, s *testpg.Server) time.Duration {
	t.Helper()
	const tick = 10 * time.Millisecond // of /proc/*/stat (USER_HZ)
	var us unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &us); err != nil {
		t.Fatal(err)
	}
	sum := time.Duration(us.Utime.Nano() + us.Stime.Nano())
	pid, _ := os.ReadFile(filepath.Join(s.Node.Postgres.Data, "postmaster.pid"))
	postmaster, _, _ := strings.Cut(string(pid), "\n")
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		_, rest, _ := strings.Cut(string(text), ") ")
		f := strings.Fields(rest)
		if len(f) < 15 || f[1] != postmaster && filepath.Base(filepath.Dir(file)) != postmaster {
			continue
		}
		for _, n := range f[11:15] { // utime, stime, and those of children that ended
			ticks, _ := strconv.Atoi(n)
			sum += time.Duration(ticks) * tick
		}
	}
	return sum
}

var many = flag.Bool("many", false, "measure with 1,000 users and 200 databases")

// TestMany measures: go test ./spec/apply -run TestMany -many -v.
func TestMany(t *testing.T) {
	if !*many {
		t.Skip("it measures: -many")
	}
	s := testpg.Start(t, testpg.Primary(), testpg.Fsync())
	o := Order{Cluster: "test", Connect: connect(s), Secrets: map[string]secret.Text{}}
	o.Objects.Roles = []spec.Role{{Name: "dbrole_admin", Login: flagged(false)}, {Name: "dbrole_readonly", Login: flagged(false)}}
	o.Objects.Privileges = []string{"GRANT USAGE ON SCHEMAS TO dbrole_readonly", "GRANT SELECT ON TABLES TO dbrole_readonly"}
	for i := range 1000 {
		name := fmt.Sprintf("user%04d", i)
		o.Secrets["user:"+name] = secret.Text("password of " + name)
		o.Objects.Roles = append(o.Objects.Roles, spec.Role{
			Name: name, Secret: "user:" + name, Comment: "user " + name, ConnLimit: number(10), ExpireIn: number(365),
			MemberOf: []spec.Membership{{Role: "dbrole_readonly"}}, Parameters: map[string]string{"work_mem": "8MB"},
		})
	}
	began, cpu := time.Now(), processor(t, s)
	lap := func(what string, limit time.Duration) {
		took, used := time.Since(began), processor(t, s)-cpu
		t.Logf("%-40s %6.2f s, %6.2f s of processor", what, took.Seconds(), used.Seconds())
		if limit > 0 && took > limit {
			t.Errorf("%s took %s, and may take %s", what, took, limit)
		}
		began, cpu = time.Now(), processor(t, s)
	}
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	lap("first apply of 1,000 users", 10*time.Second)
	for i := range 200 {
		name := fmt.Sprintf("db%03d", i)
		o.Objects.Databases = append(o.Objects.Databases, spec.Database{
			Name: name, Owner: fmt.Sprintf("user%04d", i), Schemas: []spec.Schema{{Name: "own"}}, Extensions: []spec.Extension{{Name: "hstore"}},
		})
	}
	began, cpu = time.Now(), processor(t, s)
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	lap("first apply of 200 databases", 0)
	empty(t, o)
	lap("plan by who knows no password yet", 0)
	o.Known = r.Known // as whoever applied or planned before
	empty(t, o)
	lap("plan of 1,000 users and 200 databases", 2*time.Second)
}
