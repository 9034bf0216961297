#!/usr/bin/python3
"""Calls everything that iotmq offers with random arguments, in random transactions.

    fuzz.py [--rounds N] [--seed N] [--workers N] [--transactions N] [--ddl none|mild|rough]
            [--log SERVERLOG] [--statements WORKER]

Connects as libpq's environment says, as a superuser of a server to throw away.  What
there is to call comes from the catalog.  Each round makes topics anew; workers of several roles
run random transactions on them while another session cancels and terminates them;
then the aftermath is looked at.  A load on a topic of its own runs beside it all, and
the checker of test/faults judges it at the end.

A fault is: an internal error (XX...), a crash, an error that api.md doesn't name, a
success without any right, a session that can't be ended, an aftermath that doesn't
hold, a violation that the checker finds.  With it go the seed of its round and the
statements of its transaction.  Each round's statements depend on its seed alone:
--rounds 1 with that seed runs them again, and --statements prints those of a worker.

The last line is "N faults"; the exit status is 1 if there are any.
"""

import argparse
import os
import random
import re
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "faults"))

import psycopg2  # noqa: E402

import aftermath  # noqa: E402
import checker  # noqa: E402
from journal import Journal, read  # noqa: E402
from load import Load  # noqa: E402
from session import Lost, Session  # noqa: E402
from statements import ROUTINES, VIEWS, Statements  # noqa: E402

TOPICS = ("fuzz", "Fuzz.two", "9-z", "extra", "extra2")
ROLES = ("postgres", "fuzz_admin", "fuzz_pub", 'fuzz "odd" consumer', "fuzz_read", "fuzz_monitor", "fuzz_nobody")

# What api.md promises for bad arguments and states.
PROMISED = {"42704", "42710", "42602", "22023", "22004", "54000", "55000", "55006", "2BP01", "42501", "25001", "25006"}
# What anybody's statement may end with, whatever it calls.
CIRCUMSTANCE = {
    "57014": "cancelled, or statement_timeout", "55P03": "lock_timeout", "40P01": "a deadlock", "40001": "serialization",
    "57P01": "terminated", "53200": "no room in the lock table",
}
# What these statements of ours earn themselves.
OWN = {
    "23502": "INSERT without a device", "23514": "INSERT against a check", "34000": "FETCH after a failed DECLARE",
    "3B001": "a savepoint that was rolled back with an earlier one", "25P02": "goes on in a failed transaction",
    "25P01": "LOCK outside of a transaction",
}
# What is not as promised yet, and why it can't be told from a new fault.
KNOWN = {
    "42P01": "a call meets the drop of its topic or zone: 42704 is promised",
    "P0002": "the same",
}
# Statements of PostgreSQL's own, which may say what they like.
DDL = re.compile("ALTER TABLE|VACUUM|REINDEX|CREATE INDEX|DROP INDEX|CLUSTER|TRUNCATE|LOCK|ANALYZE|COMMENT|(DECLARE .* FOR )?"
                 r"SELECT count\(\*\)")


def identifier(name):
    return '"' + name.replace('"', '""') + '"'


class Faults:
    def __init__(self):
        self.lock = threading.Lock()
        self.count = 0
        self.seen = set()

    def report(self, seed, what, statements=()):
        """Prints a fault; one with the same words only once a round."""
        with self.lock:
            self.count += 1
            if (seed, what[:120]) in self.seen:
                return
            self.seen.add((seed, what[:120]))
            print(f"fault (seed {seed}): {what}")
            for statement in statements:
                print(f"    {statement[:1000]};")
            sys.stdout.flush()


