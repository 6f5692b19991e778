"""An HTTP proxy on this machine: CONNECT, and requests whose first line names a whole address."""
import http.server
import selectors
import socket
import threading
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (OSError, ValueError):
            self.close_connection = True

    def seen(self):
        """Whether it goes on; a proxy with a fault has answered already."""
        proxy = self.server.proxy
        with proxy.lock:
            proxy.lines.append(f"{self.command} {self.path}")
            proxy.passwords.append(self.headers.get("Proxy-Authorization"))
        return not (proxy.fault and proxy.fault(self))

    def do_CONNECT(self):
        self.close_connection = True
        if not self.seen():
            return
        host, port = self.path.rsplit(":", 1)
        with socket.create_connection((host, int(port)), 30) as there:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self.relay(self.connection, there)

    def relay(self, *ends):
        with selectors.DefaultSelector() as ready:
            for end in ends:
                ready.register(end, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    data = key.fileobj.recv(65536)
                    self.server.proxy.passed += data
                    if not data:
                        return
                    ends[key.fileobj is ends[0]].sendall(data)

    def do_POST(self):
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.seen():
            return
        url = urllib.parse.urlsplit(self.path)
        headers = "".join(f"{k}: {v}\r\n" for k, v in self.headers.items() if not k.lower().startswith("proxy-"))
        with socket.create_connection((url.hostname, url.port), 30) as there:
            there.sendall(f"{self.command} {url.path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n".encode() + body)
            while data := there.recv(65536):
                self.wfile.write(data)

    do_GET = do_POST


class Proxy:
    def __init__(self):
        self.lock = threading.Lock()
        self.lines, self.passwords = [], []  # of the requests, in their order
        self.passed = b""                    # through tunnels, both ways
        self.fault = None                    # function of the handler; true when it has answered
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.proxy = self
        self.server.handle_error = lambda *_: None
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
