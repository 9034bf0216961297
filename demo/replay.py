"""Replay of recorded series: <DATA>/<zone>/<device>.csv with the header timestamp,value.

Each gateway takes its share of the files and sends them as fast as they go. A device's
readings are sent by one gateway, in the order of its file.
"""

import csv
import itertools
import math
import os
import re
import sys
from datetime import datetime

from common import DATA, setting
from publisher import Message

MEMORY = 0.02  # weight of a new reading in the running mean and variance
FAR = 4.0  # standard deviations from the mean that make a reading an alarm


def series(folder):
    """All files as (zone, device, path), the biggest first so that the shares come out even."""
    if not os.path.isdir(folder):
        sys.exit(f"demo: {folder}: no such folder")
    found, taken = [], set()
    for directory in sorted(entry.path for entry in os.scandir(folder) if entry.is_dir()):
        files = sorted(e.path for e in os.scandir(directory) if e.name.endswith(".csv") and e.is_file())
        if files:
            zone = _zone_name(os.path.basename(directory), taken)
            found += [(zone, _device_name(path), path) for path in files]
    if not found:
        sys.exit(f"demo: {folder}: no files <zone>/<device>.csv in it")
    return sorted(found, key=lambda item: (-os.path.getsize(item[2]), item[2]))


def zones():
    return sorted({zone for zone, _, _ in series(DATA)})


def _zone_name(directory, taken):
    """A zone name for a folder: only the letters that zones may have, and none given twice."""
    name = base = re.sub(r"[^A-Za-z0-9_.-]", "_", directory).lstrip("_.-")[:40] or "zone"
    number = 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return name


def _device_name(path):
    """The name of a file, as far as it can be a level of an MQTT topic."""
    name = os.fsencode(os.path.basename(path)[: -len(".csv")] or "unnamed").decode(errors="replace")
    return re.sub(r"[+#/]", "_", name).encode()[:255].decode(errors="ignore")


def readings(path):
    """Each row as (time, value), None for a row that is no such thing."""
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = csv.DictReader(file)
        if not {"timestamp", "value"} <= set(rows.fieldnames or []):
            sys.exit(f"demo: {path}: the first line must be timestamp,value")
        for row in rows:
            try:
                at, value = datetime.fromisoformat(row["timestamp"]), float(row["value"])
                yield (at.isoformat(), value) if math.isfinite(value) else None
            except (ValueError, TypeError):
                yield None


def messages(publisher, zone, device, path):
    """The file's readings as messages; what lies far off its recent mean is tagged as an alarm."""
    mean, variance, count = 0.0, 0.0, 0
    for reading in readings(path):
        if reading is None:
            publisher.skipped += 1
            continue
        at, value = reading
        count += 1
        weight = max(MEMORY, 1 / count)
        far = count > 1 / MEMORY and (value - mean) ** 2 > FAR**2 * variance
        variance = (1 - weight) * (variance + weight * (value - mean) ** 2)
        mean += weight * (value - mean)
        yield Message(publisher.new_id(), zone, device, "alarm" if far else "reading", {"at": at, "value": value})


def batches(publisher):
    """What the gateway sends."""
    for zone, device, path in series(DATA)[publisher.number - 1 :: setting("PUBLISHERS")]:
        source = messages(publisher, zone, device, path)
        while chunk := list(itertools.islice(source, setting("BATCH"))):
            yield chunk