class Worker(threading.Thread):
    """Runs the transactions of one dice as one role."""

    def __init__(self, run, seed, number):
        super().__init__(name=f"fuzz{number}", daemon=True)
        self.run_, self.seed, self.number = run, seed, number
        self.role = ROLES[number % len(ROLES)]
        self.statements = run.statements(seed, number)
        self.session = Session(run.dsn, self.name)
        self.since = None               # when the present statement began
        self.done = []                  # of the present transaction
        self.ends = {}
        self.succeeded = set()          # the functions that did once

    def run(self):
        try:
            for _ in range(self.run_.options.transactions):
                transaction = [text.replace("{worker}", str(self.number)) for text in self.statements.transaction()]
                self.done = []
                try:
                    self.transaction(transaction)
                except Lost:
                    self.lost()
        except Exception as error:      # a fault of the fuzzer must not look like success
            self.run_.faults.report(self.seed, f"worker {self.name} ended: {error!r}", self.done)
        finally:
            self.since = None
            self.session.close()

    def transaction(self, statements):
        self.execute("SET SESSION AUTHORIZATION DEFAULT")
        self.execute(f"SET SESSION AUTHORIZATION {identifier(self.role)}")
        for statement in statements:
            if not self.execute(statement) and self.session.connection.info.transaction_status \
                    == psycopg2.extensions.TRANSACTION_STATUS_INERROR and not statement.startswith("ROLLBACK TO"):
                back = [s for s in statements[statements.index(statement):] if s.startswith("ROLLBACK TO")]
                if not back:
                    break
                self.execute(back[0])
        if self.session.connection.info.transaction_status != psycopg2.extensions.TRANSACTION_STATUS_IDLE:
            self.execute("ROLLBACK")
        self.execute("SET SESSION AUTHORIZATION DEFAULT")
        self.execute("SET statement_timeout = '30s'")
        if statements[-1].startswith("PREPARE"):
            self.execute(("COMMIT" if self.number % 2 else "ROLLBACK") + f" PREPARED 'fuzz {self.number}'")

    def execute(self, statement):
        """False if the server refused it."""
        self.done.append(statement)
        self.since = time.monotonic()
        try:
            self.session.execute(statement)
        except psycopg2.Error as error:
            self.judge(statement, error.pgcode, str(error).strip())
            return False
        finally:
            self.since = None
        self.ends["00000"] = self.ends.get("00000", 0) + 1
        if not statement.startswith("DECLARE"):
            self.succeeded.update(re.findall(r"iotmq\.(\w+)\(", statement)[:1])
        if self.role == "fuzz_nobody" and re.search(r"iotmq(_internal|_segment)?\.", statement) and not statement.startswith(("DECLARE", "DROP INDEX IF EXISTS")):
            self.run_.faults.report(self.seed, "a success without any right", self.done)
        return True

    def judge(self, statement, code, message):
        self.ends[code] = self.ends.get(code, 0) + 1
        expected = code in PROMISED | set(CIRCUMSTANCE) | set(OWN) | set(KNOWN) or DDL.match(statement)
        if code.startswith("XX") or not expected:
            self.run_.faults.report(self.seed, f"{code} {message.splitlines()[0]} [as {self.role}]", self.done)

    def lost(self):
        """The connection is gone: was it the server, or were we terminated?"""
        if not self.run_.was_terminated(self.name):
            self.run_.faults.report(self.seed, f"{self.name} lost its connection and nobody terminated it", self.done)


