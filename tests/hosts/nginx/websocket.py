"""A WebSocket client that can also do what no client should: frames are made and read here, byte by byte."""
import base64
import hashlib
import json
import os
import struct

from harness import SLOW, reset

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Closed(Exception):
    """The server closed: its code (None: without a close frame) and reason."""

    def __init__(self, code=None, reason=""):
        super().__init__(f"closed with {code} {reason}")
        self.code, self.reason = code, reason


def frame(payload=b"", opcode=TEXT, fin=True, mask=True, rsv=0):
    """One frame as it goes over the wire."""
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if mask else 0
    if len(payload) < 126:
        head += bytes([bit | len(payload)])
    elif len(payload) < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", len(payload))
    if not mask:
        return head + payload
    key = os.urandom(4)
    whole = (key * (len(payload) // 4 + 1))[:len(payload)]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(len(payload), "big")
    return head + key + masked


class WebSocket:
    """Opens a connection at once; early is what goes out together with the request."""

    def __init__(self, server, path="/generate", headers=None, early=b"", receive_buffer=None):
        self.socket = server.connect(30)
        if receive_buffer:
            self.socket.setsockopt(1, 8, receive_buffer)  # SOL_SOCKET, SO_RCVBUF
        key = base64.b64encode(os.urandom(16)).decode()
        lines = {"Host": "localhost", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": key,
                 "Sec-WebSocket-Version": "13", **(headers or {})}
        text = f"GET {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items() if v is not None)
        self.socket.sendall((text + "\r\n").encode() + early)
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        for line in iter(lambda: self.file.readline().strip(), b""):
            name, value = line.decode().split(":", 1)
            self.headers[name.lower()] = value.strip()
        if self.status == 101:
            wanted = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
            assert self.headers["sec-websocket-accept"] == base64.b64encode(wanted).decode()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def reset(self):
        """Leaves without a word."""
        self.file.close()
        reset(self.socket)

    def raw(self, data):
        self.socket.sendall(data)

    def send(self, *tasks):
        self.raw(frame(json.dumps(list(tasks)).encode()))

    def read_frame(self):
        """(opcode, payload, fin)"""
        head = self.file.read(2)
        if len(head) < 2:
            raise Closed()
        size = head[1] & 0x7F
        assert not head[1] & 0x80, "servers do not mask"
        if size == 126:
            size, = struct.unpack("!H", self.file.read(2))
        elif size == 127:
            size, = struct.unpack("!Q", self.file.read(8))
        return head[0] & 0x0F, self.file.read(size), bool(head[0] & 0x80)

    def receive(self, answer_pings=True):
        """The next message as JSON; pings are answered on the way."""
        text = b""
        while True:
            opcode, payload, fin = self.read_frame()
            if opcode == PING and answer_pings:
                self.raw(frame(payload, PONG))
            elif opcode == CLOSE:
                code = struct.unpack("!H", payload[:2])[0] if payload else None
                raise Closed(code, payload[2:].decode())
            elif opcode in (TEXT, 0):
                text += payload
                if fin:
                    return json.loads(text)

    def close_code(self, answer=True):
        """Reads until the server closes."""
        try:
            while True:
                self.receive()
        except Closed as closed:
            if answer and closed.code:
                self.raw(frame(struct.pack("!H", closed.code), CLOSE))
            return closed.code

    def close(self, code=1000):
        """Says goodbye; the server's answer."""
        self.raw(frame(struct.pack("!H", code), CLOSE))
        return self.close_code(answer=False)

    def wait(self, seconds):
        self.socket.settimeout(seconds * SLOW)
