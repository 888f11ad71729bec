// Sql does with a driver of database/sql, whose name is in $DRIVER (lib/pq or pgx), what package
// drivers says.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/lib/pq"
)

// A driver is what differs between them.
type driver struct {
	name   string // of database/sql
	direct string // an option: everything in one round trip, unnamed
	copyIn func(db *sql.DB, rows int)
}

var drivers = map[string]driver{
	"lib/pq": {"postgres", "binary_parameters=yes", copyInByPq},
	"pgx":    {"pgx", "default_query_exec_mode=exec", copyInByPgx},
}

func main() {
	log.SetFlags(0)
	d, ok := drivers[os.Getenv("DRIVER")]
	same("a driver", ok, true)
	db, err := sql.Open(d.name, "sslmode="+mode())
	check(err)
	defer db.Close()
	if os.Args[1] == "loop" {
		loop(db)
		return
	}
	session(db, d)
	direct, err := sql.Open(d.name, d.direct+" sslmode="+mode())
	check(err)
	defer direct.Close()
	session(direct, d)
	fmt.Println("done")
}

func mode() string {
	if m := os.Getenv("PGSSLMODE"); m != "" {
		return m
	}
	return "disable"
}

func check(err error) {
	if err != nil {
		log.Output(2, err.Error())
		os.Exit(1)
	}
}

func same[T comparable](what string, got, want T) {
	if got != want {
		log.Fatalf("%s: %v, want %v", what, got, want)
	}
}

// copyInByPq copies rows, which lib/pq wants a transaction for.
func copyInByPq(db *sql.DB, rows int) {
	tx, err := db.Begin()
	check(err)
	in, err := tx.Prepare(pq.CopyIn("copied", "n", "s"))
	check(err)
	for n := range rows {
		_, err := in.Exec(n, row(n))
		check(err)
	}
	_, err = in.Exec()
	check(err)
	check(in.Close())
	check(tx.Commit())
}

func copyInByPgx(db *sql.DB, rows int) {
	ctx := context.Background()
	conn, err := db.Conn(ctx)
	check(err)
	defer conn.Close()
	check(conn.Raw(func(under any) error {
		_, err := under.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"n", "s"},
			pgx.CopyFromSlice(rows, func(n int) ([]any, error) { return []any{n, row(n)}, nil }))
		return err
	}))
}

func row(n int) string { return fmt.Sprintf("row %d", n) }

func session(db *sql.DB, d driver) {
	ctx := context.Background()
	db.SetMaxOpenConns(4)
	_, err := db.Exec("CREATE TABLE copied (n int, s text)")
	check(err)
	d.copyIn(db, 20000)
	// Prepared statements of many sessions at once, in transactions and out of them.
	ask, err := db.Prepare("SELECT s FROM copied WHERE n = $1")
	check(err)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 50 {
				var s string
				check(ask.QueryRow(50*i + n).Scan(&s))
				same("prepared", s, row(50*i+n))
				tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true})
				check(err)
				check(tx.Stmt(ask).QueryRow(n).Scan(&s))
				same("prepared, in a transaction", s, row(n))
				check(tx.Rollback())
			}
		})
	}
	wg.Wait()
	check(ask.Close())
	// A large result, and a large value.
	rows, err := db.Query("SELECT repeat(s, 100) FROM copied")
	check(err)
	bytes := 0
	for rows.Next() {
		var s string
		check(rows.Scan(&s))
		bytes += len(s)
	}
	check(rows.Err())
	same("a large result", bytes, 100*168890)
	var length int
	check(db.QueryRow("SELECT length($1)", strings.Repeat("x", 3<<20)).Scan(&length))
	same("a large value", length, 3<<20)
	// An error ends the transaction, and not the session.
	tx, err := db.Begin()
	check(err)
	_, err = tx.Exec("SELECT 1/0")
	same("1/0", state(err), "22012")
	_, err = tx.Exec("SELECT 1")
	same("after it", state(err), "25P02")
	check(tx.Rollback())
	// Cancel.
	within, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	_, err = db.ExecContext(within, "SELECT pg_sleep(60)")
	same("a query that is cancelled ends", err != nil, true)
	check(db.QueryRow("SELECT count(*) FROM copied").Scan(&length))
	same("afterwards", length, 20000)
	_, err = db.Exec("DROP TABLE copied")
	check(err)
}

// state is the SQLSTATE of an error.
func state(err error) string {
	var e interface{ SQLState() string }
	if !errors.As(err, &e) {
		return fmt.Sprint(err)
	}
	return e.SQLState()
}

// loop writes rows until its input ends, by statements that are prepared and such that are not.
func loop(db *sql.DB) {
	var over atomic.Bool
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); over.Store(true) }()
	db.SetMaxOpenConns(4)
	var wg sync.WaitGroup
	var count atomic.Int64
	for i := range 4 {
		wg.Go(func() {
			insert, err := db.Prepare("INSERT INTO written VALUES ($1, $2)")
			check(err)
			for !over.Load() {
				tx, err := db.Begin()
				check(err)
				if i%2 == 0 {
					_, err = tx.Stmt(insert).Exec(os.Getenv("DRIVER"), count.Load())
				} else {
					_, err = tx.Exec("INSERT INTO written VALUES ('" + os.Getenv("DRIVER") + "', 0)")
				}
				check(err)
				check(tx.Commit())
				if count.Add(1) == 20 {
					fmt.Println("ready")
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	fmt.Println(count.Load())
}
