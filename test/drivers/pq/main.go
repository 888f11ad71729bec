// Pq does with lib/pq what package drivers says.
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

	"github.com/lib/pq"
)

func main() {
	log.SetFlags(0)
	db, err := sql.Open("postgres", "sslmode="+mode())
	check(err)
	defer db.Close()
	if os.Args[1] == "loop" {
		loop(db)
		return
	}
	session(db)
	binary, err := sql.Open("postgres", "binary_parameters=yes sslmode="+mode()) // everything in one round trip, unnamed
	check(err)
	defer binary.Close()
	session(binary)
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

func session(db *sql.DB) {
	ctx := context.Background()
	db.SetMaxOpenConns(4)
	_, err := db.Exec("CREATE TABLE pq (n int, s text)")
	check(err)
	// COPY, which lib/pq wants a transaction for.
	tx, err := db.Begin()
	check(err)
	in, err := tx.Prepare(pq.CopyIn("pq", "n", "s"))
	check(err)
	for n := range 20000 {
		_, err := in.Exec(n, fmt.Sprintf("row %d", n))
		check(err)
	}
	_, err = in.Exec()
	check(err)
	check(in.Close())
	check(tx.Commit())
	// Prepared statements of many sessions at once, in transactions and out of them.
	ask, err := db.Prepare("SELECT s FROM pq WHERE n = $1")
	check(err)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 50 {
				var s string
				check(ask.QueryRow(50*i + n).Scan(&s))
				same("prepared", s, fmt.Sprintf("row %d", 50*i+n))
				tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true})
				check(err)
				check(tx.Stmt(ask).QueryRow(n).Scan(&s))
				same("prepared, in a transaction", s, fmt.Sprintf("row %d", n))
				check(tx.Rollback())
			}
		})
	}
	wg.Wait()
	check(ask.Close())
	// A large result, and a large value.
	rows, err := db.Query("SELECT repeat(s, 100) FROM pq")
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
	tx, err = db.Begin()
	check(err)
	_, err = tx.Exec("SELECT 1/0")
	var e *pq.Error
	same("1/0", errors.As(err, &e) && e.Code == "22012", true)
	_, err = tx.Exec("SELECT 1")
	same("after it", errors.As(err, &e) && e.Code == "25P02", true)
	check(tx.Rollback())
	// Cancel.
	within, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	_, err = db.ExecContext(within, "SELECT pg_sleep(60)")
	same("a query that is cancelled ends", err != nil, true)
	check(db.QueryRow("SELECT count(*) FROM pq").Scan(&length))
	same("afterwards", length, 20000)
	_, err = db.Exec("DROP TABLE pq")
	check(err)
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
					_, err = tx.Stmt(insert).Exec("pq", count.Load())
				} else {
					_, err = tx.Exec("INSERT INTO written VALUES ('pq', 0)")
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
