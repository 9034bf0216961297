"""Kills each part of the pipeline in turn, while the fleet sends; each is there again a second later.

All by SIGKILL but the broker: Mosquitto has its queue in memory, and writes it when SIGTERM ends
it, so that kill -9 would lose what it has acknowledged to the devices.
"""

import os
import signal

import report
from common import connect, setting

PARTS = [["broker"], ["bridge"], ["webhook"], ["archive"], ["database"], ["web-server", "analytics-1"]]
DOWN = 1.0  # seconds


def kill_database():
    """A server process that is killed takes all others with it: PostgreSQL recovers, as after a crash."""
    os.kill(connect("victim").get_backend_pid(), signal.SIGKILL)


class Faults:
    where = ""
    ok = "every group got every message once"

    def __init__(self, programs, counts):
        self.programs = programs
        self.recorder = self.progress = None
        self.missing = counts.missing
        self.check = report.check_groups
        self.every = setting("FAULTS")
        self.killed = 0

    def prepare(self):
        """It takes nothing."""

    def gather(self):
        """All is in one place. Returns what is wrong."""
        return []

    def over(self):
        """The fleet need not be waited for: what was not killed till then is not."""
        return True

    def step(self, elapsed):
        """Kills the next one, if it is time."""
        if not self.every or elapsed < (self.killed + 1) * self.every or self.killed == len(PARTS):
            return
        parts = PARTS[self.killed]
        self.killed += 1
        print(f"        killed: {', '.join(parts)}")
        self.recorder.mark(", ".join(parts))
        for part in parts:
            if part == "database":
                kill_database()
            else:
                self.programs.kill(part, DOWN)
