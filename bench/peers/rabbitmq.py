"""RabbitMQ: a quorum queue for each group behind a fanout exchange, publisher confirms, manual acks.

What is spoken of AMQP 0-9-1 is written here, as far as it goes: frames are put together before
the clock starts, and of a delivery only its tag is read.
"""

import os
import struct
import time

import bench
from peers import Loading, process

METHOD, HEADER, BODY = 1, 2, 3
END = b"\xce"
LINGER = 0.001              # seconds

# the one in the path runs as its own user only
PROGRAM = "/usr/lib/rabbitmq/bin/rabbitmq-server"

# (class, method)
START, START_OK, TUNE, TUNE_OK, OPEN, OPEN_OK, CLOSE = (10, 10), (10, 11), (10, 30), (10, 31), (10, 40), (10, 41), (10, 50)
CHANNEL_OPEN, CHANNEL_OPEN_OK, CHANNEL_CLOSE = (20, 10), (20, 11), (20, 40)
EXCHANGE_DECLARE, EXCHANGE_DECLARE_OK = (40, 10), (40, 11)
QUEUE_DECLARE, QUEUE_DECLARE_OK, QUEUE_BIND, QUEUE_BIND_OK = (50, 10), (50, 11), (50, 20), (50, 21)
QUEUE_DELETE, QUEUE_DELETE_OK = (50, 40), (50, 41)
QOS, QOS_OK, CONSUME, CONSUME_OK = (60, 10), (60, 11), (60, 20), (60, 21)
PUBLISH, DELIVER, ACK, NACK = (60, 40), (60, 60), (60, 80), (60, 120)
CONFIRM, CONFIRM_OK = (85, 10), (85, 11)


def short(text):
    return bytes([len(text)]) + text.encode()


def long(data):
    return struct.pack(">I", len(data)) + data


def table(**values):
    """of texts only; _ in a name is -"""
    return long(b"".join(short(name.replace("_", "-")) + b"S" + long(value.encode()) for name, value in values.items()))


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + END


def method(name, arguments=b"", channel=1):
    return frame(METHOD, channel, struct.pack(">HH", *name) + arguments)


class Connection:
    """a connection with one channel"""

    def __init__(self, port):
        self.wire = process.Wire(("127.0.0.1", port))
        self.wire.send(b"AMQP\0\0\x09\x01")
        self.expect(START)
        self.wire.send(method(START_OK, table() + short("PLAIN") + long(b"\0guest\0guest") + short("en_US"), 0))
        channels, size, _ = struct.unpack(">HIH", self.expect(TUNE))
        self.wire.send(method(TUNE_OK, struct.pack(">HIH", channels, size, 0), 0) +
                       method(OPEN, short("/") + short("") + b"\0", 0))
        self.expect(OPEN_OK)
        self.call(CHANNEL_OPEN, short(""), CHANNEL_OPEN_OK)

    def frame(self):
        kind, _, size = struct.unpack(">BHI", self.wire.take(7))
        return kind, self.wire.take(size + 1)[:-1]

    def next(self):
        """(method, arguments) of the next frame"""
        kind, payload = self.frame()
        name = struct.unpack_from(">HH", payload)
        if kind != METHOD or name in (CLOSE, CHANNEL_CLOSE):
            raise RuntimeError(f"rabbitmq: {kind} {payload!r}")
        return name, payload[4:]

    def expect(self, wanted):
        name, arguments = self.next()
        if name != wanted:
            raise RuntimeError(f"rabbitmq: {name} instead of {wanted}")
        return arguments

    def call(self, name, arguments, wanted):
        self.wire.send(method(name, arguments))
        return self.expect(wanted)

    def close(self):
        self.wire.close()


