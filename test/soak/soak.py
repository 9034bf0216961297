#!/usr/bin/python3
"""A soak: the load of test/faults for hours, without faults, and what grows meanwhile.

    soak.py --folder DIR [--seconds N] [--seed S]

The load runs in laps of some 75 seconds: publishers, three groups of consumers with nacks,
rejects and lost leases, one of them orderly, a pull reader, redrives, purges, and
maintenance again and again, with a retention of 30 seconds and segments of 5.  After a lap
all is consumed, the checker judges its journal, and the topic is dropped and made anew,
while the connections stay.  Beside it probe.py measures.  For the middle of the first ten
minutes (of the whole, if that is less) a session holds a snapshot.

In DIR/results are then samples.csv, samples.svg and verdict.txt: see sampler.py for the
columns and verdict.py for what is judged.  Times are of the load; what is between two laps
does not count.  The last line is "N passed, N failed".

Runs as who may run PostgreSQL, whose programs are found by PATH, with iotmq in them.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "faults"))

import verdict
from journal import Journal
from load import Load
from picture import picture
from probe import Probe
from sampler import Sampler
from server import Server, adopt_orphans
from session import Session

# Each lap has its own journal, which the checker has in memory as a whole.
LAP = 75
KEEPS = 30
ACTIONS = ("maintain", "maintain", "retries", "redrive", "purge")
SETTINGS = """
shared_buffers = 256MB
max_wal_size = 2GB
"""


class CountingJournal(Journal):
    """Counts what is published and consumed."""

    def __init__(self, path):
        super().__init__(path)
        self.open = {}                  # transaction: messages
        self.published = self.consumed = 0

    def write(self, kind, begin=None, **fields):
        if kind == "publish":
            self.open[fields["xact"]] = sum(not message["undone"] for message in fields["messages"])
        elif kind == "outcome":
            messages = self.open.pop(fields["xact"], 0)
            self.published += messages if fields["result"] == "committed" else 0
        elif kind == "claim" and fields["result"] == "committed":
            self.consumed += len(fields["rows"])
        super().write(kind, begin, **fields)


class Lap(Load):
    """A load whose clients get the connections of the lap before."""

    def __init__(self, soak, journal, number, seconds):
        self.pool = soak.pool
        self.probe, self.number = soak.probe, number
        super().__init__(soak.dsn, journal, soak.seed + number, seconds, actions=ACTIONS, rate=0.3, segment_interval="5 s",
                         keeps=KEEPS, cuts=False, consumers=3, grace=180)

    def session(self, name):
        return self.pool.setdefault(name, Session(self.dsn, name, patience=self.grace))

    def give_back(self, session):
        pass                            # it stays in the pool

    def prepare(self):
        """Transactions that were left prepared are over by now, and so is the topic."""
        if self.own.execute("SELECT 1 FROM iotmq.topic_settings WHERE topic = %s", (self.topic,)):
            self.own.execute("SELECT iotmq.drop_topic(%s, force => true)", (self.topic,))
            self.own.execute(f"DROP TABLE {self.effects}")
        super().prepare()

    def start(self):
        super().start()
        for client in self.probe.clients(self):
            self.clients.append(client)
            client.start()


class Soak:
    def __init__(self, folder, seed, seconds):
        self.folder, self.seed, self.seconds = folder, seed, seconds
        self.results = os.path.join(folder, "results")
        self.pool = {}
        self.interval = min(10, max(1, seconds / 120))
        first = min(seconds, 600)
        self.hold = (first / 4, first * 3 / 4)
        self.holder = None

    def run(self):
        """The lines of the verdict."""
        os.makedirs(self.results)
        server = Server(os.path.join(self.folder, "a"), SETTINGS)
        server.start()
        try:
            server.ask("CREATE DATABASE load")
            server.ask("CREATE EXTENSION iotmq", database="load")
            self.dsn = server.dsn("load")
            self.probe = Probe(self.dsn, self.interval)
            self.sampler = Sampler(self.dsn, self.probe, os.path.join(self.results, "samples.csv"))
            laps = max(2, round(self.seconds / LAP))
            checked = [self.lap(number, laps) for number in range(laps)]
            self.hold_or_release(float("inf"))
            crashes = server.crashes()
        finally:
            for session in self.pool.values():
                session.close()
            server.stop()
        self.sampler.close()
        return verdict.lines(verdict.read(self.sampler.path), checked, crashes)

    def lap(self, number, laps):
        """What the checker says of one: (its summary, violations)."""
        seconds = self.seconds / laps
        path = os.path.join(self.folder, f"journal-{number}")
        journal = CountingJournal(path)
        load = Lap(self, journal, number, seconds)
        load.prepare()
        load.start()
        begin = number * seconds
        self.sampler.start(load)
        while True:
            after = min(seconds, self.sampler.lasted() + self.interval)
            if after < self.sampler.lasted() + self.interval / 2:
                break
            time.sleep(max(0, load.started_at + after - time.monotonic()))
            self.sampler.sample(begin, self.phase(begin + self.sampler.lasted()))
            self.hold_or_release(begin + after)
        load.finish()
        journal.close()
        return self.check(path, number)

    def phase(self, begin):
        """Of a sample that begins then."""
        return "before" if begin < self.hold[0] and not self.holder else "held" if self.holder else "after"

    def hold_or_release(self, moment):
        if self.holder is None and self.hold[0] <= moment < self.hold[1]:
            self.holder = Session(self.dsn, "holder")
            self.holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            self.holder.execute("SELECT pg_current_snapshot()")
        elif self.holder is not None and moment >= self.hold[1]:
            self.holder.execute("SELECT pg_current_snapshot()")     # an error if it was lost
            self.holder.execute("ROLLBACK")
            self.holder.close()
            self.holder = None

    def check(self, path, number):
        """In a process of its own, whose memory is free again then."""
        done = subprocess.run([sys.executable, "-B", os.path.join(HERE, "..", "faults", "checker.py"), path],
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said = done.stdout.splitlines()
        print(f"lap {number}: {', '.join(said[-2:])}", flush=True)
        if done.returncode:
            print("\n".join(said[:60]), flush=True)
            shutil.copy(path, self.results)
        os.remove(path)
        violations = int(said[-1].split()[0]) if said and said[-1].endswith(" violations") else None
        return said[-2] if violations is not None else done.stdout, violations


def main():
    parser = argparse.ArgumentParser(description="a long load, and what grows meanwhile")
    parser.add_argument("--folder", required=True, help="to be made; DIR/results stays there")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    print(f"seed {options.seed}", flush=True)
    adopt_orphans()
    soak = Soak(options.folder, options.seed, options.seconds)
    text = soak.run()
    picture(verdict.read(soak.sampler.path), os.path.join(soak.results, "samples.svg"))
    failed = sum(line.startswith("FAILED") for line in text)
    passed = sum(line.startswith("ok") for line in text)
    text.append(f"{passed} passed, {failed} failed")
    with open(os.path.join(soak.results, "verdict.txt"), "w", encoding="utf-8") as file:
        file.write("\n".join(text) + "\n")
    print("\n".join(text))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
