#!/usr/bin/python3
"""A server of object storage that checks signatures and fails at times.

    storage.py FOLDER KEY_ID SECRET REGION [FAULTS]    prints its port

It has what S3's REST API says of PUT and GET of an object and ListObjectsV2, by the bucket's
path, with pages of three keys.  Objects are files in FOLDER, the key percent-encoded.  Each request's
signature is worked out anew as AWS's documentation of Signature Version 4 says it
("Create a signed AWS API request"); one that differs, or other content than its hash, is refused.

FAULTS: every so manyth request fails, in turn by 500, 503, a connection closed before it is
done, one closed after it is done, and a connection closed at once that is done a second later.
"""

import datetime
import hashlib
import hmac
import http.server
import os
import re
import sys
import threading
import time
import urllib.parse
from xml.sax.saxutils import escape

folder, key_id, secret, region = sys.argv[1:5]
faults = int(sys.argv[5]) if len(sys.argv) > 5 else 0
lock = threading.Lock()
requests = 0


def digest(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def uri_encode(text, slash):
    return urllib.parse.quote(text, safe="-._~/" if slash else "-._~")


def signature_of(method, path, query, headers, signed, date, scope, content_hash):
    parameters = urllib.parse.parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    canonical = "\n".join((
        method,
        uri_encode(urllib.parse.unquote(path), True),
        "&".join(f"{name}={value}" for name, value in
                 sorted((uri_encode(name, False), uri_encode(value, False)) for name, value in parameters)),
        "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in signed),
        ";".join(signed),
        content_hash))
    text = "\n".join(("AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = digest(key, part)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


class Refused(Exception):
    pass


class Storage(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def check(self, content):
        form = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/,]+)/([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})",
                            self.headers.get("Authorization", ""))
        if not form:
            raise Refused(403, "AccessDenied", "Access Denied")
        name, scope, signed, signature = form.groups()
        signed = signed.split(";")
        headers = {name.lower(): value for name, value in self.headers.items()}
        date = headers["x-amz-date"]
        if name != key_id:
            raise Refused(403, "InvalidAccessKeyId", "There's no key \"" + name + "\" & <none> like it")
        if scope != f"{date[:8]}/{region}/s3/aws4_request":
            raise Refused(400, "AuthorizationHeaderMalformed", f"The scope is {scope}")
        at = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
        if abs(at.timestamp() - time.time()) > 900:
            raise Refused(403, "RequestTimeTooSkewed", f"It is not {date}")
        must = {"host"} | {name for name in headers if name.startswith("x-amz-")}
        if signed != sorted(signed) or not must <= set(signed):
            raise Refused(403, "AccessDenied", f"Not all of {must} are signed")
        if headers.get("x-amz-content-sha256") != hashlib.sha256(content).hexdigest():
            raise Refused(400, "XAmzContentSHA256Mismatch", "The content's hash differs")
        path, _, query = self.path.partition("?")
        if not hmac.compare_digest(signature, signature_of(self.command, path, query, headers, signed, date, scope,
                                                           headers["x-amz-content-sha256"])):
            raise Refused(403, "SignatureDoesNotMatch", "The signature differs")

    def answer(self, status, content=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def refuse(self, status, code, message):
        self.answer(status, f"<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>".encode())

    def serve(self, work):
        global requests
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with lock:
            requests += 1
            fault = requests // faults % 5 if faults and requests % faults == 0 else None
        try:
            self.check(content)
            if fault in (0, 1):
                self.refuse(500 + 3 * fault, "InternalError" if fault == 0 else "SlowDown", "Please try again.")
            elif fault is not None:
                if fault == 3:
                    work(content)
                if fault == 4:
                    threading.Timer(1, work, (content,)).start()
                self.close_connection = True
            else:
                self.answer(200, work(content))
        except Refused as refused:
            self.refuse(*refused.args)

    def split(self):
        path, _, query = self.path.partition("?")
        _, bucket, key = (path + "/").split("/", 2)
        if bucket != "bucket":
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist")
        return urllib.parse.unquote(key[:-1]), dict(urllib.parse.parse_qsl(query))

    def do_PUT(self):
        def put(content):
            key, _ = self.split()
            name = os.path.join(folder, urllib.parse.quote(key, safe=""))
            with lock:
                with open(name + ".part", "wb") as file:
                    file.write(content)
                os.rename(name + ".part", name)
            return b""

        def put_late(content):
            """Of an object, if there is a file FOLDER.hold: not before there is FOLDER.release; FOLDER.done says it is done."""
            if self.path.endswith(".gz") and os.path.exists(f"{folder}.hold"):
                os.rename(f"{folder}.hold", f"{folder}.held")
                while not os.path.exists(f"{folder}.release"):
                    time.sleep(0.05)
                put(content)
                os.rename(f"{folder}.held", f"{folder}.done")
                return b""
            return put(content)
        self.serve(put_late)

    def do_GET(self):
        def get(_):
            key, query = self.split()
            if query:
                return self.list(query)
            name = os.path.join(folder, urllib.parse.quote(key, safe=""))
            if not os.path.exists(name):
                raise Refused(404, "NoSuchKey", "The specified key does not exist.")
            with open(name, "rb") as file:
                return file.read()
        self.serve(get)

    def list(self, query):
        keys = sorted(urllib.parse.unquote(name) for name in os.listdir(folder) if not name.endswith(".part"))
        keys = [key for key in keys if key.startswith(query["prefix"]) and key > query.get("start-after", "")]
        page = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in keys[:3])
        truncated = "true" if len(keys) > 3 else "false"
        return f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{page}</ListBucketResult>".encode()

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Storage)
    print(server.server_port, flush=True)
    server.serve_forever()
