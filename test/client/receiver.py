#!/usr/bin/python3
"""A web server that gets webhooks, and misbehaves as the payload of a message says.

    receiver.py LOG SECRET [CERTIFICATE KEY]

Prints its port, then writes a line of JSON to LOG for each request. With a certificate it speaks
TLS, and wants the same one of its clients.

A payload {"answers": [500, 200]} is answered by 500 at its first attempt (Iotmq-Attempt), then
by 200; 0 is no answer for a long time, -1 a closed connection.  The last one repeats.
"""

import base64
import hashlib
import hmac
import http.server
import json
import ssl
import sys
import threading
import time

log = open(sys.argv[1], "a", buffering=1)
secret = sys.argv[2].encode()
lock = threading.Lock()
at_once = 0


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global at_once
        with lock:
            at_once += 1
            together = at_once
        content = self.rfile.read(int(self.headers["Content-Length"]))
        signed = b".".join((self.headers["webhook-id"].encode(), self.headers["webhook-timestamp"].encode(), content))
        signature = "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
        is_json = self.headers["Content-Type"] == "application/json"
        payload = json.loads(content) if is_json else content.decode("latin1")
        answers = payload.get("answers", [200]) if isinstance(payload, dict) else [200]
        attempt = int(self.headers.get("Iotmq-Attempt", 1))
        answer = answers[min(attempt, len(answers)) - 1]
        begin = time.monotonic()
        if isinstance(payload, dict):
            time.sleep(payload.get("sleep", 0))
        with lock:
            at_once -= 1
            log.write(json.dumps({
                "begin": begin, "end": time.monotonic(), "answer": answer, "together": together, "payload": payload,
                "signed": signature == self.headers["webhook-signature"],
                "headers": {name.lower(): value for name, value in self.headers.items()}}) + "\n")
        if answer == 0:
            time.sleep(14)
        if answer <= 0:
            self.close_connection = True
            return
        text = f"{answer} für {attempt}\r\n".encode("latin1" if answer == 422 else "utf8")
        self.send_response(answer)
        if answer == 429:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    context.load_verify_locations(sys.argv[3])
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
