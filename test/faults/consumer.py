"""Consumers that fail in every way, pull readers, and a reader that keeps its own positions."""

import re
import time

import psycopg2

from client import Client
from session import Lost

CLAIM = """SELECT lease_id, zone, msg_offset, payload ->> 'id', device_id, tag, attempt
FROM iotmq.consume(%s, %s, %s, invisible_for => %s, wait => %s, consumer => %s, ack_lease => %s)"""


class Consumer(Client):
    """Consumes for a group: settles all or parts, with effects or without, by ack, nack,
    reject, settle or the next consume, stalls past the deadline, forgets, rolls back, or is
    gone in the middle."""

    def __init__(self, load, name, group):
        super().__init__(load, name)
        self.group = group
        self.expected = self.expected | {"55000"}
        self.unacked = None             # the claim whose lease the next one acknowledges

    def finished(self):
        return self.load.stopping or self.load.consumed

    def step(self):
        quiet = self.load.quiet
        claim = self.claim(quiet)
        if claim is None:
            return
        self.open = [row["offset"] for row in claim["rows"]]
        self.claimed = claim
        while self.open:
            fate = 1 if quiet else self.dice.random()
            if fate < 0.01 and self.load.cuts:
                self.session.cut()
                return
            if fate < 0.03:
                return                  # forgets the rest
            if fate < 0.05:
                time.sleep(self.dice.random() * 2 * self.load.invisible_for)
            elif fate < 0.08:
                self.extend()
            if self.chance(0.15):
                self.unacked = claim
                return
            if not self.settle(quiet):
                return

    def claim(self, quiet):
        """The event of a claim that is committed and has rows, else None."""
        most = 1 + int((200 if quiet else 60) * self.dice.random() ** 2)
        invisible_for = None
        if not quiet and self.chance(0.1):
            invisible_for = self.dice.choice((0.05, 0.3, 2))
        wait = self.dice.choice((None, "20 ms", "200 ms"))
        own = not quiet and self.chance(0.15)      # in a transaction of its own
        unacked, self.unacked = self.unacked, None
        args = (self.topic, self.group, most, None if invisible_for is None else f"{invisible_for} s", wait, self.name,
                unacked and unacked["lease"])
        fields = {"topic": self.topic, "group": self.group, "lease": None, "zone": None, "most": most,
                  "invisible_for": invisible_for, "rows": []}
        begin = time.monotonic()
        try:
            if own:
                self.session.execute("BEGIN")
            rows = self.session.execute(CLAIM, args)
            result = "committed"
            if own:
                self.pause(0.05)
                if self.chance(0.3):
                    self.session.rollback()
                    result = "rolled back"
                else:
                    result = self.session.commit()
        except Lost:
            result = "rolled back" if own else "unknown"
            self.note_acked(unacked, begin, result)
            self.journal.write("claim", begin, **fields, result=result)
            raise
        except psycopg2.Error as error:
            self.note_acked(unacked, begin, "refused" if error.pgcode == "55000" else "rolled back")
            raise
        self.note_acked(unacked, begin, result)
        if not rows:
            return None
        fields.update(lease=rows[0][0], zone=rows[0][1], rows=[
            {"id": row[3], "offset": row[2], "device": row[4], "tag": row[5], "attempt": row[6]} for row in rows])
        if any((row[0], row[1]) != rows[0][:2] for row in rows):
            self.journal.write("error", sqlstate="claim", message="more than one zone or lease in a call", statement=str(rows))
        self.journal.write("claim", begin, **fields, result=result)
        return fields if result == "committed" else None

    def note_acked(self, unacked, begin, result):
        """What consume has acknowledged of the lease of another claim."""
        if unacked is not None:
            self.journal.write("settle", begin, topic=self.topic, group=self.group, zone=unacked["zone"], lease=unacked["lease"],
                               verb="ack", offsets=None, count=None, effects=[], by="consume", result=result)

    def extend(self):
        invisible_for = self.dice.choice((0.2, 1))
        begin = time.monotonic()
        try:
            self.session.execute("SELECT iotmq.extend(%s, %s)", (self.claimed["lease"], f"{invisible_for} s"))
            result = "committed"
        except Lost:
            self.journal.write("extend", begin, lease=self.claimed["lease"], invisible_for=invisible_for, result="unknown")
            raise
        except psycopg2.Error as error:
            self.complain(error)
            result = "refused"
        self.journal.write("extend", begin, lease=self.claimed["lease"], invisible_for=invisible_for, result=result)

    def settle(self, quiet):
        """Settles some or all of what is open; False if there is no use in going on."""
        named = [offset for offset in self.open if quiet or self.chance(0.7)]
        if not named:
            return True
        luck = self.dice.random()
        verb = "ack" if quiet or luck < 0.85 else "nack" if luck < 0.97 else "reject"
        everything = len(named) == len(self.open) and (quiet or self.chance(0.5))
        self.dice.shuffle(named)
        event = {"topic": self.topic, "group": self.group, "zone": self.claimed["zone"], "lease": self.claimed["lease"],
                 "verb": verb, "offsets": None if everything else named, "count": None}
        acked = named if verb == "ack" else []
        if self.chance(0.3):
            event.update(self.mixture(quiet, named))
            acked = [] if event["rest"] else event["acks"]
        with_effects = bool(acked) and (quiet or self.chance(0.5))
        ids = [row["id"] for row in self.claimed["rows"] if row["offset"] in acked] if with_effects else []
        event["effects"] = ids
        begin = time.monotonic()
        try:
            if with_effects:
                self.session.execute("BEGIN")
                self.session.execute(f"INSERT INTO {self.load.effects} SELECT %s, unnest(%s), %s", (self.group, ids, event["lease"]))
            event["count"] = self.settle_mixture(event) if event["verb"] == "settle" else \
                self.call(verb, event["lease"], event["offsets"])
            result = "committed"
            if with_effects:
                self.pause(0.02)
                # effects count by the transaction: some were settled before, or taken back
                if event["count"] != len(named) or not quiet and self.chance(0.03):
                    self.session.rollback()
                    result = "rolled back"
                else:
                    begin = time.monotonic()
                    result = self.session.commit()
        except Lost:
            # without its own COMMIT the statement may have happened; else the transaction is gone
            self.journal.write("settle", begin, **event, result="rolled back" if with_effects else "unknown")
            raise
        except psycopg2.Error as error:
            self.complain(error)
            if with_effects:
                self.session.rollback()
            result = "refused" if error.pgcode == "55000" else "rolled back"
        self.journal.write("settle", begin, **event, result=result)
        if result == "committed":
            self.open = [] if event.get("rest") else [offset for offset in self.open if offset not in named]
        return result != "refused" and not (result == "rolled back" and event["count"] not in (None, len(named)))

    def mixture(self, quiet, named):
        """The verdicts of a call of settle."""
        first = len(named) if quiet else int(len(named) * (1 - self.dice.random() ** 2))
        second = first + (len(named) - first + 1) * 2 // 3
        rest = None if quiet or self.chance(0.5) else self.dice.choice(("ack", "ack", "nack", "reject"))
        return {"verb": "settle", "acks": named[:first], "nacks": named[first:second], "rejects": named[second:],
                "rest": rest, "offsets": None if rest else named}

    def settle_mixture(self, event):
        failed = len(event["nacks"]) + len(event["rejects"])
        reasons = self.dice.choice((None, ["by the dice"], [f"the {n}th" for n in range(failed)]))
        return self.session.execute(
            "SELECT iotmq.settle(%s, %s::bigint[], %s::bigint[], %s::bigint[], %s, %s, %s::text[])",
            (event["lease"], event["acks"], event["nacks"], event["rejects"], event["rest"],
             self.dice.choice((None, "5 ms")), reasons))[0][0]

    def call(self, verb, lease, offsets):
        named = "" if offsets is None else ", msg_offsets => %s"
        args = (lease,) if offsets is None else (lease, offsets)
        if verb != "ack" and self.chance(0.5):
            named += ", reason => %s"
            args += ("by the dice",)
        return self.session.execute(f"SELECT iotmq.{verb}(%s{named})", args)[0][0]


