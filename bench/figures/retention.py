"""The longest call of 4 publishers and 3 groups while a segment of 10^6 messages is dropped."""

import glob
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import bench

# The pause keeps consumers from using up the machine; it is part of a transaction's time.
PAUSE = "\\sleep 2 ms\n"


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


def measure(it):
    messages = bench.scaled(1_000_000, 1000)
    values = []
    with tempfile.TemporaryDirectory() as folder:
        for run in range(bench.RUNS):
            it.new_topic("bench", segment_interval="20 hours")
            it.run("CALL load_past('bench', %s, 2)", 2 * messages)
            for n in range(3):
                it.new_group("bench", f"group{n}", start_from="infinity")
            before = it.value("SELECT count(*) FROM iotmq_internal.segment WHERE sealed")
            prefix = os.path.join(folder, f"run{run}")
            moments = []

            def publish():
                it.pgbench("SELECT iotmq.publish('bench', 'device', :payload);", payload=bench.PAYLOAD, clients=4, seconds=8,
                           options=("-R", "400", "-l", f"--log-prefix={prefix}publish"))

            def consume():
                it.pgbench(*(bench.consume("bench", f"group{n}") + PAUSE for n in range(3)), seconds=8,
                           options=("-l", f"--log-prefix={prefix}consume"))

            def drop():
                time.sleep(3)
                moments.append(time.time())
                # the older half is more than 72 hours old then
                it.run("CALL iotmq.run_maintenance(now() + '55 hours')")
                moments.append(time.time())

            with ThreadPoolExecutor() as threads:
                for part in [threads.submit(part) for part in (publish, consume, drop)]:
                    part.result()
            if it.value("SELECT count(*) FROM iotmq_internal.segment WHERE sealed") >= before:
                raise RuntimeError("no segment was dropped")
            values.append(longest(prefix, *moments))
            bench.say(f"retention {run + 1}/{bench.RUNS}: {values[-1]:.1f} ms")
    return [bench.at_most("longest call while 10^6 messages are dropped", values, 50, "ms")]
