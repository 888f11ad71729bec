# What package drivers says, with psycopg 3: psycopg_session.py session|loop
# It binds parameters at the server, and prepares what it asks for often.
import os
import sys
import threading
import time
import traceback

import psycopg


def same(what, got, want):
    if got != want:
        sys.exit("%s: %r, want %r" % (what, got, want))


def session():
    with psycopg.connect(autocommit=True) as one, psycopg.connect(autocommit=True) as two:
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


# loop writes rows until its input ends, by statements that are prepared and such that are not.
def loop():
    over, lock, count = threading.Event(), threading.Lock(), [0]

    def write(threshold):
        try:
            conn = psycopg.connect(autocommit=True)
            conn.prepare_threshold = threshold
            while not over.is_set():
                with conn.transaction():
                    conn.execute("INSERT INTO written VALUES (%s, %s)", ["psycopg", count[0]])
                with lock:
                    count[0] += 1
                    if count[0] == 20:
                        print("ready", flush=True)
                time.sleep(0.01)
            conn.close()
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    threads = [threading.Thread(target=write, args=[threshold]) for threshold in (0, 5, 5, None)]
    for t in threads:
        t.start()
    sys.stdin.read()
    over.set()
    for t in threads:
        t.join()
    print(count[0])


{"session": session, "loop": loop}[sys.argv[1]]()
