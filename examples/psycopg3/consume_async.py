#!/usr/bin/python3
"""Stores the readings of a topic, each exactly once, and works on the messages of a batch at the same time.

SIGTERM ends it after the batch at hand.
"""

import asyncio
import signal
import sys

import psycopg
from psycopg import errors

LEASE = 60  # seconds


async def work(payload, body):
    """The reading in a message. What is raised here is the reason of its failure."""
    if body is not None:
        raise ValueError("not a reading: " + body.decode("latin-1"))
    await asyncio.sleep(payload.get("pause", 0))  # stands for what takes long
    if payload["celsius"] > 1000:
        raise ValueError(f"not plausible: {payload['celsius']}")
    return payload["celsius"]


async def consume(connection, stopping):
    while not stopping.is_set():
        cursor = await connection.execute(
            """
            SELECT lease_id, zone, msg_offset, device_id, payload, body
            FROM iotmq.consume('telemetry', 'analytics', 100, invisible_for => %s, wait => '5 s')
            """,
            (f"{LEASE} s",),
        )
        messages = await cursor.fetchall()
        try:
            if messages:
                await handle(connection, messages)
        except errors.ObjectNotInPrerequisiteState:  # 55000: the lease is over
            print("others have these messages, or they come again", file=sys.stderr)


async def handle(connection, messages):
    lease_id, done, failed = messages[0][0], [], []
    tasks = [asyncio.create_task(work(payload, body)) for _, _, _, _, payload, body in messages]
    while (await asyncio.wait(tasks, timeout=LEASE / 3))[1]:  # some are still at work
        await connection.execute("SELECT iotmq.extend(%s, %s)", (lease_id, f"{LEASE} s"))
    for task, (_, zone, msg_offset, device_id, _, _) in zip(tasks, messages):
        if task.exception():
            failed.append((msg_offset, str(task.exception())))
        else:
            done.append((zone, msg_offset, device_id, task.result()))
    await store(connection, lease_id, done, failed)


def as_text(reason):
    """PostgreSQL's text has no NUL, and is UTF-8."""
    return reason.replace("\0", "").encode(errors="replace").decode()


async def store(connection, lease_id, done, failed):
    try:
        async with connection.transaction(), connection.cursor() as cursor:
            if done:
                await cursor.execute(
                    """
                    INSERT INTO reading (zone, msg_offset, device_id, celsius)
                    SELECT * FROM unnest(%s::text[], %s::bigint[], %s::text[], %s::numeric[])
                    """,
                    [list(column) for column in zip(*done)],
                )
            await cursor.execute(
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
            await store(connection, lease_id, [], [(done[0][1], str(error))])
            return
        for one in done:  # which of them is it?
            await store(connection, lease_id, [one], [])
        for one in failed:
            await store(connection, lease_id, [], [one])


async def main():
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    while not stopping.is_set():
        try:
            async with await psycopg.AsyncConnection.connect("", autocommit=True) as connection:
                await consume(connection, stopping)
        except psycopg.OperationalError as error:
            print(error, file=sys.stderr)
            await asyncio.sleep(1)  # then with a new connection


asyncio.run(main())
