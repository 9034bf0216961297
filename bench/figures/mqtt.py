"""From MQTT into a topic: iotmq bridge, sync and async, against a script and against the broker alone.

Rates: two publishers send as fast as Mosquitto acknowledges, from the first message until the
last one is in the topic, in the script's table, or with a subscriber that does nothing. Latency:
one publisher sends at random times; from just before a message is sent until the broker's PUBACK
is there, and until a group's consumer has it.

The picture is bench/results/mqtt.svg.
"""

import multiprocessing
import os
import random
import select
import time

import bench
import brokers
from plot import Line, Panel, draw

PUBLISHERS = 2
MESSAGES = {"broker": 60_000, "async": 60_000, "sync": 12_000, "script": 3_000}
RATES = {"sync": [100, 300, 1000], "async": [100, 300, 1000, 3000]}     # messages a second, for the latency
SECONDS = 15
LOOK = 0.1                          # seconds between two looks at how far it is
PATIENCE = 120                      # seconds without a message after which something is wrong
MODES = {"sync": ["--confirm=sync"], "async": ["--confirm=async"]}
PICTURE = os.path.join(brokers.HERE, "results", "mqtt.svg")

SCRIPT = """
    DROP TABLE IF EXISTS script;
    CREATE TABLE script (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, device_id text NOT NULL,
        payload jsonb NOT NULL, inserted_at timestamptz NOT NULL DEFAULT now());
    CREATE INDEX ON script (device_id, id);
"""


class Arrived:
    """How many messages are there."""

    def __init__(self, it, side, process, count):
        self.it, self.side, self.process, self.count = it, side, process, count
        # A topic of the same name goes on behind the offsets of the last one.
        self.base = it.value("SELECT end_offset - 1 FROM iotmq.topic_stats WHERE topic = 'bench'")

    def look(self):
        if self.side == "broker":
            return self.count if self.process.poll() is not None else 0
        table = "script" if self.side == "script" else "iotmq_topic.bench"
        last = self.it.value("SELECT max(id) FROM script" if self.side == "script" else
                             "SELECT max(msg_offset) - %s FROM iotmq_topic.bench" % self.base) or 0
        # Counted in the end only: what is below the last one may be open.
        return last if last < self.count else self.it.value(f"SELECT count(*) FROM {table}")


def taker(it, side, port, count):
    if side == "broker":
        return brokers.counter(port, count)
    if side == "script":
        return brokers.script(it, port)
    return brokers.bridge(it, port, *MODES[side])


def cpu_seconds(pid):
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


