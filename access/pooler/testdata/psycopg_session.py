# A session of psycopg 3 through a pool of one server: argv is a conninfo. It binds
# parameters at the server, and prepares what it asks for often.
import sys

import psycopg

dsn = sys.argv[1]


def same(what, got, want):
    if got != want:
        sys.exit("%s: %r, want %r" % (what, got, want))


with psycopg.connect(dsn, autocommit=True) as one, psycopg.connect(dsn, autocommit=True) as two:
    one.execute("CREATE TABLE t (n int)")
    for n in range(20):  # from the sixth time on it is prepared by name, by either client
        for conn in one, two:
            conn.execute("INSERT INTO t VALUES (%s)", [n])
    same("prepared", two.execute("SELECT sum(n) FROM t").fetchone(), (380,))
    with one.transaction():
        for n in range(10):
            same("in a transaction", one.execute("SELECT %s::int", [n]).fetchone(), (n,))
    with one.pipeline():
        all = [one.execute("SELECT %s::int", [n]) for n in range(50)]
    same("a pipeline", [c.fetchone()[0] for c in all], list(range(50)))
    with two.cursor() as c, c.copy("COPY t FROM STDIN") as copy:
        for n in range(1000):
            copy.write_row([n])
    same("a copy", one.execute("SELECT count(*) FROM t").fetchone(), (1040,))
    with two.transaction(), two.cursor("walk") as c:
        c.execute("SELECT n FROM t")
        same("a server's cursor", len(list(c)), 1040)
    one.execute("DROP TABLE t")
print("done")
