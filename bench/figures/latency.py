"""From publish's commit to receipt, the consumer in wait mode: of a stream, and after silence.

The clock starts just before the publisher sends COMMIT, so the commit itself is counted too,
and stops when the consumer has the rows, before it acknowledges. Publisher and consumer are
processes of their own. The pauses are random (a Poisson process): no beat with the polling.
"""

import multiprocessing
import random
import time

import bench

# messages a second, seconds a run, and what p50 and p99 may be, in ms
STREAMS = [(1000, 15, 0.8, 4),
           (200, 15, 3, 15),
           (2, 30, 15, 30)]    # a call that has waited for half a second looks every 20 ms


def publisher(database, rate, seconds, ended, sent):
    connection = bench.connect(database)
    cursor = connection.cursor()
    cursor.execute("PREPARE publish AS SELECT iotmq.publish('bench', $1, $2)")
    commits = {}
    end = time.monotonic() + seconds
    due = time.monotonic()
    while due < end and time.monotonic() < end:     # a slow machine publishes fewer
        due += random.expovariate(rate)
        time.sleep(max(0, due - time.monotonic()))
        cursor.execute("BEGIN")
        cursor.execute("EXECUTE publish(%s, %s)", (f"device-{random.randrange(bench.DEVICES)}", bench.PAYLOAD))
        msg_offset = cursor.fetchone()[0]
        commits[msg_offset] = time.monotonic()
        cursor.execute("COMMIT")
    ended.set()
    sent.put(commits)


def consumer(database, ended, received):
    connection = bench.connect(database)
    cursor = connection.cursor()
    cursor.execute("PREPARE consume AS SELECT lease_id, msg_offset, device_id, payload"
                   " FROM iotmq.consume('bench', 'reader', 100, wait => '1 s')")
    receipts = {}
    while True:
        last = ended.is_set()           # read before the call, or the last message could be missed
        cursor.execute("EXECUTE consume")
        now = time.monotonic()
        rows = cursor.fetchall()
        if rows:
            receipts.update((row[1], now) for row in rows)
            cursor.execute("SELECT iotmq.ack(%s)", (rows[0][0],))
        elif last:
            break
    received.put(receipts)


def percentiles(it, rate, seconds, run):
    """p50 and p99 of one run in milliseconds"""
    it.new_topic("bench")
    it.new_group("bench", "reader")
    ended, sent, received = multiprocessing.Event(), multiprocessing.Queue(), multiprocessing.Queue()
    processes = [multiprocessing.Process(target=consumer, args=(it.name, ended, received)),
                 multiprocessing.Process(target=publisher, args=(it.name, rate, seconds, ended, sent))]
    for process in processes:
        process.start()
    commits, receipts = sent.get(timeout=seconds + 30), received.get(timeout=30)
    for process in processes:
        process.join()
    if commits.keys() != receipts.keys():
        raise RuntimeError(f"{len(commits)} messages published, {len(receipts)} received, "
                           f"{len(commits.keys() & receipts.keys())} of them the same")
    times = sorted(1000 * (receipts[msg_offset] - commits[msg_offset]) for msg_offset in commits)
    p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
    bench.say(f"latency, {rate}/s, {run + 1}/{bench.RUNS}: {len(times)} messages, p50 {p50:.2f} ms, p99 {p99:.2f} ms, "
              f"longest {times[-1]:.1f} ms")
    return p50, p99


def measure(it):
    rows = []
    for rate, seconds, most_p50, most_p99 in STREAMS:
        p50s, p99s = zip(*(percentiles(it, rate, bench.scaled(seconds), run) for run in range(bench.RUNS)))
        rows += [bench.at_most(f"commit to receipt, {rate}/s, p50", p50s, most_p50, "ms"),
                 bench.at_most(f"commit to receipt, {rate}/s, p99", p99s, most_p99, "ms")]
    return rows
