"""A publisher connection: three ways to publish, and a ledger of what was committed.

Each transaction writes one row of the ledger beside its messages. If the connection breaks
during COMMIT, the ledger tells whether that transaction took place, and so whether to send again.
"""

import io
import random
from typing import NamedTuple

import psycopg2

from common import TOPIC, URGENT, connect, setting

IDS_PER_PUBLISHER = 10**10


class Message(NamedTuple):
    id: int
    device_id: str
    tag: str
    payload: str  # JSON, contains the id


def publish(cur, zone, messages):
    for message in messages:
        cur.execute(
            "SELECT iotmq.publish(%s, %s, %s, zone => %s, tag => %s)",
            [TOPIC, message.device_id, message.payload, zone, message.tag],
        )


def publish_batch(cur, zone, messages):
    cur.execute(
        "SELECT iotmq.publish_batch(%s, %s, %s::jsonb[], zone => %s, tags => %s)",
        [TOPIC, [m.device_id for m in messages], [m.payload for m in messages], zone, [m.tag for m in messages]],
    )


def copy(cur, zone, messages):
    cur.execute("SELECT iotmq.zone_table(%s, %s)::text", [TOPIC, zone])
    lines = ("\t".join(map(_copy_text, (m.device_id, m.tag, m.payload))) for m in messages)
    cur.copy_expert(
        f"COPY {cur.fetchone()[0]} (device_id, tag, payload) FROM STDIN",
        io.StringIO("\n".join(lines)),
    )


def _copy_text(value):
    """A value in COPY's text format."""
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


class Publisher:
    def __init__(self, number):
        self.number = number
        self.next_id = number * IDS_PER_PUBLISHER
        self.random = random.Random(number)
        self.rolled_back = 0
        self.skipped = 0
        self._rollbacks = setting("ROLLBACKS") / 100
        self._connect()

    def _connect(self):
        self.conn = connect(f"publisher {self.number}")

    def new_id(self):
        self.next_id += 1
        return self.next_id

    def send(self, way, zone, messages):
        """Publish messages of one zone in one transaction: once, whatever happens to the connection."""
        while True:
            try:
                if self.random.random() < self._rollbacks:
                    self._transaction(way, zone, messages)
                    self.conn.rollback()
                    self.rolled_back += len(messages)
                self._transaction(way, zone, messages)
                self.conn.commit()
                return
            except (psycopg2.Error, SystemError) as error:
                if isinstance(error, SystemError):  # psycopg2's, when the connection of a COPY ends
                    self.conn.close()
                if not self.conn.closed:
                    raise
                self._connect()
                if self._committed(messages):
                    return

    def _transaction(self, way, zone, messages):
        """One transaction up to its COMMIT."""
        with self.conn.cursor() as cur:
            cur.execute(
                "INSERT INTO demo.published (first_id, last_id, urgent_ids) VALUES (%s, %s, %s::bigint[])",
                [messages[0].id, messages[-1].id, [m.id for m in messages if m.tag in URGENT]],
            )
            way(cur, zone, messages)

    def _committed(self, messages):
        with self.conn, self.conn.cursor() as cur:
            cur.execute("SELECT FROM demo.published WHERE first_id = %s", [messages[0].id])
            return cur.rowcount == 1

    def finish(self):
        with self.conn, self.conn.cursor() as cur:
            cur.execute(
                "INSERT INTO demo.publisher (publisher, rolled_back, skipped) VALUES (%s, %s, %s)",
                [self.number, self.rolled_back, self.skipped],
            )
