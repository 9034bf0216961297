"""Brokers as child processes: a folder, a free port, a start that waits, an end that is certain."""

import os
import shutil
import socket
import subprocess
import time


def missing(*programs):
    """why these programs can't run, "" if they can"""
    absent = [program for program in programs if find(program) is None]
    return f"there is no {', no '.join(absent)}" if absent else ""


def find(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def make_folder(folder):
    """made for who runs the server: PostgreSQL's user where we are root"""
    os.makedirs(folder)
    if os.getuid() == 0:
        shutil.chown(folder, "postgres")


class Process:
    """A server that runs until stop(), as a user without rights, and writes folder/log."""

    def __init__(self, folder, command, **environment):
        if os.getuid() == 0:
            command = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups", "--", *command]
        self.folder = folder
        with open(os.path.join(folder, "log"), "ab") as log:
            self.process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=dict(os.environ, HOME=folder, **environment))

    def wait_for(self, connect, seconds=60):
        """the connection that connect() makes as soon as the server lets it"""
        end = time.monotonic() + seconds
        while True:
            try:
                return connect()
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > end:
                    with open(os.path.join(self.folder, "log"), errors="replace") as log:
                        text = log.read()[-2000:]
                    raise RuntimeError(f"no connection to {self.process.args}: {error}\n{text}") from error
                time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Wire:
    """A socket that is read line by line or by length."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.socket.connect(address)
        if not isinstance(address, str):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.position = 0

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """what has come, past the buffer: for who has one of his own"""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the server has closed the connection")
        return data

    def more(self):
        """waits for bytes"""
        data = self.receive()
        del self.buffer[:self.position]
        self.position = 0
        self.buffer += data

    def wait(self, seconds):
        """whether bytes come within so many seconds; what follows waits without a limit again"""
        if self.position == len(self.buffer):
            self.socket.settimeout(max(seconds, 0.0001))
            try:
                self.more()
            except TimeoutError:
                return False
            finally:
                self.socket.settimeout(None)
        return True

    def line(self):
        """the next line, without its CR LF"""
        while True:
            end = self.buffer.find(b"\r\n", self.position)
            if end >= 0:
                line = bytes(self.buffer[self.position:end])
                self.position = end + 2
                return line
            self.more()

    def take(self, length):
        """the next so many bytes"""
        while len(self.buffer) - self.position < length:
            self.more()
        data = bytes(self.buffer[self.position:self.position + length])
        self.position += length
        return data

    def close(self):
        self.socket.close()
