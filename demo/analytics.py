"""Group "analytics": window aggregates and anomalies of every device, in SQL, exactly once.

    take (no transaction block); aggregate: BEGIN; effects; ack; COMMIT

The work is in analytics.sql; this only calls it, again and again, and connects again. If it dies
anywhere in between, nothing of the second transaction has happened and the lease expires: another
consumer gets the same messages. If it was only slow, and another consumer has taken the lease
over, ack raises 55000 and the effects are rolled back.
"""

import time

import psycopg2
import psycopg2.errors

from common import connect, is_lost, setting

PAUSE = 0.1  # seconds before the next try to connect


def consume(conn, name):
    with conn.cursor() as cur:
        cur.execute("CREATE TEMPORARY TABLE batch (LIKE demo.reading)")
        while True:
            cur.execute("SELECT demo.take(%s, %s)", [name, setting("BATCH")])
            if cur.fetchone()[0]:
                try:
                    cur.execute("SELECT demo.aggregate(make_interval(secs => %s))", [setting("WINDOW")])
                except psycopg2.errors.ObjectNotInPrerequisiteState:  # 55000: the batch is another consumer's now
                    pass
            yield


def work(name, stopping):
    while not stopping:
        conn = None
        try:
            conn = connect(name)
            for _ in consume(conn, name):
                if stopping:
                    break
        except psycopg2.Error as error:
            if not is_lost(error):
                raise
            time.sleep(PAUSE)
