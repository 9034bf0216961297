"""Publishers and consumers of one zone, through a router, while somebody moves the zone.

load.py CONNINFO TOPIC GROUP ZONE   until a line comes on standard input; then it reads on until
nothing is left, and prints one line: "published N, lost N, twice N", and with what errors.

Lost is what publish has returned an offset for, and nobody was given; twice is what was given
again after its ack had come back. What an error leaves in doubt is neither.
"""
import collections
import json
import sys
import threading
import time

import psycopg2

conninfo, topic, group, zone = sys.argv[1:]
ended = threading.Event()
drained = threading.Event()
lock = threading.Lock()
errors = collections.Counter()
published = set()
delivered = set()
acked = set()
twice = set()


def connect():
    connection = psycopg2.connect(conninfo)
    connection.autocommit = True
    return connection.cursor()


def note(call, error):
    with lock:
        errors[f"{call} {error.pgcode}"] += 1
    time.sleep(0.01)


def publisher(name):
    cursor = connect()
    number = 0
    while not ended.is_set():
        number += 1
        try:
            cursor.execute("SELECT iotmq.publish(%s, %s, %s, %s)",
                           (topic, name, json.dumps({"name": name, "number": number}), zone))
        except psycopg2.Error as error:
            note("publish", error)
            continue
        with lock:
            published.add((name, number))


def consumer():
    cursor = connect()
    while not drained.is_set():
        try:
            cursor.execute("SELECT lease_id, payload FROM iotmq.consume(%s, %s, 50, zone => %s, wait => '200 ms')",
                           (topic, group, zone))
            rows = cursor.fetchall()
        except psycopg2.Error as error:
            note("consume", error)
            continue
        if not rows:
            continue
        ids = {(row[1]["name"], row[1]["number"]) for row in rows if "name" in row[1]}
        with lock:
            delivered.update(ids)
            twice.update(ids & acked)
        try:
            cursor.execute("SELECT iotmq.ack(%s)", (rows[0][0],))
        except psycopg2.Error as error:
            note("ack", error)
            continue
        with lock:
            acked.update(ids)


publishers = [threading.Thread(target=publisher, args=(f"device-{n}",), daemon=True) for n in range(2)]
consumers = [threading.Thread(target=consumer, daemon=True) for _ in range(2)]
for thread in publishers + consumers:
    thread.start()
while not published:
    time.sleep(0.01)
print("ready", flush=True)
sys.stdin.readline()
ended.set()
for thread in publishers:
    thread.join()
until = time.time() + 300
while time.time() < until and not published <= delivered:
    time.sleep(0.05)
drained.set()
for thread in consumers:
    thread.join()
print(f"published {'some' if len(published) > 10 else 'few'}, lost {len(published - delivered)}, twice {len(twice)}"
      + "".join(f", {count} x {error}" for error, count in sorted(errors.items())), flush=True)
