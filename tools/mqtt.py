"""A publisher's side of MQTT 3.1.1: what test, demo and bench send messages to a broker with.

QoS 1, several messages ahead of their PUBACKs. Whatever goes wrong with the connection is an
OSError: the caller connects again and sends again what was not acknowledged.
"""

import socket

CONNECT, PUBLISH, RETAIN = 0x10, 0x32, 0x01  # PUBLISH with QoS 1
CONNACK, PUBACK = b"\x20\x02\x00\x00", b"\x40\x02"
CLEAN_SESSION = 2


def packet(first, content):
    length = len(content)
    header = bytes([first])
    while True:
        header += bytes([length & 127 | (128 if length > 127 else 0)])
        length >>= 7
        if not length:
            return header + content


def text(value):
    value = value.encode()
    return len(value).to_bytes(2, "big") + value


class Connection:
    def __init__(self, port, client_id, host="127.0.0.1", timeout=5, keep_alive=60):
        self.sock = socket.create_connection((host, port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flags = bytes([4, CLEAN_SESSION])  # of protocol level 4
        self.sock.sendall(packet(CONNECT, text("MQTT") + flags + keep_alive.to_bytes(2, "big") + text(client_id)))
        if self.receive(4) != CONNACK:
            raise OSError("the broker refuses the connection")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def receive(self, length):
        data = b""
        while len(data) < length:
            piece = self.sock.recv(length - len(data))
            if not piece:
                raise OSError("the broker closed the connection")
            data += piece
        return data

    def send(self, messages, first_id=1, retain=False):
        """Send (topic, content) with identifiers from first_id on; 65535 is the last one."""
        self.sock.sendall(b"".join(
            packet(PUBLISH | (RETAIN if retain else 0), text(topic) + (first_id + n).to_bytes(2, "big") + content)
            for n, (topic, content) in enumerate(messages)))

    def acknowledged(self):
        """Wait for a PUBACK and return its identifier."""
        answer = self.receive(4)
        if answer[:2] != PUBACK:
            raise OSError("no PUBACK")
        return int.from_bytes(answer[2:], "big")


def free_port():
    """A port for a broker of one's own."""
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]
