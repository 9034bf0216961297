"""A Mosquitto of one's own, and what takes messages from it, for figures about MQTT."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time

import bench

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "..", "tools"))

from mqtt import Connection, free_port

CLIENT = os.path.join(os.environ["TMPDIR"], "src", "client")    # tools/cluster's copy of the tree
IOTMQ = os.path.join(CLIENT, "iotmq")

BROKER = """
listener {port} 127.0.0.1
allow_anonymous true
max_inflight_messages 1000
max_queued_messages 0
set_tcp_nodelay true
"""

RULES = """
broker = 127.0.0.1:{port}
client-id = bridge
poison = none

[bench/{{device}}]
topic = bench
device = {{device}}
"""


def build():
    subprocess.run(["make", "-s", "-C", CLIENT], check=True)


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def end(process):
    process.send_signal(signal.SIGTERM)
    process.wait()


@contextlib.contextmanager
def broker():
    """a new broker: its port and its process id"""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(["/usr/sbin/mosquitto", "-c", write(folder, "conf", BROKER.format(port=port))],
                                   stderr=subprocess.DEVNULL)
        try:
            for _ in range(600):
                with contextlib.suppress(OSError):
                    Connection(port, "first").sock.close()
                    break
                time.sleep(0.05)
            yield port, process.pid
        finally:
            end(process)


@contextlib.contextmanager
def bridge(it, port, *options):
    """iotmq bridge, from the broker into the topic bench"""
    with tempfile.TemporaryDirectory() as folder:
        command = [IOTMQ, "bridge", "-d", it.name, *options, write(folder, "rules", RULES.format(port=port))]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if not process.stdout.readline().startswith("subscribed"):
            raise RuntimeError("the bridge doesn't start")
        try:
            yield process
        finally:
            end(process)


@contextlib.contextmanager
def script(it, port):
    """what people write: mosquitto_sub, and a script that inserts its lines into the table script"""
    subscriber = subprocess.Popen(
        ["mosquitto_sub", "-p", str(port), "-q", "1", "-c", "-i", "script", "-t", "bench/#", "-F", "%t %p"],
        stdout=subprocess.PIPE)
    inserter = subprocess.Popen([sys.executable, os.path.join(HERE, "inserter.py"), it.name], stdin=subscriber.stdout)
    subscriber.stdout.close()
    time.sleep(1)       # it says nothing when it has subscribed
    try:
        yield inserter
    finally:
        end(subscriber)
        inserter.wait()


@contextlib.contextmanager
def counter(port, messages):
    """a subscriber that ends after so many messages, and does nothing with them"""
    process = subprocess.Popen(
        ["mosquitto_sub", "-p", str(port), "-q", "1", "-c", "-i", "counter", "-t", "bench/#", "-C", str(messages)],
        stdout=subprocess.DEVNULL)
    time.sleep(1)
    try:
        yield process
    finally:
        if process.poll() is None:
            end(process)


def messages_of(numbers):
    """(topic, content), of the devices in turn"""
    return [(f"bench/device-{n % bench.DEVICES}", (f'{{"n": {n}, ' + bench.PAYLOAD[1:]).encode()) for n in numbers]


def publish(port, number, count, window=200):
    """so many messages as fast as the broker acknowledges them; number: which publisher this is"""
    with Connection(port, f"publisher-{number}", timeout=120) as connection:
        for first in range(0, count, window):
            some = messages_of(range(first, min(first + window, count)))
            connection.send(some)
            for _ in some:
                connection.acknowledged()
