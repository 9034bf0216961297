#!/usr/bin/python3
"""A load on one topic with all that its clients may do, noted in a journal.

    load.py --journal FILE [--seed N] [--seconds N] [--actions seek,redrive...] [--check]

Connects as libpq's environment says, as a superuser, and makes the topic and the table
of effects.  Four publishers, three groups with their consumers (one orderly), a pull
reader, an administrator and a watcher work for that many seconds, with stops to count;
then all is consumed, the dead letters once more, and the topic is read.  As a library:

    load = Load(dsn, journal, seed, seconds)
    load.prepare(); load.start()
    ...                             what the run is about: kills, promotions, full disks
    load.checkpoint()               if wanted: all stand still and the topic is read
    load.finish()

Each client is a thread and draws from a dice of its own, made of the seed and its name.
Nothing stays behind: threads end with finish(), connections with them.
"""

import argparse
import sys
import threading
import time

import checker
import recount
from administrator import ACTIONS, Administrator
from consumer import Consumer, Puller, fetch
from journal import Journal, read
from publisher import Publisher, resolve
from session import Lost, Session
from watcher import Watcher

GROUPS = {
    "some": {"tags": ["alarm", "temperature"], "above": 20, "start": "earliest"},
    "all": {"start": "earliest"},
    "orderly": {"mode": "orderly", "start": "earliest"},
    "pull": {"start": "earliest", "pull": True},
}
SHORT = {"invisible_for": 0.5, "max_retries": 4}       # so that all of it happens within seconds
BACKOFF = "{0,10 ms,50 ms}"
CALM = ("maintain", "retries", "zone")


