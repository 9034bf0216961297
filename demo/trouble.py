"""A second topic, beside the demo's, where things go wrong: for a dashboard that has something to show.

Topic "trucks" with zones north and south, kept for a minute only. What happens when is in EVENTS.
"""

import threading
import time

import psycopg2

from common import connect

TOPIC = "trucks"
ZONES = ["north", "south"]
TRUCKS = 20  # a zone
BROKEN = "truck-7"

# Seconds from the start on: from, to, what.
EVENTS = {
    "fails": (30, 60),  # the messages of one truck, in the orderly group "routes"
    "paused": (70, 100),  # the group "billing"
    "publisher open": (110, 130),  # a transaction that has published to north
    "consumer open": (140, 155),  # one that keeps "billing" from a zone
}

SETUP = """
    SELECT iotmq.create_topic('trucks', '{north,south}', retention => '1 minute', segment_interval => '10 s');
    SELECT iotmq.create_group('trucks', 'routes', mode => 'orderly', max_retries => 3, backoff => '{2 s}');
    SELECT iotmq.create_group('trucks', 'billing', max_lag => 500, max_delay => '10 s');
    SELECT iotmq.create_group('trucks', 'nobody');
"""


class Trouble:
    """The programs, each a thread with a connection of its own. An error of one ends all."""

    def __init__(self):
        self.ending = threading.Event()
        self.errors = []
        self.start = time.monotonic()
        with connect("trouble") as conn, conn.cursor() as cur:
            cur.execute(SETUP)
        parts = [self.publish, self.maintain, self.hold_publisher, self.hold_consumer, self.pause]
        parts += [lambda: self.consume("routes", 0.1), lambda: self.consume("billing", 0.4)]
        self.threads = [threading.Thread(target=self.run, args=[part], daemon=True) for part in parts]
        for thread in self.threads:
            thread.start()

    def end(self):
        """Stop all of it. Raises what went wrong where it should not have."""
        self.ending.set()
        for thread in self.threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def run(self, part):
        try:
            part()
        except psycopg2.Error as error:
            self.errors.append(error)
            self.ending.set()

    def now(self, event):
        first, last = EVENTS[event]
        return first <= time.monotonic() - self.start < last

    def until(self, event):
        """Wait for an event to begin; false if the end comes first."""
        return not self.ending.wait(EVENTS[event][0] - (time.monotonic() - self.start))

    def last(self, event):
        """Wait for as long as it lasts."""
        self.ending.wait(EVENTS[event][1] - EVENTS[event][0])

    def connect(self, name):
        conn = connect(name)
        return conn, conn.cursor()

    def publish(self):
        _, cur = self.connect("trucks")
        number = 0
        while not self.ending.wait(0.2):
            for zone in ZONES:
                number += 1
                devices = [f"truck-{(number + n) % TRUCKS + 1}" for n in range(5)]
                cur.execute(
                    "SELECT iotmq.publish_batch(%s, %s, %s::jsonb[], zone => %s)",
                    [TOPIC, devices, [f'{{"km": {number}}}'] * len(devices), zone],
                )

    def consume(self, group, work):
        _, cur = self.connect(group)
        while not self.ending.is_set():
            cur.execute(
                "SELECT lease_id, msg_offset, device_id FROM iotmq.consume(%s, %s, 100, wait => '1 s')", [TOPIC, group]
            )
            batch = cur.fetchall()
            if not batch:
                continue
            self.ending.wait(work)
            failed = [offset for _, offset, device in batch if device == BROKEN and group == "routes" and self.now("fails")]
            cur.execute(
                "SELECT iotmq.settle(%s, nacks => %s::bigint[], rest => 'ack', reasons => '{flat tyre}')"
                if failed else "SELECT iotmq.ack(%s)",
                [batch[0][0], failed] if failed else [batch[0][0]],
            )

    def maintain(self):
        _, cur = self.connect("maintenance")
        while not self.ending.wait(5):
            cur.execute("CALL iotmq.run_maintenance()")

    def pause(self):
        _, cur = self.connect("administrator")
        if self.until("paused"):
            cur.execute("SELECT iotmq.pause_group(%s, 'billing')", [TOPIC])
            self.last("paused")
            cur.execute("SELECT iotmq.resume_group(%s, 'billing')", [TOPIC])

    def hold_publisher(self):
        self.hold("publisher open", "SELECT iotmq.publish(%s, 'truck-1', '{}', zone => 'north')")

    def hold_consumer(self):
        self.hold("consumer open", "SELECT iotmq.ack(lease_id) FROM iotmq.consume(%s, 'billing', 1, wait => '1 s')")

    def hold(self, event, statement):
        """Run a statement in a transaction that stays open."""
        conn = connect(event)
        if self.until(event):
            with conn, conn.cursor() as cur:
                cur.execute(statement, [TOPIC])
                self.last(event)