class Run:
    def __init__(self, options):
        self.options, self.dsn, self.faults = options, "", Faults()
        self.admin = Session(self.dsn, "fuzz administration", "-c lock_timeout=20s")
        self.terminated = {}
        self.read_from = os.path.getsize(options.log) if options.log else 0
        self.ends, self.succeeded = {}, set()
        self.crashed = False

    def was_terminated(self, name):
        return self.terminated.pop(name, 0) > time.monotonic() - 60

    def prepare(self):
        execute = self.admin.execute
        execute("DROP EXTENSION IF EXISTS iotmq CASCADE")
        execute("DROP TABLE IF EXISTS effect_of_load")
        execute("CREATE EXTENSION iotmq")
        execute("DROP SCHEMA IF EXISTS fuzz CASCADE")
        execute("CREATE SCHEMA fuzz")
        execute("GRANT USAGE ON SCHEMA fuzz TO PUBLIC")
        execute("""CREATE FUNCTION fuzz.lease(n int) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS
            'SELECT coalesce((SELECT (array_agg(lease_id ORDER BY lease_id))[1 + n % count(*)]
             FROM iotmq.in_flight WHERE topic <> ''load''), n)'""")
        execute("""CREATE FUNCTION fuzz.dead(n int) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS
            'SELECT coalesce((SELECT (array_agg(id ORDER BY id))[1 + n % count(*)]
             FROM iotmq.dead_letter WHERE topic <> ''load''), n)'""")
        for role in ROLES[1:]:
            quoted = identifier(role)
            if execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)):
                execute(f"DROP OWNED BY {quoted}")
                execute(f"DROP ROLE {quoted}")
            execute(f"CREATE ROLE {quoted}")
        self.routines = execute(ROUTINES)
        self.views = [row[0] for row in execute(VIEWS)]
        execute("SELECT iotmq.grant_admin('fuzz_admin')")

    def statements(self, seed, number):
        # a role that gets rights by chance is no nobody any more
        return Statements(random.Random(f"{seed}/{number}"), self.routines, self.views, TOPICS,
                          [identifier(role) for role in ROLES[:-1]], self.options.ddl,
                          superuser=number % len(ROLES) == 0)

    def make_topics(self):
        execute = self.admin.execute
        for topic in TOPICS[:3]:
            zones = ["z1", "z2"] if topic != "9-z" else ["z1"]
            execute("SELECT iotmq.create_topic(%s, %s, '2 hours', retention_policy => %s, dedup_window => %s)",
                    (topic, zones, "consumed" if topic == "Fuzz.two" else "time", "1 hour" if topic != "9-z" else None))
            for group, mode in (("c", "concurrent"), ("o", "orderly"), ("k", "concurrent")):
                execute("SELECT iotmq.create_group(%s, %s, %s, '-infinity', invisible_for => '200 ms', max_retries => 2, backoff => '{0}')",
                        (topic, group, mode))
            execute("SELECT iotmq.publish_batch(%s, array_fill('d1'::text, ARRAY[30]) || array_fill('d2'::text, ARRAY[30]), "
                    "array_fill('{\"v\": 77}'::jsonb, ARRAY[60]), zone) FROM unnest(%s) AS zone", (topic, zones))
            execute("SELECT iotmq.grant_publish(%s, 'fuzz_pub')", (topic,))
            execute("SELECT iotmq.grant_consume(%s, 'o', %s)", (topic, identifier(ROLES[3])))
            execute("SELECT iotmq.grant_read(%s, 'fuzz_read')", (topic,))
        execute("SELECT iotmq.grant_monitor('fuzz_monitor')")

    def round(self, seed):
        self.make_topics()
        workers = [Worker(self, seed, number) for number in range(self.options.workers)]
        for worker in workers:
            worker.start()
        self.disturb(seed, workers)
        for worker in workers:
            self.succeeded |= worker.succeeded
            for code, count in worker.ends.items():
                self.ends[code] = self.ends.get(code, 0) + count
        unknown = set().union(*(worker.statements.values.unknown for worker in workers))
        if unknown:
            print(f"no values are known for these types, NULL is tried alone: {', '.join(sorted(unknown))}")
        self.read_log(seed)
        if not self.crashed:
            self.look_after(seed)
            self.read_log(seed)

    def disturb(self, seed, workers):
        """Cancels and terminates workers until all have ended; a statement that nothing ends is a fault."""
        dice = random.Random(f"{seed}/disturb")
        while any(worker.is_alive() for worker in workers):
            time.sleep(0.02 + 0.1 * dice.random())
            victim = dice.choice(workers)
            fate = dice.random()
            if fate < 0.3:
                self.end("pg_cancel_backend", victim.name)
            elif fate < 0.33:
                self.terminated[victim.name] = time.monotonic()
                self.end("pg_terminate_backend", victim.name)
            for worker in workers:
                since = worker.since
                if since is not None and time.monotonic() - since > self.options.patience:
                    self.faults.report(seed, f"a statement of {worker.name} goes on after {self.options.patience} seconds", worker.done)
                    self.terminated[worker.name] = time.monotonic()
                    self.end("pg_terminate_backend", worker.name)
                    worker.join(self.options.patience)
                    if worker.is_alive():
                        self.faults.report(seed, f"{worker.name} can't be ended", worker.done)
                        return

    def end(self, function, name):
        try:
            self.admin.execute(f"SELECT {function}(pid) FROM pg_stat_activity WHERE application_name = %s", (name,))
        except Lost:
            pass                        # the server is down: the workers tell

    def look_after(self, seed):
        try:
            execute = self.admin.execute
            for (name,) in execute("SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'fuzz %%'", ()):
                execute(f"ROLLBACK PREPARED '{name}'")
            def look():
                for text in aftermath.look(execute, self.topics_of_fuzz()):
                    self.faults.report(seed, f"aftermath: {text}")
            if not self.load:
                look()
            elif not self.load.checkpoint(look):
                self.faults.report(seed, "the load did not come to rest")
        except Lost:
            self.crashed = True
            self.faults.report(seed, "the server went down in the aftermath")
        except psycopg2.Error as error:
            query = error.cursor.query.decode(errors="replace") if error.cursor and error.cursor.query else ""
            self.faults.report(seed, f"aftermath: {error.pgcode} {str(error).splitlines()[0]}", [query])
            self.drop_all()

    def topics_of_fuzz(self):
        return [row[0] for row in self.admin.execute("SELECT topic FROM iotmq_internal.topic WHERE topic <> 'load'")]

    def drop_all(self):
        for topic in self.topics_of_fuzz():
            self.admin.execute("SELECT iotmq.drop_topic(%s, true)", (topic,))

    def read_log(self, seed):
        """A crash shows in the server's log, with the statement that it was in."""
        if not self.options.log:
            return
        with open(self.options.log, encoding="utf-8", errors="replace") as file:
            file.seek(self.read_from)
            lines = file.read().split("\n")
            self.read_from = file.tell()
        for n, line in enumerate(lines):
            if "terminated by signal" in line or "PANIC:" in line or "TRAP:" in line:
                self.crashed = True
                self.faults.report(seed, line, [lines[n + 1]] if n + 1 < len(lines) else ())

    def run(self):
        self.prepare()
        self.load = None
        folder = tempfile.TemporaryDirectory(prefix="iotmq-fuzz.")
        path = os.path.join(folder.name, "journal")
        if not self.options.no_load:
            journal = Journal(path)
            self.load = Load(self.dsn, journal, self.options.seed, 3600, rate=0.5, publishers=2, consumers=1,
                             actions=("retries", "seek"), prepares=False)
            self.load.retention = "1 hour"
            self.load.prepare()
            self.load.start()
        try:
            for n in range(self.options.rounds):
                self.round(self.options.seed + n)
                if self.crashed:
                    break               # what is left of the round is in the way of the next one
        finally:
            if self.load and self.crashed:
                self.load.stop()
                self.load = None
            if self.load:
                # any run of maintenance may have dropped segments: its time is drawn, too
                journal.write("retention", begin=0, at="any", result="committed")
                self.load.stop_publishing()
                self.load.finish()
        if self.load:
            journal.close()
            history, violations = checker.check(read([path]))
            for violation in violations[:20]:
                self.faults.report(self.options.seed, f"checker: {violation}", checker.story(history, violation))
            print(f"load: {len(history.messages)} messages, {len(history.deliveries)} deliveries, {len(violations)} violations")
        folder.cleanup()
        self.admin.close()
        print("answers: " + ", ".join(f"{code} {count}" for code, count in sorted(self.ends.items(), key=lambda end: -end[1])))
        print("never succeeded: " + (", ".join(sorted({row[0] for row in self.routines} - self.succeeded)) or "none"))
        print(f"{self.faults.count} faults")
        return 1 if self.faults.count else 0


def main():
    parser = argparse.ArgumentParser(description="calls all of iotmq with random arguments")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=9)
    parser.add_argument("--transactions", type=int, default=60, help="of each worker in a round")
    parser.add_argument("--ddl", choices=("none", "mild", "rough"), default="mild")
    parser.add_argument("--log", help="the server's log")
    parser.add_argument("--patience", type=float, default=60, help="seconds after which a statement counts as stuck")
    parser.add_argument("--no-load", action="store_true")
    parser.add_argument("--statements", type=int, metavar="WORKER", help="print the statements of a worker, run nothing")
    options = parser.parse_args()
    run = Run(options)
    print(f"seed {options.seed}, {options.rounds} rounds", flush=True)
    if options.statements is not None:
        run.prepare()
        statements = run.statements(options.seed, options.statements)
        for _ in range(options.transactions):
            print(";\n".join(statements.transaction()) + ";\n")
        return 0
    return run.run()


if __name__ == "__main__":
    sys.exit(main())
