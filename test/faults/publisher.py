"""A publisher: functions, INSERT and COPY, alone and in transactions with pauses, savepoints
that are rolled back, and two-phase commit.  Every second message has a key, which is its id;
such a one is published again now and then, at the same time or when the answer is lost."""

import io
import json
import threading
import time

import psycopg2

from client import Client
from session import Lost, Session

TAGS = (None, "alarm", "temperature", "humidity")
REPEATS = 3         # of a publish whose answer was lost


class Publisher(Client):
    def __init__(self, load, name):
        super().__init__(load, name)
        self.transactions = 0
        self.expected = self.expected | {"55000"}      # COPY and INSERT: no segment for the present
        if load.jumps:
            self.expected = self.expected | {"23514"}   # it was another present when they looked for one
        self.prepares = load.prepares
        # what retention has dropped may be published again
        self.repeats = "retention" not in load.actions

    def finished(self):
        return self.load.stopping or self.load.published()

    def step(self):
        self.transactions += 1
        self.xact = f"{self.name}-{self.transactions}"
        self.sent = []
        if self.chance(0.3):
            self.autocommit()
        else:
            self.transaction()
        time.sleep(0.08 * self.dice.random() / self.load.rate)

    def message(self, zone):
        n = len(self.sent) + 1
        # some devices send much more than others; a device always publishes to one zone
        device = f"{zone}-d{int(self.load.devices * self.dice.random() ** 2)}"
        fields = {"id": f"{self.xact}.{n}", "zone": zone, "device": device, "tag": self.dice.choice(TAGS),
                  "v": self.dice.randrange(100), "offset": None, "undone": False, "keyed": self.chance(0.5)}
        self.sent.append(fields)
        return fields

    @staticmethod
    def payload(message):
        return json.dumps({"id": message["id"], "v": message["v"]})

    @staticmethod
    def key(message):
        return message["id"] if message["keyed"] else None

    def autocommit(self):
        """One statement that commits by itself."""
        zone = self.dice.choice(self.load.zones)
        messages = [self.message(zone) for _ in range(1 if self.chance(0.5) else self.dice.randint(2, 50))]
        repeatable = self.repeats and self.chance(0.3)
        if repeatable:
            for message in messages:
                message["keyed"] = True
        self.journal.write("publish", xact=self.xact, topic=self.topic, messages=self.sent)
        begin = time.monotonic()
        offsets = {}
        try:
            answer = self.call_again_and_again(messages, zone) if repeatable else self.call(messages, zone)
            offsets = dict(zip((m["id"] for m in messages), answer))
            result = "committed"
        except Lost:
            result = "unknown"
        except psycopg2.Error as error:
            # the other session's may have happened
            result = "unknown" if repeatable else "rolled back"
            self.complain(error)
        self.journal.write("outcome", begin, xact=self.xact, result=result, offsets=offsets, repeated=repeatable)

    def call_again_and_again(self, messages, zone):
        """Publishes messages with keys until an answer comes, and at the same time in a second session."""
        other = threading.Thread(target=self.repeat, args=(messages, zone), daemon=True)
        other.start()
        try:
            for again in range(REPEATS):
                try:
                    return self.call(messages, zone)
                except Lost:
                    if again == REPEATS - 1:
                        raise
        finally:
            other.join()

    def repeat(self, messages, zone):
        session = Session(self.load.dsn, f"{self.name} again", patience=self.load.grace)
        try:
            self.call(messages, zone, session)
        except Lost:
            pass
        except psycopg2.Error as error:
            self.complain(error)
        finally:
            session.close()

    def call(self, messages, zone, session=None):
        """Publishes by function; the offsets."""
        session = session or self.session
        if len(messages) == 1:
            one = messages[0]
            return session.execute(
                "SELECT iotmq.publish(%s, %s, %s, zone => %s, tag => %s, message_key => %s)",
                (self.topic, one["device"], self.payload(one), zone, one["tag"], self.key(one)))[0]
        return session.execute(
            "SELECT iotmq.publish_batch(%s, %s, %s::jsonb[], tags => %s, zones => %s, message_keys => %s)",
            (self.topic, [m["device"] for m in messages], [self.payload(m) for m in messages],
             [m["tag"] for m in messages], [zone] * len(messages), [self.key(m) for m in messages]))[0][0]

    def transaction(self):
        session = self.session
        begin = self.since = time.monotonic()
        try:
            session.execute("BEGIN")
            for _ in range(self.dice.randint(1, 3)):
                if self.chance(0.4):
                    self.savepoint()
                else:
                    self.publish_somehow()
                self.pause(0.02)
        except Lost:
            self.note(begin, "rolled back")
            return
        except psycopg2.Error as error:
            self.complain(error)
            session.rollback()
            self.note(begin, "rolled back")
            return
        if self.load.cuts and self.chance(0.02):
            session.cut()
            self.note(begin, "rolled back")
        elif self.chance(0.25):
            session.rollback()
            self.note(begin, "rolled back")
        elif self.prepares and self.chance(0.2):
            self.two_phases()
        else:
            self.journal.write("publish", self.since, xact=self.xact, topic=self.topic, messages=self.sent)
            begin = time.monotonic()
            self.journal.write("outcome", begin, xact=self.xact, result=session.commit())

    def note(self, begin, result):
        self.journal.write("publish", begin, xact=self.xact, topic=self.topic, messages=self.sent)
        self.journal.write("outcome", begin, xact=self.xact, result=result)

    def savepoint(self):
        """In a subtransaction, every second one rolled back; sometimes with another one after it."""
        self.session.execute("SAVEPOINT s")
        first = len(self.sent)
        for _ in range(self.dice.randint(1, 2)):
            self.publish_somehow()
        if self.chance(0.5):
            self.session.execute("ROLLBACK TO s")
            for message in self.sent[first:]:
                message["undone"] = True
        self.session.execute("RELEASE s")

    def publish_somehow(self):
        zone = self.dice.choice(self.load.zones)
        way = self.dice.random()
        if way < 0.4:
            messages = [self.message(zone)]
            messages[0]["offset"] = self.call(messages, zone)[0]
        elif way < 0.6:
            messages = [self.message(zone) for _ in range(self.dice.randint(2, 50))]
            for message, offset in zip(messages, self.call(messages, zone)):
                message["offset"] = offset
        elif way < 0.8:
            for message in [self.message(zone) for _ in range(self.dice.randint(1, 10))]:
                message["offset"] = self.session.execute(
                    f"INSERT INTO {self.load.tables[zone]} (device_id, tag, payload, message_key) VALUES (%s, %s, %s, %s) "
                    "RETURNING msg_offset",
                    (message["device"], message["tag"], self.payload(message), self.key(message)))[0][0]
        else:
            rows = 1200 if self.chance(0.02) else self.dice.randint(1, 10)     # more than COPY buffers
            lines = "".join("{}\t{}\t{}\t{}\n".format(m["device"], m["tag"] or "\\N", self.payload(m), self.key(m) or "\\N")
                            for m in [self.message(zone) for _ in range(rows)])
            self.session.copy(f"COPY {self.load.tables[zone]} (device_id, tag, payload, message_key) FROM STDIN", io.StringIO(lines))

    def two_phases(self):
        self.journal.write("publish", self.since, xact=self.xact, topic=self.topic, messages=self.sent)
        begin = time.monotonic()
        result = self.session.commit(f"PREPARE TRANSACTION '{self.xact}'")
        if result == "committed":
            self.pause(0.1)
            if self.chance(0.3):
                result = self.session.commit(f"ROLLBACK PREPARED '{self.xact}'")
                result = {"committed": "rolled back", "rolled back": "unknown"}.get(result, result)
            else:
                result = self.session.commit(f"COMMIT PREPARED '{self.xact}'")
                result = "unknown" if result == "rolled back" else result
        # who lost the answer leaves the rest to the end of the load, see resolve()
        self.journal.write("outcome", begin, xact=self.xact, result=result)


def resolve(session, journal):
    """Ends what is still prepared; it counts as unknown until the log tells."""
    for (name,) in session.execute("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):
        begin = time.monotonic()
        session.execute(f"COMMIT PREPARED '{name}'")
        journal.write("outcome", begin, xact=name, result="unknown")
