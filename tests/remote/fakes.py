"""Image services for tests: Runware, an OpenAI-style one, fal and Replicate, on one port of this machine.

The path says which, and which fault it shall have: /SERVICE/FAULT/...  Each counts what it would charge for, by the
picture, and keeps the requests it saw.  A fault is a function of (handler, phase, number): phase is "submit", "poll"
or "download", number counts the requests of that phase from 0.  It returns True when it has answered.
"""
import base64
import collections
import http.server
import json
import socket
import ssl
import struct
import threading
import time
import zlib


def png(width=128, height=128, colour=(200, 60, 30)):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = (b"\0" + bytes(colour) * width) * height
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


PICTURE = png()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "fake"

    def log_message(self, *_):
        pass

    # ---- answers ----

    def send(self, status, body, headers=(), kind="application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def drop(self, reset=True):
        """Ends the connection in the middle."""
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def raw(self, data, pause=0.0):
        self.close_connection = True
        for i in range(0, len(data), 1 if pause else len(data)):
            self.wfile.write(data[i:i + (1 if pause else len(data))])
            self.wfile.flush()
            time.sleep(pause)

    # ---- requests ----

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (OSError, ValueError):
            self.close_connection = True

    def do_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else b""
        parts = self.path.split("?")[0].split("/", 3)
        self.place, self.rest = (parts[1], parts[2]), parts[3] if len(parts) > 3 else ""
        f = self.server.fakes
        with f.lock:
            f.requests[self.place].append((self.command, self.rest, dict(self.headers), self.body))
        getattr(self, "serve_" + self.place[0])()

    do_GET = do_POST = do_PUT = do_any

    def fault(self, phase):
        f, place = self.server.fakes, self.place
        with f.lock:
            number = f.counts[place, phase]
            f.counts[place, phase] += 1
        fault = f.faults.get(place[1])
        return bool(fault and fault(self, phase, number))

    def charge(self, number=1):
        f = self.server.fakes
        with f.lock:
            f.charges[self.place] += number

    def url(self, rest):
        return f"{self.server.fakes.url}/{self.place[0]}/{self.place[1]}/{rest}"

    def result_url(self):
        return self.server.fakes.result_urls.get(self.place[1]) or self.url("file.png")

    def result_text(self):
        return self.server.fakes.texts.get(self.place[1]) or base64.b64encode(PICTURE).decode()

    def serve_file(self):
        if not self.fault("download"):
            self.send(200, self.server.fakes.files.get(self.place[1], PICTURE), kind="image/png")

    # ---- Runware ----

    def serve_runware(self):
        if self.rest.endswith("file.png"):
            return self.serve_file()
        task = json.loads(self.body)[0]
        known = self.server.fakes.known
        if task["taskType"] == "imageUpload":
            return self.send(200, {"data": [{"taskType": "imageUpload", "taskUUID": task["taskUUID"],
                                             "imageUUID": "11111111-1111-4111-8111-111111111111"}]})
        key = self.place, task["taskUUID"]
        phase = "poll" if task["taskType"] == "getResponse" else "submit"
        if self.fault(phase):
            return None
        if phase == "poll" and key not in known:
            return self.send(404, {"errors": [{"code": "taskNotFound", "message": "no such task"}]})
        if phase == "submit" and key not in known:
            known[key] = task
            self.charge(task.get("numberResults", 1))
        task = known[key]
        if phase == "submit" and task["deliveryMethod"] == "async":
            return self.send(200, {"data": [{"taskType": "imageInference", "taskUUID": task["taskUUID"]}]})
        item = {"taskType": "imageInference", "taskUUID": task["taskUUID"], "cost": 0.0013, "status": "success"}
        if self.server.fakes.result_urls.get(self.place[1]) or "download" in self.place[1]:
            item["imageURL"] = self.result_url()
        else:
            item["imageBase64Data"] = self.result_text()
        self.send(200, {"data": [dict(item, seed=task["seed"] + i, imageUUID=f"22222222-2222-4222-8222-{i:012d}")
                                 for i in range(task.get("numberResults", 1))]})

    # ---- the OpenAI images protocol ----

    def serve_lumenfall(self):
        if self.rest.endswith("file.png"):
            return self.serve_file()
        if self.fault("submit"):
            return None
        form = self.headers["Content-Type"].startswith("multipart/")
        count = 1 if form else json.loads(self.body)["n"]
        self.charge(count)
        if self.server.fakes.result_urls.get(self.place[1]) or "download" in self.place[1]:
            item = {"url": self.result_url()}
        else:
            item = {"b64_json": self.result_text()}
        self.send(200, {"created": 1, "data": [item] * count, "metadata": {"cost": 0.01 * count}})

    serve_openai = serve_reverie = serve_lumenfall

    # ---- fal ----

    def serve_fal(self):
        if self.rest.endswith("file.png"):
            return self.serve_file()
        f = self.server.fakes
        if self.command == "POST":
            if self.fault("submit"):
                return None
            wanted = json.loads(self.body)
            with f.lock:
                name = f"r{len(f.known)}"
                f.known[self.place, name] = wanted
            self.charge(wanted["num_images"])
            return self.send(200, {"status": "IN_QUEUE", "request_id": name, "queue_position": 0})
        if self.rest.endswith("/cancel"):
            f.cancelled.append(self.place)
            return self.send(200, {"status": "CANCELLATION_REQUESTED"})
        if self.fault("poll"):
            return None
        name = self.rest.split("/requests/")[1].split("/")[0]
        if self.rest.endswith("/status"):
            with f.lock:
                f.counts[self.place, name] += 1
                done = f.counts[self.place, name] > 1
            return self.send(200 if done else 202, {"status": "COMPLETED" if done else "IN_PROGRESS"})
        wanted = f.known[self.place, name]
        self.send(200, {"images": [{"url": self.result_url(), "width": 128, "height": 128}] * wanted["num_images"],
                        "seed": wanted["seed"], "has_nsfw_concepts": [False] * wanted["num_images"]})

    # ---- Replicate ----

    def serve_replicate(self):
        if self.rest.endswith("file.png"):
            return self.serve_file()
        f = self.server.fakes
        if self.rest.endswith("/cancel"):
            f.cancelled.append(self.place)
            return self.send(200, {"status": "canceled"})
        if self.rest.endswith("/predictions"):
            if self.fault("submit"):
                return None
            with f.lock:
                name = f"p{len(f.known)}"
                f.known[self.place, name] = json.loads(self.body)["input"]
            self.charge()
            return self.send(201, {"id": name, "status": "processing", "output": None})
        if self.fault("poll"):
            return None
        name = self.rest.split("predictions/")[1]
        with f.lock:
            f.counts[self.place, name] += 1
            done = f.counts[self.place, name] > 1
        self.send(200, {"id": name, "status": "succeeded" if done else "processing",
                        "output": self.result_url() if done else None})


class Fakes:
    def __init__(self, tls=None):
        self.lock = threading.RLock()
        self.requests = collections.defaultdict(list)
        self.counts = collections.Counter()
        self.charges = collections.Counter()
        self.known, self.cancelled = {}, []
        self.faults, self.result_urls, self.texts, self.files = {}, {}, {}, {}
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.fakes = self
        self.server.handle_error = lambda *_: None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
