"""One publisher or consumer of the demo.

usage: program.py NAME    (publisher-N, N from 1 to PUBLISHERS; analytics-N, threshold-N, archiver-N)
"""

import signal
import sys

import analytics
import archiver
import consumer
import fleet
import replay
import threshold
from common import DATA, run
from publisher import Publisher

SOURCE = replay if DATA else fleet
EFFECTS = {"analytics": analytics.effects, "threshold": threshold.effects}


def main():
    stopping = []  # true when the demo has asked this program to end
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    name = sys.argv[1]
    role, number = name.split("-")
    if role == "publisher":
        publisher = Publisher(int(number))
        for way, zone, messages in SOURCE.transactions(publisher):
            if stopping:
                break
            publisher.send(way, zone, messages)
        publisher.finish()
    elif role == "archiver":
        archiver.work(name, stopping)
    else:
        consumer.work(role, name, EFFECTS[role], stopping)


if __name__ == "__main__":
    run(sys.argv[1], main)
