"""What the webhook calls: a light function that raises alerts, on a web server that fails at times.

Some requests get an error, of some the answer is lost after the work is done, some take long.
What comes again is known by its Idempotency-Key. A receipt is in the file before the answer is
out, so one who is killed and started again knows what he has done.
"""

import http.server
import json
import os
import random
import threading
import time

from common import RECEIPTS, WEB_PORT

LOW_BATTERY = 15.0  # per cent
REFUSED = 0.04  # parts of the requests: answered by 503
SILENT = 0.02  # the answer is lost
SLOW, SLOWLY = 0.01, 0.5  # take so many seconds


def reason(tag, payload):
    """Why this message calls for somebody, or None."""
    if tag == "alarm":
        return f"temperature is {payload['temperature']}" if "temperature" in payload else f"value is {payload['value']}"
    if tag == "battery" and payload["battery"] < LOW_BATTERY:
        return f"battery is at {payload['battery']} %"
    return None


class Receipts:
    """The file of what was done: a line of JSON each. It is written by single calls: none is half there."""

    def __init__(self):
        self.lock = threading.Lock()
        self.file = os.open(RECEIPTS, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        with open(RECEIPTS, encoding="utf-8") as file:
            self.keys = {key for line in file if (key := json.loads(line).get("key"))}

    def note(self, **fields):
        os.write(self.file, (json.dumps({"at": time.time(), **fields}) + "\n").encode())

    def take(self, key, tag, payload):
        with self.lock:
            if key in self.keys:
                self.note(again=key)
                return
            self.note(key=key, id=payload["id"], sent=payload["sent"], alert=reason(tag, payload))
            self.keys.add(key)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        chance = random.random()
        if chance < REFUSED:
            self.server.receipts.note(refused=self.headers["Idempotency-Key"])
            self.answer(503)
            return
        if chance < REFUSED + SLOW:
            time.sleep(SLOWLY)
        self.server.receipts.take(self.headers["Idempotency-Key"], self.headers["Iotmq-Tag"], payload)
        if chance > 1 - SILENT:
            self.close_connection = True
        else:
            self.answer(200)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def __init__(self, *arguments):
        self.receipts = Receipts()
        super().__init__(*arguments)


def work():
    Server(("127.0.0.1", WEB_PORT), Handler).serve_forever()
