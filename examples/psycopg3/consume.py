#!/usr/bin/python3
"""Stores the readings of a topic, each exactly once: in one transaction with its acknowledgement.

SIGTERM ends it after the batch at hand.
"""

import signal
import sys
import time

import psycopg
from psycopg import errors

LEASE = 60  # seconds
stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))


def work(payload, body):
    """The reading in a message. What is raised here is the reason of its failure."""
    if body is not None:
        raise ValueError("not a reading: " + body.decode("latin-1"))
    time.sleep(payload.get("pause", 0))  # stands for what takes long
    if payload["celsius"] > 1000:
        raise ValueError(f"not plausible: {payload['celsius']}")
    return payload["celsius"]


def consume(connection):
    while not stopping:
        messages = connection.execute(
            """
            SELECT lease_id, zone, msg_offset, device_id, payload, body
            FROM iotmq.consume('telemetry', 'analytics', 100, invisible_for => %s, wait => '5 s')
            """,
            (f"{LEASE} s",),
        ).fetchall()
        try:
            if messages:
                handle(connection, messages)
        except errors.ObjectNotInPrerequisiteState:  # 55000: the lease is over
            print("others have these messages, or they come again", file=sys.stderr)


def handle(connection, messages):
    lease_id, done, failed = messages[0][0], [], []
    extended = time.monotonic()
    for _, zone, msg_offset, device_id, payload, body in messages:
        try:
            done.append((zone, msg_offset, device_id, work(payload, body)))
        except Exception as error:
            failed.append((msg_offset, str(error)))
        if time.monotonic() > extended + LEASE / 3:
            connection.execute("SELECT iotmq.extend(%s, %s)", (lease_id, f"{LEASE} s"))
            extended = time.monotonic()
    store(connection, lease_id, done, failed)


def as_text(reason):
    """PostgreSQL's text has no NUL, and is UTF-8."""
    return reason.replace("\0", "").encode(errors="replace").decode()


def store(connection, lease_id, done, failed):
    try:
        with connection.transaction(), connection.cursor() as cursor:
            if done:
                cursor.execute(
                    """
                    INSERT INTO reading (zone, msg_offset, device_id, celsius)
                    SELECT * FROM unnest(%s::text[], %s::bigint[], %s::text[], %s::numeric[])
                    """,
                    [list(column) for column in zip(*done)],
                )
            cursor.execute(
                "SELECT iotmq.settle(%s, %s::bigint[], nacks => %s::bigint[], reasons => %s::text[])",
                (
                    lease_id,
                    [msg_offset for _, msg_offset, _, _ in done],
                    [msg_offset for msg_offset, _ in failed],
                    [as_text(reason) for _, reason in failed],
                ),
            )
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        if len(done) + len(failed) == 1:
            store(connection, lease_id, [], [(done[0][1], str(error))])
            return
        for one in done:  # which of them is it?
            store(connection, lease_id, [one], [])
        for one in failed:
            store(connection, lease_id, [], [one])


while not stopping:
    try:
        with psycopg.connect("", autocommit=True) as connection:  # consume is a transaction of its own
            consume(connection)
    except psycopg.OperationalError as error:
        print(error, file=sys.stderr)
        time.sleep(1)  # then with a new connection