class Load:
    def __init__(self, dsn, journal, seed, seconds, topic="load", actions=CALM, publishers=4, consumers=3, rate=1.0,
                 prepares=True, segment_interval="1 s", just_in_time=False, grace=60, keeps=None, cuts=True):
        self.dsn, self.journal, self.seed, self.seconds, self.topic = dsn, journal, seed, seconds, topic
        self.actions, self.rate, self.prepares, self.grace = actions, rate, prepares, grace
        self.publishers, self.consumers = publishers, consumers
        self.keeps = keeps              # seconds of retention; None: nothing is dropped within the load
        self.cuts = cuts                # whether clients are gone now and then, and come with another connection
        self.zones, self.devices, self.groups = ["z1", "z2", "z3"], 40, GROUPS
        self.invisible_for = SHORT["invisible_for"]
        self.retention, self.segment_interval, self.just_in_time = "1 hour", segment_interval, just_in_time
        if keeps is not None:
            self.retention = f"{keeps} s"
        self.stopping = self.quiet = self.consumed = self.paused = False
        self.effects = f"effect_of_{topic}"
        self.clients = []
        self.turn = threading.Condition()
        self.waiting = set()
        self.jumps = False              # whether the server's clock does
        self.started_at = time.monotonic()
        self.own = Session(dsn, "load", patience=grace)

    # Before and after --------------------------------------------------------------------

    def prepare(self):
        execute = self.own.execute
        execute(f"CREATE TABLE {self.effects} (consumer_group text, id text, lease_id bigint)")
        self.note("topic", "SELECT iotmq.create_topic(%s, %s, retention => %s, segment_interval => %s, dedup_window => %s)",
                  (self.topic, self.zones, self.retention, self.segment_interval, self.retention), zones=self.zones, action="create")
        for name, given in self.groups.items():
            self.create_group(self.note, name, given)
        if self.just_in_time:
            self.drop_segments_ahead()
        self.tables = {zone: execute("SELECT iotmq.zone_table(%s, %s)::text", (self.topic, zone))[0][0] for zone in self.zones}

    def drop_segments_ahead(self):
        """Publishers make the segments themselves, as long as maintenance doesn't run."""
        for (table,) in self.own.execute("""DELETE FROM iotmq_internal.segment WHERE from_time > clock_timestamp() + interval '2 s'
                AND zone_id IN (SELECT z.zone_id FROM iotmq_internal.zone AS z JOIN iotmq_internal.topic AS t USING (topic_id) WHERE t.topic = %s)
                RETURNING table_name::text""", (self.topic,)):
            self.own.execute(f"DROP TABLE {table}")

    def note(self, kind, statement, args, **fields):
        begin = time.monotonic()
        rows = self.own.execute(statement, args)
        self.journal.write(kind, begin, topic=self.topic, **fields, result="committed")
        return rows

    def create_group(self, do, name, given):
        settings = {"mode": "concurrent", "tags": None, "above": None, **SHORT, **given}
        do("group", "SELECT iotmq.create_group(%s, %s, %s, %s, %s, %s, %s, %s, %s)",
           (self.topic, name, settings["mode"], "-infinity" if settings["start"] == "earliest" else "infinity",
            "*" if settings["tags"] is None else " || ".join(settings["tags"]),
            None if settings["above"] is None else f"$.v > {settings['above']}",
            f"{settings['invisible_for']} s", settings["max_retries"], BACKOFF),
           group=name, action="create", settings=settings)

    def has_group(self, name):
        """Whether there is such a group."""
        return bool(self.own.execute("SELECT 1 FROM iotmq.group_lag WHERE topic = %s AND consumer_group = %s", (self.topic, name)))

    def start(self):
        self.started_at = time.monotonic()
        self.clients = [Publisher(self, f"publisher{n}") for n in range(self.publishers)]
        for name, given in self.groups.items():
            if given.get("pull"):
                self.clients.append(Puller(self, name, name))
            else:
                self.clients += [Consumer(self, f"{name}{n}", name) for n in range(self.consumers)]
        if self.actions:
            self.clients.append(Administrator(self, "administrator", self.actions))
        self.watcher = Watcher(self, "watcher")
        self.clients.append(self.watcher)
        for client in self.clients:
            client.start()

    def stop_publishing(self):
        """The load ends before its time."""
        self.seconds = time.monotonic() - self.started_at

    def finish(self):
        """All is published: consumes to the end, then all dead letters once more, and ends."""
        try:
            while not self.published():
                time.sleep(0.05)
            self.quiet = True           # from here on nobody fails on purpose
            self.settle_down()
            if self.consume_all():
                for name, given in self.groups.items():
                    if not given.get("pull"):
                        self.note("redrive", "SELECT iotmq.redrive(%s, %s)", (self.topic, name), group=name)
                self.consume_all()
            self.consumed = True
            if not self.wait_for(lambda: all(client.resting for client in self.clients if client is not self.watcher)):
                self.journal.write("stuck", lag=self.lag())
        finally:
            self.stop()
        self.read_all()
        self.own.close()

    def stop(self):
        """Ends all clients."""
        self.stopping = True
        with self.turn:
            self.turn.notify_all()
        for client in self.clients:
            client.join(10)
        for client in self.clients:
            if client.is_alive():
                self.journal.write("error", sqlstate="client", message="did not end", statement=client.name)

    def consume_all(self):
        """Waits until nothing is left to consume; pull readers may stand before holes.  False: it never came."""
        done = self.wait_for(lambda: not any(messages for group, messages in self.lag().items()
                                             if not self.groups.get(group, {"pull": True}).get("pull")))
        if not done:
            self.journal.write("stuck", lag=self.lag())
        return done

    def settle_down(self):
        """The publishers end, what they left prepared is committed."""
        self.wait_for(lambda: all(c.resting for c in self.clients if isinstance(c, (Publisher, Administrator))))
        while True:
            try:
                resolve(self.own, self.journal)
                return
            except Lost:
                pass

    def wait_for(self, condition):
        until = time.monotonic() + self.grace
        while True:
            try:
                if condition():
                    return True
            except Lost:
                pass                    # the next look connects anew
            if time.monotonic() > until:
                return False
            time.sleep(0.05)

    # What clients ask ------------------------------------------------------------------------

    def session(self, name):
        """The connection of a client; a run of several loads may keep it for the next one."""
        return Session(self.dsn, name, patience=self.grace)

    def give_back(self, session):
        """The client needs it no more."""
        session.close()

    def published(self):
        return time.monotonic() > self.started_at + self.seconds

    def lag(self):
        return dict(self.own.execute("SELECT consumer_group, lag_messages FROM iotmq.group_lag WHERE topic = %s", (self.topic,)))

    # Standing still ------------------------------------------------------------------------------

    def gate(self, client):
        """Between two steps a client waits here while the load stands still."""
        if not self.paused:
            return
        with self.turn:
            self.waiting.add(client)
            self.turn.notify_all()
            self.turn.wait_for(lambda: not self.paused or self.stopping)
            self.waiting.discard(client)

    def checkpoint(self, also=lambda: None):
        """Lets everybody stand still, reads the topic and does that, too.  False: they didn't come to rest."""
        self.pause()
        with self.turn:
            still = self.turn.wait_for(
                lambda: all(c in self.waiting or c.resting for c in self.clients), timeout=self.grace)
        try:
            if still:
                resolve(self.own, self.journal)
                self.read_all(last=False)
                also()
            return still
        finally:
            self.go_on()

    def pause(self):
        """Everybody stands still after his step."""
        with self.turn:
            self.paused = True

    def go_on(self):
        with self.turn:
            self.paused = False
            self.turn.notify_all()

    def read_all(self, last=True):
        begin = time.monotonic()
        execute = self.own.execute
        pull_groups = {name for name, given in self.groups.items() if given.get("pull")}
        state = recount.read(execute, self.topic, pull_groups)
        state["effects"] = [list(row) for row in execute(f"SELECT consumer_group, id, lease_id FROM {self.effects}")]
        self.journal.write("state", begin, **state)
        if last:
            for zone in self.zones:
                position = 0
                while True:
                    rows = fetch(self.own, self.journal, self.topic, zone, position, 10000)
                    if not rows:
                        break
                    position = rows[-1]["offset"] + 1
        wrong = recount.compare(execute)
        self.journal.write("figures", begin, wrong=wrong)


