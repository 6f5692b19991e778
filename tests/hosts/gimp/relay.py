"""A server for plug-ins that can vanish: bytes go to and from the socket of a reveried until everything is cut."""
import contextlib
import os
import socket
import struct
import subprocess
import threading

from harness import BUILD, CARDS, wait_until


@contextlib.contextmanager
def daemon_socket(gimp, *options):
    """A reveried that no plug-in finds by itself; the path of its socket."""
    folder = os.path.join(gimp.folder, "server")
    os.mkdir(folder)
    path = os.path.join(folder, "s")
    with open(os.path.join(folder, "log"), "wb") as log:
        process = subprocess.Popen([os.path.join(BUILD, "reveried"), "--socket", path, "--state",
                                    os.path.join(folder, "state"), "--models", CARDS, *options],
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: os.path.exists(path) or process.poll() is not None, what="the server's socket")
        yield path
    finally:
        process.kill()
        process.wait()


class Relay:
    """`with` listens on a port of the loopback; cut() is what a dying machine does to its connections."""

    def __init__(self, path):
        self.path, self.ends = path, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.cut()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self.path)
                self.ends += [client, server]
                for a, b in ((client, server), (server, client)):
                    threading.Thread(target=self.pump, args=(a, b), daemon=True).start()

    @staticmethod
    def pump(a, b):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)

    def cut(self):
        """Everything at once, with a reset; nobody listens afterwards."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.ends.clear()
