"""Redis Streams: a stream, XREADGROUP, XACK; the append-only file is flushed at each command."""

import os

try:
    import hiredis
except ImportError:
    hiredis = None

import bench
from peers import Loading, process


def command(*words):
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        word = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
    return b"".join(parts)


class Connection:
    def __init__(self, address):
        self.wire = process.Wire(address)
        self.replies = hiredis.Reader()

    def send(self, data):
        self.wire.send(data)

    def reply(self):
        """the next one: bytes, an integer, a list, or None"""
        while True:
            reply = self.replies.gets()
            if isinstance(reply, hiredis.ReplyError):
                raise RuntimeError(f"redis: {reply}")
            if reply is not False:
                return reply
            self.replies.feed(self.wire.receive())

    def call(self, *words):
        self.send(command(*words))
        return self.reply()

    def close(self):
        self.wire.close()


class System(Loading):
    NAME = "Redis Streams"
    DURABILITY = "appendfsync always, of messages and acks; all is in memory, too"

    def missing(self):
        return process.missing("redis-server") or ("" if hiredis else "Python has no hiredis")

    def start(self, folder):
        process.make_folder(folder)
        self.address = os.path.join(folder, "socket")
        self.process = process.Process(
            folder, [process.find("redis-server"), "--port", "0", "--unixsocket", self.address, "--dir", folder,
                     "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--daemonize", "no",
                     "--auto-aof-rewrite-percentage", "0"])
        self.control = self.process.wait_for(self.connect)

    def stop(self):
        if hasattr(self, "process"):
            self.process.stop()

    def connect(self):
        return Connection(self.address)

    def fresh(self, groups):
        self.control.call("FLUSHALL")
        for group in range(groups):
            self.control.call("XGROUP", "CREATE", "bench", f"group{group}", "0", "MKSTREAM")

    def publisher(self, n):
        return Publisher(self.connect(), n)

    def reader(self, group):
        return Reader(self.connect(), f"group{group}")


class Publisher:
    def __init__(self, connection, n):
        self.connection = connection
        self.n = n
        self.commands = b"".join(command("XADD", "bench", "*", "device", f"device-{i % bench.DEVICES + 1}",
                                         "payload", bench.PAYLOAD) for i in range(n))

    def publish(self):
        self.connection.send(self.commands)
        for _ in range(self.n):
            self.connection.reply()

    def close(self):
        self.connection.close()


class Reader:
    def __init__(self, connection, group):
        self.connection = connection
        self.group = group

    def take(self, n, wait):
        streams = self.connection.call("XREADGROUP", "GROUP", self.group, "one", "COUNT", n,
                                       "BLOCK", max(1, round(1000 * wait)), "STREAMS", "bench", ">")
        if streams is None:
            return 0
        self.ids = [entry[0] for entry in streams[0][1]]
        return len(self.ids)

    def settle(self):
        self.connection.call("XACK", "bench", self.group, *self.ids)

    def close(self):
        self.connection.close()
