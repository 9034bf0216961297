"""The programs of the pipeline, each as it would run for itself; all of them end with this one.

The broker is Mosquitto; bridge, webhook and archive are verbs of the program iotmq; the others
are Python (program.py). What they print is in FOLDER, NAME.log.
"""

import os
import pwd
import signal
import socket
import subprocess
import sys
import time

from common import ARCHIVE, CLIENT, FOLDER, HERE, LEDGERS, POISON, TOPIC
from mqtt import free_port

IOTMQ = os.path.join(CLIENT, "iotmq")
PORTS = {"BROKER_PORT": str(free_port()), "WEB_PORT": str(free_port())}
UNREACHABLE = 3  # iotmq's exit status when it finds no broker or no database as it starts
RESTART = 0.5  # seconds before such a one is started again, as systemd would
PATIENCE = 30.0

# It keeps what it has when it is ended and started again: autosaves are too seldom for a kill -9.
BROKER = f"""
listener {PORTS["BROKER_PORT"]} 127.0.0.1
allow_anonymous true
user {pwd.getpwuid(os.getuid()).pw_name}
persistence true
persistence_location {FOLDER}/
max_queued_messages 0
max_inflight_messages 1000
set_tcp_nodelay true
"""

RULES = f"""
broker = 127.0.0.1:{PORTS["BROKER_PORT"]}
client-id = bridge
poison = {POISON}

[fleet/{{zone}}/{{device}}/{{tag}}]
topic = {TOPIC}
zone = {{zone}}
device = {{device}}
tag = {{tag}}
key = {{$.id}}
"""


def write(name, text):
    path = os.path.join(FOLDER, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", int(port)), 1).close()
        return True
    except OSError:
        return False


class Programs:
    def __init__(self):
        os.makedirs(LEDGERS)
        self.running = {}
        self.due = {}  # name: when it is to be started again
        self.environments = {}  # name: settings of its own
        self.commands = {
            "broker": ["/usr/sbin/mosquitto", "-c", write("mosquitto.conf", BROKER)],
            "bridge": [IOTMQ, "bridge", "--confirm=async", write("rules", RULES)],
            "webhook": [IOTMQ, "webhook", TOPIC, "threshold", f"http://127.0.0.1:{PORTS['WEB_PORT']}/alarms"],
            "archive": [IOTMQ, "archive", TOPIC, "archive", ARCHIVE, "--seconds=2"],
        }
        self.ready = {
            "broker": lambda: answers(PORTS["BROKER_PORT"]),
            "web-server": lambda: answers(PORTS["WEB_PORT"]),
            "bridge": lambda: "subscribed" in self.log("bridge"),
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, name):
        command = self.commands.get(name, [sys.executable, os.path.join(HERE, "program.py"), name])
        with open(os.path.join(FOLDER, name + ".log"), "a", encoding="utf-8") as log:
            self.running[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **PORTS, **self.environments.get(name, {})})

    def start_and_wait(self, name):
        """Until the others can use it."""
        self.start(name)
        end = time.monotonic() + PATIENCE
        while not self.ready[name]():
            if time.monotonic() > end:
                sys.exit(f"demo: {name} is not ready after {PATIENCE:.0f} s\n{self.log(name)}")
            self.look()
            time.sleep(0.05)

    def log(self, name):
        with open(os.path.join(FOLDER, name + ".log"), encoding="utf-8", errors="replace") as log:
            return log.read()

    def kill_for_good(self, name):
        """It is not started again, unless somebody does."""
        self.running[name].kill()
        self.running.pop(name).wait()
        self.due.pop(name, None)

    def kill(self, name, down):
        """As a crash would end it; it is started again after so many seconds."""
        self.running[name].send_signal(signal.SIGTERM if name == "broker" else signal.SIGKILL)
        self.running[name].wait()
        self.due[name] = time.monotonic() + down

    def end(self, name):
        """Ends it as its user would, after what it has begun."""
        self.running[name].terminate()
        self.check(name, self.running[name].wait(PATIENCE))

    def look(self):
        """Starts again what is due. Ends the demo if a program has failed."""
        now = time.monotonic()
        for name, process in self.running.items():
            status = process.poll()
            if status and name not in self.due:
                if status != UNREACHABLE or name not in self.commands:
                    self.check(name, status)
                self.due[name] = now + RESTART
        for name in [name for name, at in self.due.items() if at <= now]:
            del self.due[name]
            self.start(name)

    def check(self, name, status):
        if status:
            sys.exit(f"demo: {name} failed with status {status}\n{self.log(name)[-2000:]}")

    def alive(self, prefix):
        """How many programs whose name starts like this have not ended."""
        return sum(name.startswith(prefix) and p.poll() is None for name, p in self.running.items())
