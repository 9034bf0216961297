"""What every program of the demo shares: the topic, the settings, where things are, the connection."""

import os
import sys

import psycopg2

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "..", "tools"))  # mqtt, plot

TOPIC = "telemetry"
POISON = "poison"
GROUPS = ("analytics", "threshold", "archive")
URGENT = ("alarm", "battery")  # the tags that the threshold group asks for

DATA = os.environ.get("DATA")
KEEP = os.environ.get("KEEP")
PLOT = os.environ["PLOT"]
RETENTION = os.environ.get("RETENTION") or "1 day"
SEGMENT = os.environ.get("SEGMENT") or "10 s"
ARCHIVE = os.environ["ARCHIVE"]
CLIENT = os.environ["CLIENT"]  # the folder of the program iotmq's sources

# A folder for what programs leave to each other, and their logs.
FOLDER = os.environ["FOLDER"]
LEDGERS = os.path.join(FOLDER, "ledgers")
RECEIPTS = os.path.join(FOLDER, "receipts")  # of the web server

# main.py chooses them; the programs that it starts find them here.
BROKER_PORT = int(os.environ.get("BROKER_PORT") or 0)
WEB_PORT = int(os.environ.get("WEB_PORT") or 0)

# The numbers among the settings, which demo/run explains: kind, default, least, most.
SETTINGS = {
    "SECONDS_TO_RUN": (float, 20, 1, 86400),
    "DEVICES": (int, 1000, 1, 1000000),
    "ZONES": (int, 4, 1, 1000),
    "RATE": (float, 2000, 1, 1000000),
    "PUBLISHERS": (int, 4, 1, 90),
    "BATCH": (int, 2000 if DATA else 500, 1, 10000),
    "WINDOW": (float, 3600 if DATA else 5, 0.001, 1e9),
    "FAULTS": (float, 0, 0, 86400),
    "REGIONS": (int, 1, 1, 2),
    "CUT": (float, 0.5, 0, 86400),
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
    conn = psycopg2.connect(application_name="demo " + name)
    conn.autocommit = True
    return conn


def is_lost(error):
    """Whether an error says that there is no connection (any more): the server's own have an SQLSTATE."""
    return error.pgcode is None or isinstance(error, psycopg2.OperationalError)


def run(name, main):
    """Run a program's main(); a database error is one line and exit status 1."""
    try:
        main()
    except psycopg2.Error as error:
        sys.exit(f"{name}: {str(error).strip()}")
    except BrokenPipeError:  # nobody reads the report any more
        sys.exit(1)