class System(Loading):
    NAME = "RabbitMQ quorum"
    DURABILITY = "one replica; a confirmed message is fsynced; acks are written later and not confirmed"
    groups = 0

    def missing(self):
        return process.missing(PROGRAM, "epmd")

    def start(self, folder):
        process.make_folder(folder)
        self.port, names, distribution = (process.free_port() for _ in range(3))
        config = os.path.join(folder, "rabbitmq.conf")
        with open(config, "w") as file:
            file.write(f"listeners.tcp.default = 127.0.0.1:{self.port}\nlog.console = true\nlog.console.level = warning\n"
                       "log.file = false\nvm_memory_high_watermark.absolute = 2GB\ndisk_free_limit.absolute = 1GB\n"
                       "cluster_name = bench\n")
        # Erlang's own name service would be everybody's, and stay
        self.names = process.Process(folder, [process.find("epmd"), "-port", str(names), "-address", "127.0.0.1"])
        self.process = process.Process(
            folder, [PROGRAM],
            ERL_EPMD_PORT=str(names), ERL_EPMD_ADDRESS="127.0.0.1", RABBITMQ_DIST_PORT=str(distribution),
            RABBITMQ_NODENAME=f"bench{self.port}@localhost", RABBITMQ_CONFIG_FILE=config, RABBITMQ_LOGS="-",
            RABBITMQ_MNESIA_BASE=os.path.join(folder, "mnesia"), RABBITMQ_LOG_BASE=folder,
            RABBITMQ_ENABLED_PLUGINS_FILE=os.path.join(folder, "plugins"), RABBITMQ_CONF_ENV_FILE="/dev/null",
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}")
        self.control = self.process.wait_for(self.connect, 120)
        self.control.call(EXCHANGE_DECLARE, b"\0\0" + short("bench") + short("fanout") + b"\0" + table(), EXCHANGE_DECLARE_OK)

    def stop(self):
        for it in ("process", "names"):
            if hasattr(self, it):
                getattr(self, it).stop()

    def connect(self):
        return Connection(self.port)

    def fresh(self, groups):
        for group in range(self.groups):
            self.control.call(QUEUE_DELETE, b"\0\0" + short(f"group{group}") + b"\0", QUEUE_DELETE_OK)
        for group in range(groups):
            self.control.call(QUEUE_DECLARE, b"\0\0" + short(f"group{group}") + b"\x02" + table(x_queue_type="quorum"),
                              QUEUE_DECLARE_OK)
            self.control.call(QUEUE_BIND, b"\0\0" + short(f"group{group}") + short("bench") + short("") + b"\0" + table(),
                              QUEUE_BIND_OK)
        self.groups = groups

    def publisher(self, n):
        return Publisher(self.connect(), n)

    def reader(self, group):
        return Reader(self.connect(), f"group{group}")


class Publisher:
    def __init__(self, connection, n):
        self.connection = connection
        self.n = n
        self.sent = self.confirmed = 0      # tags; all up to it
        self.beyond = set()                 # confirmed before others below them
        connection.call(CONFIRM, b"\0", CONFIRM_OK)
        payload = bench.PAYLOAD.encode()
        # delivery mode 2, persistent: the only property
        self.frames = (method(PUBLISH, b"\0\0" + short("bench") + short("") + b"\0") +
                       frame(HEADER, 1, struct.pack(">HHQHB", 60, 0, len(payload), 1 << 12, 2)) +
                       frame(BODY, 1, payload)) * n

    def publish(self):
        self.connection.wire.send(self.frames)
        self.sent += self.n
        while self.confirmed < self.sent:
            tag, multiple = struct.unpack(">QB", self.connection.expect(ACK))
            if multiple:
                self.confirmed = max(self.confirmed, tag)
            else:
                self.beyond.add(tag)
            while self.confirmed + 1 in self.beyond:
                self.confirmed += 1
                self.beyond.remove(self.confirmed)

    def close(self):
        self.connection.close()


class Reader:
    """the server sends ahead, up to twice a batch"""

    def __init__(self, connection, queue):
        self.connection = connection
        self.queue = queue
        self.prefetch = 0

    def take(self, n, wait):
        wire = self.connection.wire
        if not self.prefetch:
            self.prefetch = 2 * n
            self.connection.call(QOS, struct.pack(">IHB", 0, self.prefetch, 0), QOS_OK)
            self.connection.call(CONSUME, b"\0\0" + short(self.queue) + short("one") + b"\0" + table(), CONSUME_OK)
        taken = 0
        end = time.monotonic() + wait
        # what has come is not held back for what may come
        while taken < n and wire.wait(LINGER if taken else end - time.monotonic()):
            arguments = self.connection.expect(DELIVER)
            self.tag, = struct.unpack_from(">Q", arguments, 1 + arguments[0])
            self.connection.frame()             # its header
            self.connection.frame()             # its body: one, as it is short
            taken += 1
        return taken

    def settle(self):
        self.connection.wire.send(method(ACK, struct.pack(">QB", self.tag, 1)))

    def close(self):
        self.connection.close()