def say_cost(it, side, program, broker, count):
    """Processor time of a message, which says what a machine could do that does nothing else."""
    pids = it.value("SELECT array_agg(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    " AND backend_type = 'client backend'")
    costs = {"broker": [broker]}
    if side != "broker":    # that one's subscriber has ended
        costs.update(program=[program], server=pids)
    costs = {what: 1e6 * sum(map(cpu_seconds, of)) / count for what, of in costs.items()}
    bench.say(f"mqtt, {side}: processor time of a message, us: " + ", ".join(f"{what} {cost:.1f}" for what, cost in costs.items())
              + f"; load {os.getloadavg()[0]:.1f}")


def throughput(it, side, lines):
    """messages a second; the line of the last run is kept"""
    count = bench.scaled(MESSAGES[side], PUBLISHERS)
    it.new_topic("bench")
    it.run(SCRIPT)
    it.run("CHECKPOINT")
    with brokers.broker() as (port, broker), taker(it, side, port, count) as process:
        publishers = [multiprocessing.Process(target=brokers.publish, args=(port, n, count // PUBLISHERS)) for n in range(PUBLISHERS)]
        start = last = time.monotonic()
        for publisher in publishers:
            publisher.start()
        points = [(0, 0)]
        arrived = Arrived(it, side, process, count)
        while points[-1][1] < count:
            time.sleep(LOOK)
            there = arrived.look()
            now = time.monotonic()
            if there > points[-1][1]:
                last = now
            elif now - last > PATIENCE:
                raise RuntimeError(f"{side}: {there} of {count} messages have come")
            points.append((now - start, there))
        for publisher in publishers:
            publisher.join()
        say_cost(it, side, process.pid, broker, count)
    lines[side] = [points[0], points[-1]] if side == "broker" else points    # of the broker only the end is known
    return count / points[-1][0]


def steady(port, rate, seconds, ended, sent):
    """a publisher at random times, and when its PUBACKs came"""
    times, acknowledged = {}, {}
    with brokers.Connection(port, "steady", timeout=60) as connection:
        end = time.monotonic() + seconds
        due = time.monotonic()
        number = 0
        while True:
            now = time.monotonic()
            if due >= end and len(acknowledged) == number:
                break
            if now >= due and due < end:
                due += random.expovariate(rate)
                times[number] = time.monotonic()
                connection.send(brokers.messages_of([number]), first_id=number % 65000 + 1)
                number += 1
            elif select.select([connection.sock], [], [], max(0, min(due, end) - now) if due < end else 60)[0]:
                packet = connection.acknowledged() - 1
                acknowledged[packet + (number - 1 - packet) // 65000 * 65000] = time.monotonic()
    ended.set()
    sent.put((times, acknowledged))


def consumer(database, ended, received):
    connection = bench.connect(database)
    cursor = connection.cursor()
    cursor.execute("PREPARE consume AS SELECT lease_id, (payload->>'n')::int"
                   " FROM iotmq.consume('bench', 'reader', 100, wait => '1 s')")
    receipts = {}
    while True:
        last = ended.is_set()           # read before the call, or the last message could be missed
        cursor.execute("EXECUTE consume")
        now = time.monotonic()
        rows = cursor.fetchall()
        if rows:
            receipts.update((n, now) for _, n in rows)
            cursor.execute("SELECT iotmq.ack(%s)", (rows[0][0],))
        elif last:
            break
    received.put(receipts)


def percentiles(times):
    times = sorted(times)
    return 1000 * times[len(times) // 2], 1000 * times[len(times) * 99 // 100]


def latency(it, side, rate):
    """p50 and p99 in ms, to PUBACK and to receipt"""
    it.new_topic("bench")
    it.new_group("bench", "reader")
    ended, sent, received = multiprocessing.Event(), multiprocessing.Queue(), multiprocessing.Queue()
    with brokers.broker() as (port, _), brokers.bridge(it, port, *MODES[side]):
        processes = [multiprocessing.Process(target=consumer, args=(it.name, ended, received)),
                     multiprocessing.Process(target=steady, args=(port, rate, bench.scaled(SECONDS), ended, sent))]
        for process in processes:
            process.start()
        times, acknowledged = sent.get(timeout=SECONDS + 60)
        receipts = received.get(timeout=60)
        for process in processes:
            process.join()
    if times.keys() != receipts.keys():
        raise RuntimeError(f"{len(times)} messages published, {len(receipts)} received")
    puback = percentiles([acknowledged[n] - at for n, at in times.items()])
    receipt = percentiles([receipts[n] - at for n, at in times.items()])
    bench.say(f"mqtt, {side} at {rate}/s: {len(times)} messages in {max(times.values()) - min(times.values()):.1f} s, "
              f"PUBACK {puback[0]:.2f} and {puback[1]:.2f} ms, receipt {receipt[0]:.2f} and {receipt[1]:.2f} ms")
    return puback, receipt


def picture(lines, latencies):
    over_rate = [Line(f"{side}, {name}", [(rate, latencies[side, rate][1][which]) for rate in RATES[side]])
                 for side in MODES for which, name in enumerate(("p50", "p99"))]
    names = {"broker": "Mosquitto alone", "async": "bridge, async", "sync": "bridge, sync", "script": "script"}
    draw(PICTURE, "From MQTT into PostgreSQL", [
        Panel("Messages that have arrived", [Line(names[side], points) for side, points in lines.items()], unit="messages"),
        Panel("From the device to a group's consumer", over_rate, unit="ms", x="number", x_label="messages/s", log="xy"),
    ], note=f"{os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}, load {os.getloadavg()[0]:.1f} at the end")


def measure(it):
    brokers.build()
    lines = {}
    rates = bench.alternate("mqtt, messages/s", **{
        side: (lambda side=side: throughput(it, side, lines)) for side in ("broker", "async", "sync", "script")})
    rows = [
        compared("MQTT to topic, sync (bare = script)", rates["sync"], rates["script"], 1000),
        compared("MQTT to topic, async (bare = Mosquitto alone)", rates["async"], rates["broker"], 20000),
    ]
    latencies = {(side, rate): latency(it, side, rate) for side in MODES for rate in RATES[side]}
    for side in MODES:
        for what, times in zip(("PUBACK", "receipt"), latencies[side, 1000]):
            for name, value in zip(("p50", "p99"), times):
                rows.append(bench.at_most(f"MQTT to {what}, {side}, 1,000/s, {name}", [value], None, "ms"))
    picture(lines, latencies)
    return rows


def compared(name, values, others, target):
    """a rate that is to be reached, with another one beside it"""
    ratio = bench.median_ratio(values, others)
    rate = bench.median(values)
    return bench.Row(name, f"{rate:,.0f}/s", f"{bench.median(others):,.0f}/s", f"{ratio:.2f}", f"at least {target:,}/s", rate >= target)
