#!/usr/bin/python3
"""Faults under load, in rounds: each has a server of its own, a load, and one kind of fault.

    faults.py --folder DIR [--rounds N] [--seed S] [--fault NAME,...] [--seconds N] [--keep]

Round n has the seed S + n, which draws all but the timing, and the (S + n)th kind of fault
of strikes.py, or of those named.  Beside the load an administrator seeks, redrives, changes
modes and filters, makes and drops zones and groups; somebody rebuilds catalogs, and
somebody holds a snapshot.  Then the checker judges.  The last line is "N passed, N failed".

Runs as who may run PostgreSQL, whose programs are found by PATH, with iotmq in them.
"""

import argparse
import os
import random
import shutil
import sys
import time

import checker
import recovery
from consumer import Keeper
from dba import Reader, Rebuilder
from journal import Journal, read
from load import Load
from server import adopt_orphans
from strikes import STRIKES, Unavailable

ACTIONS = ("maintain", "retries", "seek", "seek_offset", "redrive", "purge", "tags", "mode", "zone", "group")


class Round:
    def __init__(self, folder, seed, fault, seconds):
        self.folder, self.seed, self.fault, self.seconds = folder, seed, fault, seconds
        self.dice = random.Random(f"{seed}/faults")
        self.retired, self.hung = [], []

    def run(self):
        """The violations, and what else was wrong."""
        os.makedirs(self.folder)
        path = os.path.join(self.folder, "journal")
        self.journal = Journal(path)
        strike = STRIKES[self.fault](self)
        self.server = strike.make_server()
        try:
            self.server.ask("CREATE DATABASE load")
            self.server.ask("CREATE EXTENSION iotmq", database="load")
            self.dsn = strike.dsn()
            load = self.load = Load(self.dsn, self.journal, self.seed, self.seconds, actions=ACTIONS, publishers=4,
                                    consumers=2, prepares=strike.prepares, grace=90)
            load.jumps = strike.jumps
            load.prepare()
            load.start()
            for client in (Rebuilder(load, "rebuilder"), Reader(load, "reader"), Keeper(load, "keeper")):
                load.clients.append(client)
                client.start()
            self.strike(strike)
            load.finish()
            strike.finish()
            crashes = [line for server in (self.server, *self.retired) for line in server.crashes()]
        finally:
            strike.clean_up()
            for server in (self.server, *self.retired):
                server.stop("immediate")
        self.journal.close()
        self.history, violations = checker.check(read([path]))
        return violations, crashes

    def strike(self, strike):
        """Spread over the time of the load, at random."""
        moments = sorted(self.dice.uniform(0.15, 0.9) * self.seconds for _ in range(strike.times))
        for moment in moments:
            time.sleep(max(0, self.load.started_at + moment - time.monotonic()))
            strike.strike()


def kinds(text):
    names = text.split(",")
    unknown = set(names) - set(STRIKES)
    if unknown:
        raise argparse.ArgumentTypeError(f"no such faults: {', '.join(sorted(unknown))}")
    return names


def main():
    parser = argparse.ArgumentParser(description="faults under load")
    parser.add_argument("--folder", required=True, help="to be made, and removed at the end")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fault", type=kinds, default=list(STRIKES), help="one or more of " + ",".join(STRIKES))
    parser.add_argument("--seconds", type=float, default=6, help="of load in a round")
    parser.add_argument("--keep", action="store_true", help="the folders of failed rounds stay")
    options = parser.parse_args()

    adopt_orphans()
    passed = failed = 0
    for seed in range(options.seed, options.seed + options.rounds):
        fault = options.fault[seed % len(options.fault)]
        folder = os.path.join(options.folder, str(seed))
        a_round = Round(folder, seed, fault, options.seconds)
        wrong = []
        try:
            violations, wrong = a_round.run()
            for violation in violations[:10]:
                print(violation)
                for line in checker.story(a_round.history, violation):
                    print(f"    {line}")
            figures = (f"{len(a_round.history.messages)} messages, {len(a_round.history.deliveries)} deliveries, "
                       f"{len(list(recovery.lost(a_round.history)))} lost, {len(violations)} violations")
            wrong += [str(violation) for violation in violations[:1]]
        except Unavailable as reason:
            print(f"round {seed} {fault}: left out, {reason}", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            continue
        except Exception as error:      # a fault of the driver is a failure, too
            figures, wrong = repr(error), [repr(error)]
        print(f"round {seed} {fault}: {figures}", flush=True)
        for line in wrong:
            print(f"    {line}")
        failed += bool(wrong)
        passed += not wrong
        if not (wrong and options.keep):
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
