#!/usr/bin/python3
"""Leaves retained messages at an MQTT broker.

    retain.py PORT COUNT BYTES    kept/1 to kept/COUNT, each {"n": 1, ...} of about so many bytes
"""

import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))

from mqtt import Connection

port, count, size = map(int, sys.argv[1:])
PER_STEP = 500

with Connection(port, "retain", timeout=60) as connection:
    for first in range(1, count + 1, PER_STEP):
        some = [(f"kept/{n}", b'{"n": %d, "x": "%s"}' % (n, b"x" * size)) for n in range(first, min(first + PER_STEP, count + 1))]
        connection.send(some, retain=True)
        for _ in some:
            connection.acknowledged()
