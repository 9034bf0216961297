"""The longest call of 4 publishers and 3 groups while a segment of 10^6 messages is dropped."""

import glob
import os
import tempfile
import threading
import time

from lib import bench

PUBLISH = "SELECT iotmq.publish('bench', 'device', :payload);"

# The pause keeps consumers from using up the machine; it is part of a transaction's time.
PAUSE_MS = 2
CONSUME = bench.CONSUME + f"\\sleep {PAUSE_MS} ms\n"


def longest(prefix, begin, end):
    """ms of the longest transaction that ended while the segment was dropped, or just after"""
    times = []
    for name in glob.glob(prefix + "*"):
        with open(name) as file:
            for line in file:
                fields = line.split()       # client, number, us, script, epoch, us of it
                ended = int(fields[4]) + int(fields[5]) / 1e6
                if begin <= ended <= end + 1:
                    times.append(int(fields[2]) / 1000)
    return max(times)


def measure():
    messages = bench.scaled(1_000_000, 1000)
    values = []
    with bench.database("retention") as it, tempfile.TemporaryDirectory() as folder:
        it.run(bench.LOAD_PAST)
        for run in range(bench.RUNS):
            it.new_topic("bench", segment_interval="20 hours")
            it.run("CALL load_past('bench', %s, 2)", 2 * messages)
            for n in range(3):
                it.new_group("bench", f"group{n}", start_from="infinity")
            moments = []

            def drop():
                time.sleep(3)
                moments.append(time.time())
                # the older half is more than 72 hours old then
                it.run("CALL iotmq.run_maintenance(now() + '55 hours')")
                moments.append(time.time())

            before = it.value("SELECT count(*) FROM iotmq.segment WHERE sealed")
            prefix = os.path.join(folder, f"run{run}")
            dropper = threading.Thread(target=drop)
            dropper.start()
            publisher = threading.Thread(target=bench.pgbench, args=(it, PUBLISH), kwargs={
                "clients": 4, "seconds": 8, "payload": bench.PAYLOAD,
                "options": ("-R", "400", "-l", f"--log-prefix={prefix}publish")})
            publisher.start()
            bench.pgbench(it, [CONSUME.format(topic="bench", group=f"group{n}") for n in range(3)],
                          seconds=8, options=("-l", f"--log-prefix={prefix}consume"))
            publisher.join()
            dropper.join()
            if it.value("SELECT count(*) FROM iotmq.segment WHERE sealed") >= before:
                raise RuntimeError("no segment was dropped")
            values.append(longest(prefix, *moments))
            bench.say(f"retention {run + 1}/{bench.RUNS}: {values[-1]:.1f} ms")
    return [bench.at_most("longest call while 10^6 messages are dropped", bench.median(values), 50, "ms")]