def main():
    parser = argparse.ArgumentParser(description="puts a load on a topic and notes what happens")
    parser.add_argument("--journal", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--topic", default="load")
    parser.add_argument("--actions", default=",".join(CALM), help="of " + ",".join(ACTIONS))
    parser.add_argument("--checkpoints", type=int, default=2)
    parser.add_argument("--just-in-time", action="store_true", help="publishers make the segments")
    parser.add_argument("--check", action="store_true", help="judge the journal then")
    options = parser.parse_args()
    actions = tuple(name for name in options.actions.split(",") if name)
    unknown = set(actions) - set(ACTIONS)
    if unknown:
        parser.error(f"no such actions: {', '.join(sorted(unknown))}")

    print(f"seed {options.seed}", flush=True)
    journal = Journal(options.journal)
    load = Load("", journal, options.seed, options.seconds, options.topic, actions, just_in_time=options.just_in_time)
    load.prepare()
    load.start()
    for n in range(options.checkpoints):
        time.sleep(options.seconds / (options.checkpoints + 1))
        if not load.checkpoint():
            print(f"checkpoint {n + 1}: the clients did not come to rest")
    load.finish()
    journal.close()
    if not options.check:
        return 0
    status = checker.main([options.journal])
    idle = never_happened(read([options.journal]), options.seconds)
    for what in idle:
        print(f"never happened: {what}")
    return status or bool(idle)


def never_happened(events, seconds):
    """What a load of some seconds has to have seen, or it means nothing."""
    seen = set()
    messages = 0
    for event in events:
        kind, result = event["kind"], event.get("result")
        seen.add((kind, result))
        if kind == "settle":
            seen.add((event.get("by", event["verb"]), result))
        elif kind == "publish":
            messages += len(event["messages"])
            seen |= {"undone" for message in event["messages"] if message["undone"]}
        elif kind == "claim" and any(row["attempt"] > 1 for row in event["rows"]):
            seen.add("repeat")
    wanted = {("outcome", "committed"), ("outcome", "rolled back"), "undone", ("claim", "committed"), ("claim", "rolled back"),
              ("ack", "committed"), ("nack", "committed"), ("reject", "committed"), ("ack", "refused"), ("settle", "committed"), ("consume", "committed"), ("fetch", None),
              ("extend", "committed"), "repeat", ("leases", None), ("state", None)}
    return [str(what) for what in sorted(wanted - seen, key=str)] + (
        [f"more than {messages} messages"] if messages < 50 * seconds else [])


if __name__ == "__main__":
    sys.exit(main())
