#!/usr/bin/python3
"""Publishes to an MQTT broker with QoS 1, through lost connections, until all is acknowledged.

    publisher.py PORT COUNT TOPIC...    {"n": 1} to {"n": COUNT} to each topic, "%d" in which is n % 10

It takes its time, so that something can happen meanwhile; prints how often it had to connect.
"""

import os
import sys
import time

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))

from mqtt import Connection

PER_STEP = 20


def publish(connection, messages, left):
    """Sends what is left, some at a time, and takes out what is acknowledged."""
    todo = sorted(left)
    while todo:
        some, todo = todo[:PER_STEP], todo[PER_STEP:]
        connection.send([messages[i] for i in some])
        for _ in some:
            left.discard(some[connection.acknowledged() - 1])
        time.sleep(0.02)


def main():
    port, count, topics = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    messages = [(topic % (n % 10), b'{"n": %d}' % n) for n in range(1, count + 1) for topic in topics]
    left = set(range(len(messages)))
    connections = 0
    while left:
        try:
            connections += 1
            with Connection(port, f"publisher-{connections}") as connection:
                publish(connection, messages, left)
        except OSError:
            time.sleep(0.1)
    print(connections)


main()
