"""What every program of the demo shares: the topic, the settings, the connection."""

import os
import sys

import psycopg2

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))  # plot

TOPIC = "telemetry"
URGENT = ("alarm", "battery")  # the tags that the threshold group asks for

DATA = os.environ.get("DATA")
KEEP = os.environ.get("KEEP")
PLOT = os.environ["PLOT"]
RETENTION = os.environ.get("RETENTION") or "1 day"
SEGMENT = os.environ.get("SEGMENT") or "10 s"
ARCHIVE = os.environ["ARCHIVE"]

# The numbers among the settings, which demo/run explains: kind, default, least, most.
SETTINGS = {
    "SECONDS_TO_RUN": (float, 20, 1, 86400),
    "DEVICES": (int, 1000, 1, 1000000),
    "ZONES": (int, 4, 1, 1000),
    "RATE": (float, 2000, 1, 1000000),
    "PUBLISHERS": (int, 4, 1, 90),
    "ROLLBACKS": (float, 2, 0, 99),
    "BATCH": (int, 2000 if DATA else 500, 1, 10000),
    "WINDOW": (float, 3600 if DATA else 5, 0.001, 1e9),
    "FAULTS": (float, 0, 0, 86400),
}


def setting(name):
    """A setting as a number; otherwise the demo ends and says what is wrong with it."""
    kind, default, least, most = SETTINGS[name]
    given = os.environ.get(name) or default
    try:
        value = kind(given)
    except ValueError:
        value = None
    if value is None or not least <= value <= most:
        what = "a whole number" if kind is int else "a number"
        sys.exit(f"demo: {name} must be {what} from {least:,} to {most:,}, not \"{given}\"")
    return value


def connect(name):
    """A connection to the demo's own cluster (PGHOST and PGPORT), named for pg_stat_activity."""
    return psycopg2.connect(application_name="demo " + name)


def run(name, main):
    """Run a program's main(); a database error is one line and exit status 1."""
    try:
        main()
    except psycopg2.Error as error:
        sys.exit(f"{name}: {str(error).strip()}")
    except BrokenPipeError:  # nobody reads the report any more
        sys.exit(1)
