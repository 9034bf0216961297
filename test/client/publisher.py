#!/usr/bin/python3
"""Publishes to an MQTT broker with QoS 1, through lost connections, until all is acknowledged.

    publisher.py PORT COUNT TOPIC...    {"n": 1} to {"n": COUNT} to each topic, "%d" in which is n % 10

It takes its time, so that something can happen meanwhile; prints how often it had to connect.
"""

import socket
import sys
import time

PER_STEP = 20


def packet(first, content):
    length = len(content)
    header = bytes([first])
    while True:
        header += bytes([length & 127 | (128 if length > 127 else 0)])
        length >>= 7
        if not length:
            return header + content


def text(value):
    return len(value).to_bytes(2, "big") + value.encode()


def connect(port, connection):
    sock = socket.create_connection(("127.0.0.1", port), 5)
    sock.sendall(packet(0x10, text("MQTT") + b"\x04\x02\x00\x3c" + text(f"publisher-{connection}")))
    if sock.recv(4, socket.MSG_WAITALL) != b"\x20\x02\x00\x00":
        raise OSError("refused")
    return sock


def publish(sock, messages, left):
    """Sends what is left, some at a time, and takes out what is acknowledged."""
    todo = sorted(left)
    while todo:
        some, todo = todo[:PER_STEP], todo[PER_STEP:]
        sock.sendall(b"".join(packet(0x32, text(messages[i][0]) + (i + 1).to_bytes(2, "big") + messages[i][1])
                              for i in some))
        for _ in some:
            answer = sock.recv(4, socket.MSG_WAITALL)
            if len(answer) != 4 or answer[:2] != b"\x40\x02":
                raise OSError("no PUBACK")
            left.discard(int.from_bytes(answer[2:], "big") - 1)
        time.sleep(0.02)


def main():
    port, count, topics = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    messages = [(topic % (n % 10), b'{"n": %d}' % n) for n in range(1, count + 1) for topic in topics]
    left = set(range(len(messages)))
    connections = 0
    while left:
        try:
            connections += 1
            with connect(port, connections) as sock:
                publish(sock, messages, left)
        except OSError:
            time.sleep(0.1)
    print(connections)


main()
