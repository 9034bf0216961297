"""NATS JetStream: a stream in a file, durable pull consumers, each message acknowledged by itself."""

import json
import os

import bench
from peers import Loading, process


class Connection:
    def __init__(self, port):
        self.wire = process.Wire(("127.0.0.1", port))
        self.wire.line()                # INFO
        self.inbox = b"inbox." + os.urandom(8).hex().encode()
        self.wire.send(b'CONNECT {"verbose":false,"headers":true}\r\nSUB %s 1\r\nPING\r\n' % self.inbox)
        while self.wire.line() != b"PONG":
            pass

    def message(self):
        """(subject to answer to or None, headers or None, payload) of the next one"""
        while True:
            words = self.wire.line().split()
            if words[0] == b"MSG":
                payload = self.wire.take(int(words[-1]) + 2)[:-2]
                return words[3] if len(words) == 5 else None, None, payload
            if words[0] == b"HMSG":
                head, total = int(words[-2]), int(words[-1])
                data = self.wire.take(total + 2)[:-2]
                return words[3] if len(words) == 6 else None, data[:head], data[head:]
            if words[0] == b"PING":
                self.wire.send(b"PONG\r\n")
            elif words[0] == b"-ERR":
                raise RuntimeError(b" ".join(words).decode())

    def request(self, subject, **values):
        body = json.dumps(values).encode() if values else b""
        self.wire.send(b"PUB %s %s %d\r\n%s\r\n" % (subject.encode(), self.inbox, len(body), body))
        answer = json.loads(self.message()[2])
        if "error" in answer:
            raise RuntimeError(f"nats: {subject}: {answer['error']}")
        return answer

    def close(self):
        self.wire.close()


class System(Loading):
    NAME = "NATS JetStream"
    DURABILITY = "messages and acks: in the file system's memory, fsync every 2 minutes; acks are not confirmed"

    def missing(self):
        return process.missing("nats-server")

    def start(self, folder):
        process.make_folder(folder)
        self.port = process.free_port()
        self.process = process.Process(folder, [process.find("nats-server"), "-a", "127.0.0.1", "-p", str(self.port),
                                                "-js", "-sd", os.path.join(folder, "store")])
        self.control = self.process.wait_for(self.connect)
        self.made = False

    def stop(self):
        if hasattr(self, "process"):
            self.process.stop()

    def connect(self):
        return Connection(self.port)

    def fresh(self, groups):
        if self.made:
            self.control.request("$JS.API.STREAM.DELETE.bench")
        self.control.request("$JS.API.STREAM.CREATE.bench", name="bench", subjects=["bench"], storage="file",
                             retention="limits", discard="old", max_msgs=-1, max_bytes=-1, num_replicas=1)
        self.made = True
        for group in range(groups):
            self.control.request(f"$JS.API.CONSUMER.DURABLE.CREATE.bench.group{group}", stream_name="bench",
                                 config={"durable_name": f"group{group}", "ack_policy": "explicit",
                                         "deliver_policy": "all", "ack_wait": 60 * 10**9, "max_ack_pending": 20000})

    def publisher(self, n):
        return Publisher(self.connect(), n)

    def reader(self, group):
        return Reader(self.connect(), group)


class Publisher:
    def __init__(self, connection, n):
        self.connection = connection
        self.n = n
        payload = bench.PAYLOAD.encode()
        self.commands = b"PUB bench %s %d\r\n%s\r\n" % (connection.inbox, len(payload), payload) * n

    def publish(self):
        self.connection.wire.send(self.commands)
        for _ in range(self.n):
            answer = self.connection.message()[2]
            if not answer.startswith(b'{"stream"'):
                raise RuntimeError(f"nats: {answer.decode()}")

    def close(self):
        self.connection.close()


class Reader:
    def __init__(self, connection, group):
        self.connection = connection
        self.next = f"$JS.API.CONSUMER.MSG.NEXT.bench.group{group}".encode()

    def take(self, n, wait):
        body = json.dumps({"batch": n, "no_wait": True}).encode()
        self.ask(body)
        self.acks = []
        while len(self.acks) < n:
            subject, headers, _ = self.connection.message()
            if headers is None:
                self.acks.append(subject)
            elif self.acks or wait is None:     # 404 or 408: there is no more
                break
            else:                               # nothing at all: wait for the first
                self.ask(json.dumps({"batch": 1, "expires": max(1, round(1e9 * wait))}).encode())
                wait = None
                n = 1
        return len(self.acks)

    def ask(self, body):
        self.connection.wire.send(b"PUB %s %s %d\r\n%s\r\n" % (self.next, self.connection.inbox, len(body), body))

    def settle(self):
        self.connection.wire.send(b"".join(b"PUB %s 0\r\n\r\n" % subject for subject in self.acks))

    def close(self):
        self.connection.close()
