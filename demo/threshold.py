"""Group "threshold": a light function behind a tag filter that raises alerts.

The server delivers only the tags that the group asks for; all others cost this program nothing.
"""

from psycopg2.extras import execute_values

LOW_BATTERY = 15.0  # per cent


def reason(message):
    """Why this message calls for somebody, or None."""
    payload = message.payload
    if message.tag == "alarm":
        return f"temperature is {payload['temperature']}" if "temperature" in payload else f"value is {payload['value']}"
    if message.tag == "battery" and payload["battery"] < LOW_BATTERY:
        return f"battery is at {payload['battery']} %"
    return None


def effects(cur, messages):
    alerts = [(m.payload["id"], m.zone, m.device_id, why, m.published_at) for m in messages if (why := reason(m))]
    if alerts:
        execute_values(cur, "INSERT INTO demo.alert (id, zone, device_id, reason, published_at) VALUES %s", alerts)
