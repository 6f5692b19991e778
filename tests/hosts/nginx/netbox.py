"""A network with nothing but loopback, made for this process and its children.

enter() leaves the machine's network for an empty one of its own: there is no device but lo and no route out, so not
one packet can leave, whatever is attacked.  The addresses an attacker would like to reach are given to lo, with
servers behind them that count who comes; a name server answers for the attacker's names.  What went out is read from
the kernel's own counters.
"""
import os
import re
import socket
import struct
import subprocess
import tempfile
import threading

INNER = ["10.0.0.5", "172.16.0.5", "192.168.1.5", "169.254.169.254", "100.100.100.200", "198.18.0.5", "168.63.129.16"]
INNER6 = ["fd00:ec2::254", "2002:7f00:1::1", "64:ff9b::7f00:1", "fe80::5"]
OUTER = "93.184.216.34"  # an ordinary public number, here this machine's own
PORTS = [22, 80, 443, 6379, 8080, 8443]


def run(*command):
    subprocess.run(command, check=True)


def enter(folder):
    """Once per process, before it starts threads."""
    os.unshare(os.CLONE_NEWNET | os.CLONE_NEWNS)
    with open("/proc/self/mountinfo") as f:  # what is mounted here must be seen here only
        shared = [line.split()[4] for line in f if " shared:" in line]
    for place in shared:
        run("mount", "--make-private", place)
    run("ip", "link", "set", "lo", "up")
    for address in [*INNER, OUTER]:
        run("ip", "address", "add", f"{address}/32", "dev", "lo")
    for address in INNER6:
        run("ip", "-6", "address", "add", f"{address}/128", "dev", "lo", "nodad")
    for name, text in {"resolv.conf": "nameserver 127.0.0.53\noptions timeout:1 attempts:1\n",
                       "hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost\n",
                       "nsswitch.conf": "hosts: files dns\n"}.items():
        path = os.path.join(folder, name)
        with open(path, "w") as f:
            f.write(text)
        if not os.path.exists("/etc/" + name):
            continue
        run("mount", "--bind", path, os.path.realpath("/etc/" + name))


def opened():
    """TCP connections that anybody in this network has tried to make: the kernel counts each first packet."""
    with open("/proc/net/snmp") as f:
        rows = [line.split() for line in f if line.startswith("Tcp:")]
    return int(rows[1][rows[0].index("ActiveOpens")])


class Victims:
    """Servers on every address and port worth attacking.  They count connections and send a secret to whoever
    comes."""

    SECRET = b"the-secret-of-the-inner-network"

    def __init__(self):
        self.hits = []
        self.sockets = []
        self.pages = {}  # path: whole answer, for rows that need one
        for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            for port in PORTS:
                s = socket.socket(family)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                s.bind((any_address, port))
                s.listen(64)
                self.sockets.append(s)
                threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        while True:
            try:
                c, _ = s.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(c,), daemon=True).start()

    def answer(self, c):
        self.hits.append("%s:%d" % c.getsockname()[:2])
        try:
            c.settimeout(10)
            request = b""
            while b"\r\n\r\n" not in request:
                piece = c.recv(65536)
                if not piece:
                    return
                request += piece
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", request)
            head = request.index(b"\r\n\r\n") + 4
            while length and len(request) < head + int(length[1]):
                request += c.recv(65536)
            path = request.split(b" ")[1].decode()
            c.sendall(self.pages.get(path) or b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" %
                      (len(self.SECRET), self.SECRET))
        except OSError:
            pass
        finally:
            c.close()

    def close(self):
        for s in self.sockets:
            s.shutdown(socket.SHUT_RDWR)
            s.close()


class Names:
    """The attacker's name server: {name: [[addresses of the first answer], [of the second], …]}."""

    def __init__(self, names):
        self.names = names
        self.asked = {}
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.53", 53))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                query, peer = self.socket.recvfrom(4096)
            except OSError:
                return
            self.socket.sendto(self.answer(query), peer)

    def answer(self, query):
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1"))
            at += 1 + query[at]
        kind = struct.unpack(">H", query[at + 1:at + 3])[0]
        question = query[12:at + 5]
        name = ".".join(labels).lower()
        answers = self.names.get(name)
        if answers is None:
            return query[:2] + b"\x81\x83" + b"\0\1\0\0\0\0\0\0" + question
        turn = self.asked.setdefault((name, kind), 0)
        self.asked[name, kind] += 1
        records = b""
        count = 0
        for address in answers[min(turn, len(answers) - 1)]:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            if kind != (28 if ":" in address else 1):
                continue
            data = socket.inet_pton(family, address)
            records += b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 0, len(data)) + data
            count += 1
        return query[:2] + b"\x81\x80" + struct.pack(">HHHH", 1, count, 0, 0) + question + records

    def close(self):
        self.socket.close()


def temporary():
    return tempfile.mkdtemp(prefix="attacks-")
