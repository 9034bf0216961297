"""Looks at what is out while everybody works, and that the views hold together."""

import time

import recount
from client import Client

AHEAD = """SELECT topic, consumer_group, zone, earliest_offset, next_offset, stable_offset, end_offset, lag_messages,
    ready_messages, inflight_messages, retry_messages, blocked_devices
FROM iotmq.consumer_lag
WHERE (next_offset <= stable_offset AND earliest_offset <= end_offset AND stable_offset <= end_offset
    AND ready_messages >= 0 AND lag_messages = ready_messages + inflight_messages + retry_messages
    AND blocked_devices <= retry_messages AND (mode = 'orderly' OR blocked_devices = 0)) IS NOT TRUE"""


class Watcher(Client):
    def __init__(self, load, name):
        super().__init__(load, name)
        self.expected = self.expected | {"42P01"}      # a table that was dropped under a view

    def step(self):
        begin = time.monotonic()
        found = recount.look(self.session.execute)
        self.journal.write("leases", begin, **found)
        wrong = self.session.execute(AHEAD)
        if wrong:
            self.journal.write("figures", wrong=[f"consumer_lag does not hold together: {row}" for row in wrong])
        time.sleep(0.1)
