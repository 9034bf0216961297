"""Group "analytics": window aggregates and anomalies of every device.

Several of these run at once, and one device's messages may be in the batches of two of them.
A device's row is locked for the whole transaction, always in the order of device_id, so they
neither overwrite each other nor deadlock. Two batches may come in either order, though: window
aggregates don't depend on it, and a z-score does so a little.
"""

import math
from datetime import datetime, timezone

from psycopg2.extras import execute_values

from common import setting

ROLLING = 60  # readings of a device that a new one is compared with
ENOUGH = 12  # readings it takes to judge
FAR = 4.0  # standard deviations from their mean that make an anomaly


def z_score(value, recent):
    """How many standard deviations value lies from the mean of the recent ones; 0 if these are too few."""
    if len(recent) < ENOUGH:
        return 0.0
    mean = sum(recent) / len(recent)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in recent) / len(recent))
    return (value - mean) / max(deviation, 1e-3 * abs(mean), 1e-9)


def event_time(payload):
    at = datetime.fromisoformat(payload["at"])
    return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()


def aggregate(readings, seconds):
    """Readings (device, time, value) as one row a device and window of that many seconds."""
    windows = {}
    for device, at, value in readings:
        start = at // seconds * seconds
        count, total, lowest, highest = windows.get((device, start), (0, 0.0, value, value))
        windows[device, start] = count + 1, total + value, min(lowest, value), max(highest, value)
    return [(device, datetime.fromtimestamp(start, timezone.utc), *row) for (device, start), row in windows.items()]


def lock_devices(cur, zone, devices):
    """Lock the devices' rows and return their recent readings."""
    cur.execute(
        """
        INSERT INTO demo.device (zone, device_id)
        SELECT %s, d FROM unnest(%s) AS d ORDER BY d
        ON CONFLICT DO NOTHING
        """,
        [zone, devices],
    )
    cur.execute(
        """
        SELECT device_id, recent
        FROM demo.device
        WHERE zone = %s AND device_id = ANY (%s)
        ORDER BY device_id
        FOR UPDATE
        """,
        [zone, devices],
    )
    return dict(cur.fetchall())


def effects(cur, messages):
    zone = messages[0].zone  # a lease is of one zone
    recent = lock_devices(cur, zone, list({m.device_id for m in messages}))
    readings, anomalies = [], []
    for message in messages:
        payload = message.payload
        value = payload["temperature"] if "temperature" in payload else payload["value"]
        past = recent[message.device_id]
        z = z_score(value, past)
        if abs(z) > FAR:
            anomalies.append((payload["id"], zone, message.device_id, payload["at"], value, z))
        past.append(value)
        del past[:-ROLLING]
        readings.append((message.device_id, event_time(payload), value))

    execute_values(
        cur,
        """
        INSERT INTO demo.device_window AS w (zone, device_id, window_start, readings, total, lowest, highest)
        VALUES %s
        ON CONFLICT (zone, device_id, window_start) DO UPDATE SET
            readings = w.readings + excluded.readings,
            total = w.total + excluded.total,
            lowest = least(w.lowest, excluded.lowest),
            highest = greatest(w.highest, excluded.highest)
        """,
        [(zone, *row) for row in aggregate(readings, setting("WINDOW"))],
        page_size=1000,
    )
    execute_values(
        cur,
        """
        UPDATE demo.device AS d SET recent = v.recent
        FROM (VALUES %s) AS v (zone, device_id, recent)
        WHERE d.zone = v.zone AND d.device_id = v.device_id
        """,
        [(zone, device, past) for device, past in recent.items()],
        page_size=1000,
    )
    if anomalies:
        execute_values(cur, "INSERT INTO demo.anomaly (id, zone, device_id, at, value, z_score) VALUES %s", anomalies)