class Puller(Client):
    """Reads all zones by fetch, with effects and commit_offset in one transaction."""

    def __init__(self, load, name, group):
        super().__init__(load, name)
        self.group = group
        self.read_to_end = set()        # zones; its position stays before holes at the end

    def finished(self):
        return self.load.stopping or self.read_to_end == set(self.load.zones)

    def step(self):
        quiet = self.load.quiet
        zone = self.dice.choice(self.load.zones)
        position = self.session.execute("SELECT iotmq.committed_offset(%s, %s, %s)", (self.topic, self.group, zone))[0][0]
        rows = fetch(self.session, self.journal, self.topic, zone, position, self.dice.choice((1, 10, 200)))
        if not rows:
            if quiet:
                self.read_to_end.add(zone)
            time.sleep(0.01)
            return
        self.session.execute("BEGIN")
        self.session.execute("SELECT iotmq.commit_offset(%s, %s, %s, %s)", (self.topic, self.group, zone, rows[-1]["offset"] + 1))
        if self.chance(0.05):
            self.session.rollback()
        else:
            self.session.commit()


class Keeper(Client):
    """Reads all zones by fetch and keeps its positions to itself.  Where it has read what a
    recovery lost, fetch tells it, and zone_epoch where to go on."""

    GAP = """SELECT first_offset FROM iotmq.zone_epoch
    WHERE topic = %s AND zone = %s AND last_before + 1 < %s AND %s < first_offset"""

    def __init__(self, load, name):
        super().__init__(load, name)
        self.positions = {zone: 1 for zone in load.zones}
        self.read_to_end = set()

    def finished(self):
        return self.load.stopping or self.read_to_end == set(self.load.zones)

    def step(self):
        consumed = self.load.consumed
        zone = self.dice.choice(self.load.zones)
        try:
            rows = fetch(self.session, self.journal, self.topic, zone, self.positions[zone], self.dice.choice((1, 10, 200)),
                         reader=self.name)
        except psycopg2.Error as error:
            if error.pgcode != "22023":
                raise
            self.go_on(zone, error)
            return
        if rows:
            self.positions[zone] = rows[-1]["offset"] + 1
            return
        if consumed:
            self.read_to_end.add(zone)
        time.sleep(0.01)

    def go_on(self, zone, error):
        """The hint and the view say the same; before anything is published there is no gap yet."""
        begin, position = time.monotonic(), self.positions[zone]
        hint = int(re.search(r"offset (\d+)", error.diag.message_hint).group(1))
        gap = self.session.execute(self.GAP, (self.topic, zone, position, position))
        self.journal.write("told", begin, reader=self.name, topic=self.topic, zone=zone, position=position, hint=hint,
                           first=gap[0][0] if gap else None)
        self.positions[zone] = hint


def fetch(session, journal, topic, zone, position, most, **fields):
    begin = time.monotonic()
    rows = [{"id": id, "offset": offset, "device": device, "tag": tag} for id, offset, device, tag in session.execute(
        "SELECT payload ->> 'id', msg_offset, device_id, tag FROM iotmq.fetch(%s, %s, %s, %s)", (topic, zone, position, most))]
    journal.write("fetch", begin, topic=topic, zone=zone, most=most, rows=rows, **{"from": position, **fields})
    return rows
