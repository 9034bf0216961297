"""The simulated fleet: one publisher connection's share of the devices, at a steady rate.

Devices are spread over all zones and each zone is served by every connection, so that
transactions of several connections are always open in the same zone.
"""

import math
import time
from datetime import datetime, timezone

from common import setting
from publisher import Message, copy, publish, publish_batch

TICK = 0.04  # seconds from one transaction of a connection to the next
TOO_HOT = 45.0


def zones():
    return [f"plant-{number}" for number in range(1, setting("ZONES") + 1)]


class Device:
    """A sensor: slow drift, noise, now and then a spike, a battery that runs down."""

    def __init__(self, number, random):
        self.device_id = f"sensor-{number:04}"
        self.random = random
        self.base = random.uniform(18, 26)
        self.phase = random.uniform(0, 2 * math.pi)
        self.battery = random.uniform(12, 100)
        self.readings = random.randrange(20)

    def read(self, message_id):
        self.readings += 1
        self.battery = max(self.battery - 0.002, 0)
        spike = self.random.random() < 0.002
        temperature = self.base + 3 * math.sin(self.phase + self.readings / 50) + self.random.gauss(0, 0.3)
        vibration = abs(self.random.gauss(0.02, 0.005))
        if spike:
            temperature += self.random.uniform(10, 40)
            vibration *= 8
        if temperature > TOO_HOT:
            tag = "alarm"
        elif self.readings % 20 == 0:
            tag = "battery"
        else:
            tag = "temperature"
        at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        payload = (
            f'{{"id": {message_id}, "at": "{at}", "temperature": {temperature:.2f}, "vibration": {vibration:.4f}, '
            f'"battery": {self.battery:.1f}, "rssi": {self.random.randint(-90, -40)}, "firmware": "2.4.1"}}'
        )
        return Message(message_id, self.device_id, tag, payload)


def transactions(publisher):
    """What the connection sends, when it is due: (way, zone, messages)."""
    number = publisher.number
    publishers, devices = setting("PUBLISHERS"), setting("DEVICES")
    seconds, per_tick = setting("SECONDS_TO_RUN"), setting("RATE") / publishers * TICK

    mine = {zone: [] for zone in zones()}
    for device in range(number, devices + 1, publishers):
        zone = zones()[(device - 1) * len(mine) // devices]
        mine[zone].append(Device(device, publisher.random))
    served = [(zone, members) for zone, members in mine.items() if members]

    start = time.monotonic() + TICK * number / publishers  # so that not all send at the same moment
    turn, due = [0] * len(served), 0.0
    for tick in range(int(seconds / TICK) if served else 0):
        time.sleep(max(0, start + tick * TICK - time.monotonic()))
        if time.monotonic() - start > seconds:
            break
        due += per_tick
        which = (tick + number) % len(served)
        zone, members = served[which]
        messages = []
        for _ in range(int(due)):
            messages.append(members[turn[which] % len(members)].read(publisher.new_id()))
            turn[which] += 1
        due -= len(messages)
        if messages:
            way = publisher.random.choices([publish, publish_batch, copy], [1, 2, 2])[0]
            if way is publish:
                for message in messages:
                    yield way, zone, [message]
            else:
                yield way, zone, messages
