"""The simulated fleet: one gateway's share of the devices, at a steady rate.

Devices are spread over all zones and each zone is served by every gateway.
"""

import math
import time
from datetime import datetime, timezone

from common import setting
from publisher import Message

TICK = 0.04  # seconds from one sending of a gateway to the next
TOO_HOT = 45.0


def zones():
    return [f"plant-{number}" for number in range(1, setting("ZONES") + 1)]


class Device:
    """A sensor: slow drift, noise, now and then a spike, a battery that runs down."""

    def __init__(self, number, zone, random):
        self.device_id = f"sensor-{number:04}"
        self.zone = zone
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
        return Message(message_id, self.zone, self.device_id, tag, {
            "at": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "temperature": round(temperature, 2),
            "vibration": round(vibration, 4),
            "battery": round(self.battery, 1),
            "rssi": self.random.randint(-90, -40),
            "firmware": "2.4.1",
        })


def batches(publisher):
    """What the gateway sends, when it is due."""
    number = publisher.number
    publishers, devices = setting("PUBLISHERS"), setting("DEVICES")
    seconds, per_tick = setting("SECONDS_TO_RUN"), setting("RATE") / publishers * TICK

    names = zones()
    mine = [Device(device, names[(device - 1) * len(names) // devices], publisher.random)
            for device in range(number, devices + 1, publishers)]
    publisher.random.shuffle(mine)

    start = time.monotonic() + TICK * number / publishers  # so that not all send at the same moment
    turn, due = 0, 0.0
    for tick in range(int(seconds / TICK) if mine else 0):
        time.sleep(max(0, start + tick * TICK - time.monotonic()))
        if time.monotonic() - start > seconds:
            break
        due += per_tick
        messages = [mine[(turn + n) % len(mine)].read(publisher.new_id()) for n in range(int(due))]
        turn += len(messages)
        due -= len(messages)
        if messages:
            yield messages
