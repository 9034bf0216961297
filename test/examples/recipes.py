#!/usr/bin/python3
"""Runs the recipes of README.md and docs/ beside running publishers and consumers, and counts then.

    recipes.py --folder DIR

A recipe is the block of a page after a line "<!-- recipe: NAME -->".  Each has a function
here, and a database of its own, in which publishers commit and roll back, several
transactions open at once.  What must hold at the end is said by each function: it compares
what the recipe has made with the log.

Connects as libpq's environment says, as a superuser.  Prints a line of TAP for each.
"""

import argparse
import glob
import os
import random
import re
import subprocess
import sys
import threading
import time
import traceback

import psycopg2

from drivers import Driver
from place import Place

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
RECIPE = re.compile(r"^<!-- recipe: ([^\n]*) -->\n+```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LOG = "SELECT zone, msg_offset FROM iotmq_topic.telemetry"


def recipes():
    """{name: text} of all pages"""
    found = {}
    for page in [os.path.join(ROOT, "README.md"), *glob.glob(os.path.join(ROOT, "docs/*.md"))]:
        with open(page, encoding="utf-8") as file:
            for name, _, text in RECIPE.findall(file.read()):
                if name in found:
                    raise AssertionError(f"two recipes are named {name}")
                found[name] = text
    return found


class Kitchen(Place):
    """A topic on which others publish, and programs."""

    def __init__(self, name, folder, texts):
        super().__init__("recipe_" + name.replace(" ", "_"))
        self.folder, self.texts = os.path.join(folder, self.database), texts
        os.mkdir(self.folder)
        self.environment = {**os.environ, "PGDATABASE": self.database}
        self.ask("CREATE EXTENSION iotmq")
        self.ask("SELECT iotmq.create_topic('telemetry')")
        self.threads, self.errors = [], []

    def group(self, name, **settings):
        self.ask(f"SELECT iotmq.create_group('telemetry', %s, start_from => '-infinity', "
                 f"invisible_for => '3 s', backoff => '{{50 ms}}', {', '.join(f'{key} => %s' for key in settings)})"
                 .replace(", )", ")"), name, *settings.values())

    def publish(self, transactions=60, publishers=3, tags=(None,)):
        """Publishers, to be joined by published(); every fifth transaction rolls back."""
        for number in range(publishers):
            thread = threading.Thread(target=self.publisher, args=(number, transactions, tags))
            self.threads.append(thread)
            thread.start()

    def publisher(self, number, transactions, tags):
        try:
            dice = random.Random(number)
            connection = psycopg2.connect(dbname=self.database)
            with connection.cursor() as cursor:
                for n in range(transactions):
                    for _ in range(dice.randint(1, 4)):
                        cursor.execute("SELECT iotmq.publish('telemetry', %s, %s, tag => %s)",
                                       (f"pump-{dice.randint(1, 9)}", f'{{"celsius": {n}}}', dice.choice(tags)))
                        time.sleep(dice.uniform(0, 0.02))
                    if dice.random() < 0.2:
                        connection.rollback()
                    else:
                        connection.commit()
            connection.close()
        except Exception:
            self.errors.append(traceback.format_exc())

    def published(self):
        """All is published now."""
        for thread in self.threads:
            thread.join()
        self.threads = []
        if self.errors:
            raise AssertionError(self.errors[0])

    def publishing(self):
        return any(thread.is_alive() for thread in self.threads)

    def file(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def start(self, path, output):
        """A program of Python; its standard output is appended to a file."""
        with open(os.path.join(self.folder, output), "a", encoding="utf-8") as out, \
                open(os.path.join(self.folder, "log"), "a", encoding="utf-8") as log:
            return subprocess.Popen(["/usr/bin/python3", "-u", path], cwd=self.folder, env=self.environment, stdout=out, stderr=log)

    def psql(self, text):
        """Runs SQL as psql does, to the end."""
        with open(os.path.join(self.folder, "log"), "a", encoding="utf-8") as log:
            return subprocess.run(["psql", "-qX", "-v", "ON_ERROR_STOP=1"], input=text, text=True, env=self.environment,
                                  stdout=log, stderr=log).returncode

    def settled(self, *groups):
        self.wait_for("the end of all messages", lambda: self.ask(
            "SELECT sum(lag_messages) FROM iotmq.group_lag WHERE consumer_group = ANY (%s)", list(groups))[0][0] == 0)

    def lines(self, name):
        with open(os.path.join(self.folder, name), encoding="utf-8") as file:
            return file.read().splitlines()

    def log(self):
        return sorted(self.ask(LOG))


# What a consumer works with: it waits as long as the lock is held, and fails for some.
WORK = """
def work(payload):
    cursor.execute("SELECT pg_advisory_xact_lock_shared(1)")
    if payload["celsius"] == 7:
        raise ValueError("seven\\0again")
"""


# The recipes ------------------------------------------------------------------------------


def consumer(kitchen, text):
    """Survives a seek, and a message that fails with a NUL in the reason: that one is a dead letter, the others were worked on."""
    work = re.compile(r"print\(zone, msg_offset, device_id, payload\)( +# the work)")
    if len(work.findall(text)) != 1:
        raise AssertionError("the line with the work is another one")
    text = work.sub(r"print(zone, msg_offset, f'{work(payload)}')\1", text)
    text = text.replace("while True:", WORK + "\nwhile True:")
    kitchen.group("alarms", max_retries=2)
    path = kitchen.file("consumer.py", text)
    other = kitchen.connect(kitchen.database)
    for round in range(5):
        kitchen.publish(20)
        kitchen.ask("SELECT pg_advisory_lock(1)", connection=other)
        if round == 0:
            kitchen.programs = [kitchen.start(path, f"worked{n}") for n in range(2)]
        kitchen.wait_for("a consumer at work", lambda: kitchen.ask("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
        kitchen.ask("SELECT iotmq.seek('telemetry', 'alarms', '-infinity')")
        kitchen.ask("SELECT pg_advisory_unlock(1)", connection=other)
        kitchen.published()
    kitchen.settled("alarms")
    output = kitchen.lines("worked0") + kitchen.lines("worked1")
    if sum("taken over or moved" in line for line in output) < 5:
        raise AssertionError("the seeks ended no lease")
    failing = sorted(kitchen.ask(LOG + " WHERE payload->>'celsius' = '7'"))
    worked = {("default", int(line.split()[1])) for line in output if line.startswith("default")}
    kitchen.same("what was worked on", sorted(worked), sorted(set(kitchen.log()) - set(failing)))
    kitchen.same("dead letters", sorted(kitchen.ask(
        "SELECT DISTINCT zone, msg_offset FROM iotmq.dead_letter WHERE reason = 'sevenagain'")), failing)


def exactly_once(kitchen, text):
    """Three workers; their connections are killed now and then.  The sums are those of the log."""
    kitchen.group("analytics", max_retries=100)
    kitchen.ask("""CREATE TABLE device_day (device_id text, day date, readings bigint, hottest numeric,
        PRIMARY KEY (device_id, day))""")
    kitchen.publish()
    done = threading.Event()

    def worker():
        while not done.is_set():
            kitchen.psql(text)

    workers = [threading.Thread(target=worker) for _ in range(3)]
    for thread in workers:
        thread.start()
    try:
        while kitchen.publishing():
            time.sleep(0.3)
            kitchen.ask("""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'psql' ORDER BY random() LIMIT 1""")
        kitchen.published()
        kitchen.settled("analytics")
    finally:
        done.set()
        for thread in workers:
            thread.join()
    kitchen.same("sums", kitchen.ask("SELECT device_id, sum(readings) FROM device_day GROUP BY device_id ORDER BY device_id"),
                 kitchen.ask("SELECT device_id, count(*)::numeric FROM iotmq_topic.telemetry GROUP BY device_id ORDER BY device_id"))


def replay(kitchen, text):
    """Again and again, beside two consumers that store: each message is stored once in the end."""
    kitchen.group("analytics", max_retries=100)
    kitchen.ask("CREATE TABLE reading (zone text, msg_offset bigint, device_id text, celsius numeric)")
    replay_meets_commit(kitchen, text)
    driver = Driver("psycopg2", kitchen.folder, kitchen.database)
    driver.prepare()
    kitchen.programs = [driver.start(driver.consumer) for _ in range(3)]
    kitchen.publish()
    replays = 0
    while kitchen.publishing() or replays < 20:
        kitchen.wait_for("something stored", lambda: kitchen.ask("SELECT 1 FROM reading LIMIT 1"))
        kitchen.same("psql's status", kitchen.psql(text), 0)
        replays += 1
    kitchen.published()
    kitchen.settled("analytics")
    kitchen.same("readings", sorted(kitchen.ask("SELECT zone, msg_offset FROM reading")), kitchen.log())


def replay_meets_commit(kitchen, text):
    """It begins while a consumer has stored and settled, and not yet committed."""
    kitchen.ask("SELECT iotmq.publish('telemetry', 'pump-1', '{\"celsius\": 1}')")
    consumer = kitchen.connect(kitchen.database)
    lease, = kitchen.ask("SELECT lease_id FROM iotmq.consume('telemetry', 'analytics')", connection=consumer)
    kitchen.ask("BEGIN; INSERT INTO reading VALUES ('default', 1, 'pump-1', 1)", connection=consumer)
    kitchen.ask("SELECT iotmq.ack(%s)", *lease, connection=consumer)
    thread = threading.Thread(target=kitchen.psql, args=(text,))
    thread.start()
    kitchen.wait_for("a replay that waits", lambda: kitchen.ask(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"))
    kitchen.ask("COMMIT", connection=consumer)
    thread.join()


def archive(kitchen, text):
    """Killed at any moment, and started again: each message is in the files once."""
    kitchen.group("archive")
    path = kitchen.file("archive.py", text)
    kitchen.publish()
    dice = random.Random(1)
    while kitchen.publishing():
        program = kitchen.start(path, "output")
        try:
            program.wait(dice.uniform(0.1, 1))
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
    kitchen.published()
    kitchen.same("the status of the last one", kitchen.start(path, "output").wait(), 0)
    rows = [line for name in glob.glob(os.path.join(kitchen.folder, "*.tsv")) for line in kitchen.lines(name)]
    kitchen.same("offsets in the files", sorted(("default", int(row.split("\t")[0])) for row in rows), kitchen.log())


def from_monday(kitchen, text):
    """Made while others publish, also in transactions that are open: it gets all of the week."""
    kitchen.publish()
    kitchen.wait_for("some messages", lambda: len(kitchen.log()) > 20)
    kitchen.same("psql's status", kitchen.psql(text), 0)
    kitchen.published()
    got = []
    while kitchen.ask("SELECT lag_messages FROM iotmq.group_lag")[0][0]:
        rows = kitchen.ask("SELECT zone, msg_offset, lease_id FROM iotmq.consume('telemetry', 'forecast')")
        got += [row[:2] for row in rows]
        if rows:
            kitchen.ask("SELECT iotmq.ack(%s)", rows[0][2])
    kitchen.same("what the group got", sorted(got), kitchen.log())


def delayed(kitchen, text):
    """Several schedulers at once, of which some are killed: each message comes once, and none before its time."""
    kitchen.same("psql's status", kitchen.psql(text), 0)
    kitchen.ask("""INSERT INTO delayed (due_at, device_id, payload)
        SELECT now() + i % 5 * interval '500 ms', 'pump-' || i % 9, jsonb_build_object('n', i, 'due', now() + i % 5 * interval '500 ms')
        FROM generate_series(1, 5000) AS i""")
    kitchen.ask("INSERT INTO delayed (due_at, device_id, payload) VALUES (now() + interval '1 day', 'pump-1', '{}')")
    done = threading.Event()

    def scheduler():
        while not done.is_set():
            kitchen.psql("CALL publish_due();")

    schedulers = [threading.Thread(target=scheduler) for _ in range(3)]
    for thread in schedulers:
        thread.start()
    try:
        until = time.monotonic() + 2
        while time.monotonic() < until:
            time.sleep(0.2)
            kitchen.ask("""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'psql' ORDER BY random() LIMIT 1""")
        kitchen.wait_for("all that was due", lambda: kitchen.ask("SELECT count(*) FROM delayed")[0][0] == 1)
    finally:
        done.set()
        for thread in schedulers:
            thread.join()
    kitchen.same("messages, different ones, and those that came too early", kitchen.ask("""
        SELECT count(*), count(DISTINCT payload->>'n'), count(*) FILTER (WHERE published_at < (payload->>'due')::timestamptz)
        FROM iotmq_topic.telemetry""")[0], (5000, 5000, 0))


def priorities(kitchen, groups, text):
    """Of a backlog what is urgent comes first; beside publishers each message is worked on."""
    kitchen.same("psql's status", kitchen.psql(groups), 0)
    for name in ("urgent", "normal"):
        kitchen.ask("SELECT iotmq.alter_group('telemetry', %s, invisible_for => '3 s')", name)
    for tag, messages in ("normal", 400), ("urgent", 40):
        kitchen.ask("""SELECT iotmq.publish_batch('telemetry', array_agg('pump-1'::text), array_agg('{"celsius": 1}'::jsonb),
            tags => array_agg(%s::text)) FROM generate_series(1, %s)""", tag, messages)
    path = kitchen.file("worker.py", text)
    kitchen.programs = [kitchen.start(path, "worked")]
    kitchen.settled("urgent", "normal")
    worked = [int(line.split()[1]) for line in kitchen.lines("worked")]
    kitchen.same("what was worked on", sorted(worked), list(range(1, 441)))
    # a call may pass over what it doesn't want and end without a row: then some that are normal go first
    last_urgent = max(place for place, offset in enumerate(worked) if offset > 400)
    if last_urgent > 240:
        raise AssertionError(f"the last urgent message was worked on as number {last_urgent} of 440")
    kitchen.programs.append(kitchen.start(path, "worked by another"))
    kitchen.publish(tags=("urgent", "normal"))
    for _ in range(5):
        kitchen.ask("SELECT iotmq.seek('telemetry', 'urgent', '-infinity')")
        time.sleep(0.2)
    kitchen.published()
    kitchen.settled("urgent", "normal")
    worked = {("default", int(line.split()[1])) for line in kitchen.lines("worked") + kitchen.lines("worked by another")
              if line.startswith("default")}
    kitchen.same("what was worked on beside publishers", sorted(worked), kitchen.log())


TRIED = {
    "consumer": (consumer, "consumer"),
    "exactly once": (exactly_once, "exactly once"),
    "replay": (replay, "replay"),
    "archive": (archive, "archive"),
    "from monday": (from_monday, "from monday"),
    "delayed": (delayed, "delayed"),
    "priorities": (priorities, "priority groups", "priority worker"),
}


def main():
    parser = argparse.ArgumentParser(description="runs the recipes of the pages")
    parser.add_argument("--folder", required=True)
    parser.add_argument("names", nargs="*", default=list(TRIED))
    options = parser.parse_args()
    texts = recipes()
    results = {"every recipe of the pages is tried": None}
    tried = {name for _, *names in TRIED.values() for name in names}
    if tried != set(texts):
        results["every recipe of the pages is tried"] = f"pages: {sorted(texts)}, here: {sorted(tried)}"

    def run(name):
        kitchen = None
        try:
            kitchen = Kitchen(name, options.folder, texts)
            function, *names = TRIED[name]
            function(kitchen, *(texts[name] for name in names))
            results[name] = None
        except Exception:
            results[name] = traceback.format_exc()
        finally:
            if kitchen:
                kitchen.stop()

    threads = [threading.Thread(target=run, args=(name,)) for name in options.names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, (name, error) in enumerate(results.items(), 1):
        print(f"{'not ok' if error else 'ok'} {number} - {name}")
        if error:
            print("".join(f"# {line}\n" for line in error.splitlines()))
    return 1 if any(results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
