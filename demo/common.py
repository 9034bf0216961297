"""What every program of the demo shares: the topic, the settings, the connection, the way to stop."""

import os
import signal
import sys

import psycopg2

TOPIC = "telemetry"
URGENT = ("alarm", "battery")  # the tags that the threshold group asks for


# The numbers among the settings of demo/run: kind, least, most.
SETTINGS = {
    "SECONDS_TO_RUN": (float, 1, 86400),
    "DEVICES": (int, 1, 1000000),
    "ZONES": (int, 1, 1000),
    "RATE": (float, 1, 1000000),
    "PUBLISHERS": (int, 1, 90),
    "ROLLBACKS": (float, 0, 99),
    "BATCH": (int, 1, 10000),
    "WINDOW": (float, 0.001, 1e9),
    "FAULTS": (float, 0, 86400),
}


def setting(name):
    """A setting as a number; otherwise the demo ends and says what is wrong with it."""
    kind, least, most = SETTINGS[name]
    try:
        value = kind(os.environ[name])
    except ValueError:
        value = None
    if value is None or not least <= value <= most:
        what = "a whole number" if kind is int else "a number"
        sys.exit(f"demo: {name} must be {what} from {least:,} to {most:,}, not \"{os.environ[name]}\"")
    return value


def connect(name):
    """A connection to the demo's own cluster (PGHOST and PGPORT), named for pg_stat_activity."""
    return psycopg2.connect(application_name="demo " + name)


class Stop:
    """Becomes true when the demo asks this program to end (SIGTERM); Ctrl-C is the demo's affair."""

    def __init__(self):
        self.requested = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._request)

    def _request(self, *_):
        self.requested = True

    def __bool__(self):
        return self.requested


def run(main):
    """Run a program's main(); a database error is one line and exit status 1."""
    try:
        main()
    except psycopg2.Error as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {str(error).strip()}")
    except BrokenPipeError:  # nobody reads the report any more
        sys.exit(1)
