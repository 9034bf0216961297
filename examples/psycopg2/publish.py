#!/usr/bin/python3
"""Publishes measurements, a line each: device, number of the measurement, degrees.

A batch is published until there is an answer. The number is the message's key, so that one
whose answer was lost is not stored twice.
"""

import itertools
import sys
import time

import psycopg2
from psycopg2.extras import Json


def publish(connection, lines):
    devices, numbers, degrees = zip(*(line.split() for line in lines))
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT iotmq.publish_batch('telemetry', %s, %s::jsonb[], message_keys => %s)",
            (list(devices), [Json({"celsius": float(celsius)}) for celsius in degrees], list(numbers)),
        )


connection = None
while lines := list(itertools.islice(sys.stdin, 100)):
    while lines:
        try:
            connection = connection or psycopg2.connect("")
            publish(connection, lines)
            lines = None
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            print(error, file=sys.stderr)
            connection = None
            time.sleep(1)
