"""A gateway: the MQTT connection of its devices, and a ledger of what the broker has acknowledged.

What is not acknowledged when the connection breaks is sent again, so the broker may get a message
twice; its id, from which the bridge makes the message key, is the same. The ledger is a file of
JSON lines: it is there whatever else is killed.
"""

import json
import os
import random
import time
from typing import NamedTuple

from common import BROKER_PORT, LEDGERS, URGENT
from mqtt import Connection

IDS_PER_PUBLISHER = 10**10
PAUSE = 0.1  # seconds before the next try to connect


class Message(NamedTuple):
    id: int
    zone: str
    device_id: str
    tag: str
    payload: dict

    def mqtt(self):
        """Topic and content; the content says when it was sent for the first time."""
        content = {"id": self.id, **self.payload, "sent": round(time.time(), 4)}
        return f"fleet/{self.zone}/{self.device_id}/{self.tag}", json.dumps(content).encode()


class Publisher:
    def __init__(self, number):
        self.number = number
        self.next_id = number * IDS_PER_PUBLISHER
        self.random = random.Random(number)
        self.skipped = 0
        self.connection = None
        self.connections = 0
        self.ledger = open(os.path.join(LEDGERS, str(number)), "a", buffering=1, encoding="utf-8")

    def new_id(self):
        self.next_id += 1
        return self.next_id

    def send(self, messages):
        """Publish messages, whose ids run on, until the broker has acknowledged all of them."""
        todo = [message.mqtt() for message in messages]
        while todo:
            try:
                if self.connection is None:
                    self.connections += 1
                    self.connection = Connection(BROKER_PORT, f"fleet-{self.number}")
                self.connection.send(todo)
                acknowledged = {self.connection.acknowledged() for _ in todo}
                todo = [message for n, message in enumerate(todo, 1) if n not in acknowledged]
            except OSError:
                if self.connection:
                    self.connection.sock.close()
                self.connection = None
                time.sleep(PAUSE)
        self.note(first=messages[0].id, last=messages[-1].id, urgent=[m.id for m in messages if m.tag in URGENT])

    def note(self, **fields):
        self.ledger.write(json.dumps({"at": time.time(), **fields}) + "\n")

    def finish(self):
        self.note(skipped=self.skipped, connections=self.connections)


def work(source, number, stopping):
    publisher = Publisher(number)
    for messages in source.batches(publisher):
        if stopping:
            break
        publisher.send(messages)
    publisher.finish()
