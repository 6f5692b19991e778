"""WebSocket frames made by chance: good ones, cut and damaged ones, in pieces of any size.  The server answers with frames
that are well formed, closes with a code of the protocol when it must, answers every good message before that, and serves
the next client.  FRAME_STREAMS=N streams (300), FRAME_SEED=N to see one run again."""
import json
import os
import random
import socket
import struct
import unittest

from harness import SLOW, ServerCase, reset, task
from websocket import BINARY, CLOSE, PING, PONG, TEXT, WebSocket, frame

STREAMS = int(os.environ.get("FRAME_STREAMS", "300"))
SEED = int(os.environ.get("FRAME_SEED", random.randrange(1 << 30)))
CODES = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1013}
PING_TASK = json.dumps([{"taskType": "ping", "ping": True}]).encode()


class Stream:
    """What one client sends; expected counts the pongs that must come, until something is wrong."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.bytes, self.expected, self.is_good, self.controls = b"", 0, True, 0
        for _ in range(self.r.randint(1, 12)):
            self.r.choice([self.good, self.good, self.good, self.pieces, self.pieces, self.control, self.nonsense,
                           self.bad])()

    def add(self, data, pongs=0):
        self.bytes += data
        if self.is_good:
            self.expected += pongs

    def good(self):
        self.add(frame(PING_TASK), 1)

    def pieces(self):
        """A message in fragments, with control frames between them."""
        cuts = sorted(self.r.randrange(len(PING_TASK) + 1) for _ in range(self.r.randint(1, 6)))
        parts = [PING_TASK[a:b] for a, b in zip([0, *cuts], [*cuts, len(PING_TASK)])]
        for i, part in enumerate(parts):
            self.add(frame(part, TEXT if i == 0 else 0, fin=i == len(parts) - 1), i == len(parts) - 1)
            if self.r.random() < 0.3 and i < len(parts) - 1:
                self.control()

    def control(self):
        self.add(frame(self.r.randbytes(self.r.choice([0, 1, 125])), self.r.choice([PING, PONG])))

    def nonsense(self):
        """Well formed for the protocol; the text is no request."""
        text = self.r.choice([b"", b"{", b"[]", b"[" * 200, "é∂".encode() * 40, json.dumps([task(width=1)]).encode(),
                              json.dumps([task(positivePrompt="stub:fail=safety")]).encode(),
                              json.dumps([task(steps=1)]).encode()])
        self.add(frame(text))

    def bad(self):
        """Against the protocol: nothing behind it counts."""
        r = self.r
        self.is_good = False
        self.add(r.choice([
            lambda: frame(PING_TASK, rsv=r.randint(1, 7)),
            lambda: frame(b"x", r.choice([3, 4, 7, 11, 15])),
            lambda: frame(PING_TASK, mask=False),
            lambda: frame(r.randbytes(126), PING),
            lambda: frame(b"x", PING, fin=False),
            lambda: frame(b"x", 0),
            lambda: frame(b"x", fin=False) + frame(b"x"),
            lambda: frame(b"\xff\xfe"),
            lambda: frame(b"\xc3", fin=False) + frame(b"(", 0),
            lambda: frame(b"x", BINARY),
            lambda: frame(struct.pack("!H", r.choice([0, 999, 1004, 1005, 1006, 5000, 65535])), CLOSE),
            lambda: frame(b"\x03", CLOSE),
            lambda: frame(struct.pack("!H", 1000) + b"\xff", CLOSE),
            lambda: bytes([0x81, 0xFF]) + struct.pack("!Q", r.choice([1 << 63, (1 << 63) - 1, 1 << 40])) + r.randbytes(8),
            lambda: bytes([0x81, 0xFE]) + struct.pack("!H", r.randrange(126)) + r.randbytes(200),
            lambda: frame(b"x" * 3000000),
            lambda: self.flip(frame(PING_TASK) * 3),
            lambda: r.randbytes(r.randint(1, 400)),
            lambda: frame(struct.pack("!H", 1000) + b"bye", CLOSE) + frame(PING_TASK)])())

    def flip(self, data):
        data = bytearray(data)
        for _ in range(self.r.randint(1, 4)):
            data[self.r.randrange(len(data))] ^= 1 << self.r.randrange(8)
        return bytes(data)

    def chunks(self):
        at = 0
        while at < len(self.bytes):
            size = self.r.choice([1, 2, 3, 7, 100, 5000, len(self.bytes)])
            yield self.bytes[at:at + size]
            at += size


class Frames(ServerCase):
    options = {"http": "reverie_executor stub;"}

    def play(self, seed):
        stream = Stream(seed)
        ws = WebSocket(self.server)
        try:
            for chunk in stream.chunks():
                ws.raw(chunk)
            if stream.is_good and not stream.r.randrange(4):
                reset(ws.socket)  # gone in the middle of the answers
                return
            self.look(ws, stream)
        except (BrokenPipeError, ConnectionResetError):
            self.assertFalse(stream.is_good, "a good client was thrown out")
        finally:
            ws.file.close()
            ws.socket.close()

    def look(self, ws, stream):
        """All that comes, to the end of the connection; a client that sends half a frame is not waited for."""
        pongs, text, is_closing = 0, b"", False
        ws.socket.settimeout(20 * SLOW if stream.is_good else 0.2)
        while True:
            if stream.is_good and pongs == stream.expected and not is_closing:
                is_closing = True
                ws.raw(frame(struct.pack("!H", 1000), CLOSE))
            try:
                opcode, payload, fin = ws.read_frame()
            except (socket.timeout, TimeoutError):
                self.assertFalse(stream.is_good, "no answer")
                break
            except Exception as e:
                if type(e).__name__ != "Closed":
                    raise
                break
            self.assertIn(opcode, (0, TEXT, CLOSE, PING, PONG))
            if opcode == CLOSE:
                if payload:  # the reason may be the client's own, sent back by wslay as it came
                    self.assertIn(struct.unpack("!H", payload[:2])[0], CODES)
                break
            if opcode in (TEXT, 0):
                text += payload
                if fin:
                    message, text = json.loads(text), b""
                    self.assertEqual(len(set(message) & {"data", "errors"}), 1, message)
                    pongs += any(item.get("pong") for item in message.get("data", []))
        if stream.is_good:
            self.assertEqual(pongs, stream.expected)

    def test_streams_made_by_chance(self):
        for i in range(STREAMS):
            with self.subTest(seed=SEED + i):
                self.play(SEED + i)
            if i % 50 == 49:
                with WebSocket(self.server) as ws:
                    ws.raw(frame(PING_TASK))
                    self.assertEqual(ws.receive(), {"data": [{"taskType": "ping", "pong": True}]}, f"after {SEED + i}")


if __name__ == "__main__":
    unittest.main()
