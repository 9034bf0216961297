"""What keeps a region's mirrors up to date, as pg_cron would: run_mirrors, again and again."""

import time

import psycopg2

from common import connect, is_lost

PAUSE = 0.1  # seconds before the next try to connect


def work(name, stopping):
    while not stopping:
        try:
            with connect(name).cursor() as cur:
                while not stopping:
                    cur.execute("CALL iotmq.run_mirrors('1 s')")
        except psycopg2.Error as error:
            if not is_lost(error):
                raise
            time.sleep(PAUSE)
