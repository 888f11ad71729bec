# What package drivers says, with psycopg2: psycopg2_session.py session|loop
import io
import os
import sys
import threading
import time
import traceback

import psycopg2
import psycopg2.extensions
import psycopg2.extras


def same(what, got, want):
    if got != want:
        sys.exit("%s: %r, want %r" % (what, got, want))


def session():
    one, two = psycopg2.connect(""), psycopg2.connect("")
    with one, one.cursor() as c:  # a transaction each
        c.execute("CREATE TABLE t (n int, s text)")
        psycopg2.extras.execute_values(c, "INSERT INTO t VALUES %s", [(n, "row %d" % n) for n in range(1000)])
    with two, two.cursor() as c:
        c.execute("SELECT count(*), max(s) FROM t WHERE n < %s", (500,))
        same("a query", c.fetchone(), (500, "row 99"))

    # A cursor of the server lives as long as its transaction, while nobody else has the server.
    with one, one.cursor("walk") as c:
        c.itersize = 100
        c.execute("SELECT n FROM t ORDER BY n")
        same("a server's cursor", sum(n for (n,) in c), 499500)

    # An error ends the transaction and not the session.
    try:
        with one, one.cursor() as c:
            c.execute("INSERT INTO t VALUES (-1, 'gone')")
            c.execute("SELECT 1/0")
        sys.exit("1/0 has a value")
    except psycopg2.errors.DivisionByZero:
        pass
    with two, two.cursor() as c:
        c.execute("SELECT count(*) FROM t WHERE n < 0")
        same("after an error", c.fetchone(), (0,))

    # COPY both ways.
    with one, one.cursor() as c:
        c.copy_expert("COPY t FROM STDIN", io.StringIO("".join("%d\tcopied\n" % n for n in range(2000, 22000))))
        out = io.StringIO()
        c.copy_expert("COPY (SELECT n FROM t WHERE s = 'copied' ORDER BY n) TO STDOUT", out)
        same("a copy", out.getvalue().split()[-1], "21999")

    # Parameters that follow the client; the isolation level is of its transactions.
    one.set_client_encoding("LATIN1")
    one.set_session(isolation_level="SERIALIZABLE")
    with one, one.cursor() as c:
        c.execute("SELECT current_setting('client_encoding'), current_setting('transaction_isolation'), 'é'")
        same("LATIN1", c.fetchone(), ("LATIN1", "serializable", "é"))
    with two, two.cursor() as c:
        c.execute("SELECT current_setting('client_encoding'), current_setting('transaction_isolation'), 'é'")
        same("the other", c.fetchone(), ("UTF8", "read committed", "é"))

    # Cancel, as soon as it runs.
    ended = threading.Event()

    def cancel():
        while not ended.wait(0.05):
            one.cancel()

    nag = threading.Thread(target=cancel)
    nag.start()
    try:
        one.cursor().execute("SELECT pg_sleep(60)")
        sys.exit("nothing was cancelled")
    except psycopg2.extensions.QueryCanceledError:
        ended.set()
        nag.join()
    one.rollback()
    two.autocommit = True
    with two.cursor() as c:
        c.execute("DROP TABLE t")
    one.close()
    two.close()
    print("done")


# loop writes rows until its input ends.
def loop():
    over, lock, count = threading.Event(), threading.Lock(), [0]

    def write():
        try:
            conn = psycopg2.connect("")
            while not over.is_set():
                with conn, conn.cursor() as c:
                    c.execute("INSERT INTO written VALUES (%s, %s)", ("psycopg2", count[0]))
                with lock:
                    count[0] += 1
                    if count[0] == 20:
                        print("ready", flush=True)
                time.sleep(0.01)
            conn.close()
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for t in threads:
        t.start()
    sys.stdin.read()
    over.set()
    for t in threads:
        t.join()
    print(count[0])


{"session": session, "loop": loop}[sys.argv[1]]()
