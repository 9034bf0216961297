#!/usr/bin/python3
"""Runs the programs of examples/ against a server, and into all that can happen to them.

    examples.py --folder DIR DRIVER...

Each driver has a database of its own, where its publisher and two of its consumers work.
Some messages fail over and over, by the program, by the database, by a body with a NUL.
A seek ends the leases at hand, connections are killed, one message takes longer than a
lease, and SIGTERM comes in the middle of a batch.  What must hold then: every message is in
the log once, every good one is stored exactly once, the others are dead letters with their
reasons, and nothing else is.

Connects as libpq's environment says, by TCP, as a superuser.  Prints a line of TAP for each
driver; the log of one that failed follows.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
import traceback

from drivers import DRIVERS, EXAMPLES, Driver, Missing
from place import PATIENCE, Place

HELD = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()
    """
STORED = """
    SELECT (SELECT count(*) FROM reading), (SELECT count(DISTINCT (zone, msg_offset)) FROM reading)
    """


class Trial(Place):
    def __init__(self, name, folder):
        super().__init__(f"example_{name}")
        self.locker = self.connect(self.database)
        self.own = [self.session.get_backend_pid(), self.locker.get_backend_pid()]
        self.driver = Driver(name, folder, self.database)
        self.published = 0

    def run(self):
        self.driver.prepare()
        with open(os.path.join(EXAMPLES, "schema.sql"), encoding="utf-8") as file:
            self.ask(file.read())
        self.ask("SELECT iotmq.alter_group('telemetry', 'analytics', max_retries => 9, backoff => '{50 ms}')")
        try:
            self.publish()
            self.seek()
            self.kill_at_work()
            self.kill_idle()
            self.end()
        finally:
            self.stop()
        self.session.close()
        self.locker.close()

    # What happens to them --------------------------------------------------------------

    def publish(self):
        """A publisher whose connection is killed in the middle of a batch publishes it again, once."""
        self.lines = [f"pump-{n % 7} {n} {self.celsius(n)}\n" for n in range(200)]
        self.ask("BEGIN", connection=self.locker)
        self.ask("SELECT iotmq.publish('telemetry', 'pump-3', '{}', message_key => '150')", connection=self.locker)
        publisher = self.driver.start(self.driver.publisher, stdin=subprocess.PIPE)
        self.programs = [publisher]        # to be killed if all goes wrong
        publisher.stdin.write("".join(self.lines))
        publisher.stdin.flush()
        try:
            publisher.stdin.close()
        except BrokenPipeError:
            pass
        pid, = self.wait_for("a publisher that waits for the key of another", lambda: self.ask(HELD))[0]
        self.ask("SELECT pg_terminate_backend(%s)", pid)
        self.ask("ROLLBACK", connection=self.locker)
        self.programs = []
        status = publisher.wait(PATIENCE)
        self.same("the publisher's status", status, 0)
        self.same("messages in the log, and keys", self.ask(
            "SELECT count(*), count(DISTINCT message_key) FROM iotmq_topic.telemetry")[0], (200, 200))
        self.published = 200
        self.ask("SELECT iotmq.publish('telemetry', 'pump-0', NULL, body => %s)", b"a\0\xffz")

    @staticmethod
    def celsius(n):
        """Every 40th is too much for the program, every 50th too little for the database."""
        return 5000 if n % 40 == 7 else -300 if n % 50 == 9 else 20 + n % 30

    def seek(self):
        """A seek while both have a batch at hand: what they did is rolled back, and done again."""
        self.lock()
        self.programs = [self.driver.start(self.driver.consumer) for _ in range(2)]
        self.wait_for("two consumers that are about to store", lambda: len(self.ask(HELD)) == 2)
        at_work = self.ask(HELD)
        self.ask("SELECT iotmq.seek('telemetry', 'analytics', '-infinity')", connection=self.locker)
        self.ask("COMMIT", connection=self.locker)
        self.check("after the seek")
        if self.driver.keeps_connection:    # none of what failed so far is a reason to make another
            self.same("connections since", self.ask("""
                SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> ALL (%s)
                ORDER BY pid
                """, self.own), sorted(at_work))

    def kill_at_work(self):
        """The connection of a consumer ends before its commit: the batch comes again.  Work that is long extends its lease."""
        self.lock()
        self.publish_more(20)
        pid, = self.wait_for("a consumer that is about to store", lambda: self.ask(HELD))[0]
        self.publish_slow()         # somebody is busy with these when the lease of the others expires
        self.ask("SELECT pg_terminate_backend(%s)", pid)
        self.wait_for("the end of a backend", lambda: not self.ask("SELECT 1 FROM pg_stat_activity WHERE pid = %s", pid))
        self.ask("ROLLBACK", connection=self.locker)
        self.check("after a connection was killed at work")
        self.wait_for("a call of extend", lambda: self.ask(
            "SELECT sum(calls) FROM pg_stat_user_functions WHERE funcname = 'extend'")[0][0])

    def publish_slow(self):
        """Two messages in one batch whose work takes longer than a third of a lease."""
        self.ask("""SELECT iotmq.publish_batch('telemetry', '{slow,slow}',
            ARRAY['{"celsius": 1, "pause": 3}', '{"celsius": 2, "pause": 3}']::jsonb[])""")
        self.published += 2

    def kill_idle(self):
        """The connections of consumers that wait for messages end."""
        self.ask("""
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> ALL (%s)
            """, self.own)
        self.publish_more(20)
        self.check("after idle connections were killed")

    def end(self):
        """SIGTERM in the middle of a batch: it is finished."""
        self.lock()
        self.publish_more(20)
        self.wait_for("a consumer that is about to store", lambda: self.ask(HELD))
        for consumer in self.programs:
            consumer.send_signal(signal.SIGTERM)
        consumers, self.programs = self.programs, []
        try:
            time.sleep(0.5)             # who doesn't wait for the end of his batch has ended now
            self.ask("ROLLBACK", connection=self.locker)
            self.same("the consumers' status", [consumer.wait(PATIENCE) not in (0, 143) for consumer in consumers], [False, False])
        finally:
            for consumer in consumers:
                consumer.kill()
        self.check("after SIGTERM")

    # And what must hold --------------------------------------------------------------------

    def lock(self):
        self.ask("BEGIN; LOCK TABLE reading IN SHARE MODE", connection=self.locker)

    def publish_more(self, n):
        self.ask("""
            SELECT iotmq.publish_batch('telemetry', array_agg('pump-' || i), array_agg('{"celsius": 25}'::jsonb))
            FROM generate_series(1, %s) AS i
            """, n)
        self.published += n

    def check(self, when):
        """All is settled, every good message is stored once, the others are dead letters."""
        self.wait_for(f"{when}: the end of all messages", lambda: self.ask(
            "SELECT lag_messages FROM iotmq.group_lag")[0][0] == 0)
        bad = [n for n in range(200) if not 0 < self.celsius(n) < 1000]
        self.same(f"{when}: readings, and of different messages", self.ask(STORED)[0], 2 * (self.published - len(bad),))
        self.same(f"{when}: readings of no message", self.ask("""
            SELECT msg_offset, r.device_id, celsius FROM reading AS r
            LEFT JOIN iotmq_topic.telemetry AS m USING (zone, msg_offset)
            WHERE m.device_id IS DISTINCT FROM r.device_id OR (m.payload->>'celsius')::numeric <> celsius
            """), [])
        dead = self.ask("""
            SELECT m.message_key, attempts, reason FROM iotmq.dead_letter
            JOIN iotmq_topic.telemetry AS m USING (zone, msg_offset) ORDER BY msg_offset
            """)
        self.same(f"{when}: dead letters", [key for key, _, _ in dead], [*map(str, bad), None])
        for key, attempts, reason in dead:
            expected = "not a reading" if key is None else "check constraint" if self.celsius(int(key)) < 0 else "not plausible"
            if attempts != 10 or expected not in reason:
                raise AssertionError(f"{when}: message {key} is dead after {attempts} attempts: {reason}")


def main():
    parser = argparse.ArgumentParser(description="runs the programs of examples/")
    parser.add_argument("--folder", required=True)
    parser.add_argument("drivers", nargs="+", choices=DRIVERS)
    options = parser.parse_args()
    results, skipped = {}, {}

    def run(name):
        trial = None
        try:
            trial = Trial(name, options.folder)
            trial.run()
            results[name] = None
        except Missing as reason:
            skipped[name] = f" # SKIP {reason}"
        except Exception:
            results[name] = traceback.format_exc() + (trial.driver.tail() if trial else "")

    threads = [threading.Thread(target=run, args=(name,)) for name in options.drivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, name in enumerate(options.drivers, 1):
        print(f"{'not ok' if results.get(name) else 'ok'} {number} - {name}{skipped.get(name, '')}")
        if results.get(name):
            print("".join(f"# {line}\n" for line in results[name].splitlines()))
    return 1 if any(results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
