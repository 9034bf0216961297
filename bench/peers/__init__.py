"""The systems that stand beside iotmq in one run: an adapter each, a file each.

A module of this folder has a class System:

    NAME            what tables and plots call it
    DURABILITY      what it has done when it confirms a message, and an acknowledgement
    missing()       why it can't run here, "" if it can
    start(folder)   starts it, with all its files below the folder and ports of its own
    stop()
    fresh(groups)   a queue that is empty, read by so many groups that are numbered from 0
    load(n, messages, seconds)
                    publishes so many, or as many as go in that time, and returns how many; n is
                    what a reader will take at once
    publisher(n)    a connection: publish() sends n messages, and returns when all are confirmed
    reader(group)   a connection: take(n, wait) returns how many messages have come, n at most,
                    after wait seconds at the latest; settle() acknowledges them
    close()         of both: ends the connection

load is for all the same, except where readers can't choose: see Loading.

What publishers send is put together before the clock starts, and readers look only at what an
acknowledgement needs: a client in Python should cost little. One connection belongs to one
process. The systems in PostgreSQL share the run's cluster, each in a database of its own.
"""

import contextlib
import importlib
import os
import time

import bench

# The order of the legends.
NAMES = ["iotmq", "bare", "skip_locked", "pgq", "pgmq", "pgque", "redis", "rabbitmq", "nats"]


class Loading:
    """load() in batches of 1,000"""

    def load(self, n, messages, seconds):
        publisher = self.publisher(1000)
        end = time.monotonic() + seconds
        loaded = 0
        while loaded < messages and time.monotonic() < end:
            publisher.publish()
            loaded += 1000
        publisher.close()
        return loaded


@contextlib.contextmanager
def running(folder, names):
    """those of the systems that can run here, started: {name: System}"""
    wanted = os.environ.get("PEERS", "").replace(",", " ").split() or NAMES
    unknown = set(wanted) - set(NAMES)
    if unknown:
        raise SystemExit(f"no peer {', '.join(sorted(unknown))}; there are: {', '.join(NAMES)}")
    with contextlib.ExitStack() as stack:
        systems = {}
        for name in (name for name in NAMES if name in names and name in wanted):
            system = importlib.import_module("peers." + name).System()
            reason = system.missing()
            if reason:
                bench.say(f"{system.NAME}: left out, {reason}")
                continue
            stack.callback(system.stop)
            system.start(os.path.join(folder, name))
            systems[name] = system
        yield systems
