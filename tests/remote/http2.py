"""A service that speaks HTTP/2 over TLS, as a server of RFC 9113 that knows no more than these tests need.

Runware when the body is a list, the OpenAI images protocol otherwise; requests are told apart by their bodies, so
their headers are not read.  script(stream, number) decides what becomes of the number-th request, from 0: it calls the
methods of Stream, and ends the connection with stream.close().
"""
import base64
import collections
import json
import socket
import ssl
import struct
import threading

from fakes import PICTURE

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM = 0, 2, 7
LAST = 2 ** 31 - 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Stream:
    """A request whose body has come."""

    def __init__(self, server, connection, number, body):
        self.server, self.connection, self.number, self.body = server, connection, number, body

    def frame(self, kind, flags, stream, payload=b""):
        self.connection.sendall(struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload)

    def charge(self):
        """The work is done; a service that knows a taskUUID again does it once."""
        wanted = json.loads(self.body)
        name = wanted[0]["taskUUID"] if isinstance(wanted, list) else len(self.server.charged)
        self.server.charged.add(name)

    def answer(self):
        wanted, text = json.loads(self.body), base64.b64encode(PICTURE).decode()
        self.charge()
        if isinstance(wanted, list):
            item = {"taskType": "imageInference", "taskUUID": wanted[0]["taskUUID"], "seed": 7, "imageBase64Data": text,
                    "imageUUID": "22222222-2222-4222-8222-000000000000", "status": "success"}
        else:
            item = {"b64_json": text}
        self.frame(HEADERS, END_HEADERS, self.number, b"\x88")  # :status 200, from the static table of RFC 7541
        self.frame(DATA, END_STREAM, self.number, json.dumps({"created": 1, "data": [item]}).encode())

    def go_away(self, last, error=NO_ERROR):
        """Streams above `last` were not looked at; of the others nothing is said."""
        self.frame(GOAWAY, 0, 0, struct.pack(">II", last, error))

    def reset(self, error):
        self.frame(RST_STREAM, 0, self.number, struct.pack(">I", error))

    def close(self):
        self.connection.shutdown(socket.SHUT_RDWR)  # close() alone would leave it open: it is read as a file


class Http2:
    def __init__(self, certificate, key, script):
        self.script, self.lock = script, threading.Lock()
        self.requests = self.connections = 0
        self.protocols, self.charged, self.open = [], set(), []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.context.set_alpn_protocols(["h2"])
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.socket.getsockname()[1]}"
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def accept(self):
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            self.open.append(peer)
            self.threads.append(threading.Thread(target=self.serve, args=(peer,), daemon=True))
            self.threads[-1].start()

    def serve(self, peer):
        try:
            with self.context.wrap_socket(peer, server_side=True) as connection:
                self.open.append(connection)
                self.protocols.append(connection.selected_alpn_protocol())
                with connection.makefile("rb") as stream:
                    self.speak(connection, stream)
        except (OSError, ValueError):
            pass  # the client has gone, or the script has closed the connection

    def speak(self, connection, stream):
        bodies = collections.defaultdict(bytes)
        if stream.read(len(PREFACE)) != PREFACE:
            return
        Stream(self, connection, 0, b"").frame(SETTINGS, 0, 0)
        while len(head := stream.read(9)) == 9:
            kind, flags, number = struct.unpack(">BBI", head[3:])
            payload = stream.read(int.from_bytes(head[:3], "big"))
            request = Stream(self, connection, number, b"")
            if kind in (SETTINGS, PING) and not flags & ACK:
                request.frame(kind, ACK, 0, payload if kind == PING else b"")
            if kind == DATA:
                bodies[number] += payload
            if kind == DATA and payload:
                for window in (0, number):
                    request.frame(WINDOW_UPDATE, 0, window, struct.pack(">I", len(payload)))
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                request.body = bodies.pop(number)
                with self.lock:
                    count = self.requests
                    self.requests += 1
                self.script(request, count)

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for peer in self.open:
            try:
                peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self.threads:
            thread.join(10)
