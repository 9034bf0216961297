"""One of the demo's programs in Python.

usage: program.py NAME    (publisher-N, N from 1 to PUBLISHERS; analytics-N; web-server; mirror-REGION)
"""

import signal
import sys

import analytics
import fleet
import mirror
import publisher
import replay
import web_server
from common import DATA, run

SOURCE = replay if DATA else fleet


def main():
    stopping = []  # true when the demo has asked this program to end
    name = sys.argv[1]
    if name == "web-server":
        web_server.work()
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    if name.startswith("publisher-"):
        publisher.work(SOURCE, int(name.split("-")[1]), stopping)
    elif name.startswith("mirror-"):
        mirror.work(name, stopping)
    else:
        analytics.work(name, stopping)


if __name__ == "__main__":
    run(sys.argv[1], main)
