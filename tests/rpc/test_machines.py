"""A transformer on several machines: pictures are those of one machine, byte for byte; a machine that dies, hangs or lies
is an error that names it and can be retried, and nobody else dies with it.

The last class gives each machine a network of its own; it is skipped where that is not possible.
"""
import base64
import contextlib
import errno
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../daemon"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../golden"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import test_lora as lora  # noqa: E402
from basics import REVERIE, SLOW, SOURCE, wait_until  # noqa: E402
from reveried import ALARM, Daemon, task  # noqa: E402

GOLDEN = os.path.join(SOURCE, "tests/golden")
MODEL = os.path.join(GOLDEN, "tiny-hidream")
KEY = "a key that both machines have"


def run(*command, check=True):
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=300 * SLOW)


class Machine:
    """One `reverie rpc-server`; its port is chosen by the kernel the first time and kept."""

    def __init__(self, folder, name, *options, model=MODEL, host="127.0.0.1", prefix=()):
        self.log_path, self.options, self.model = os.path.join(folder, name + ".log"), options, model
        self.host, self.port, self.prefix, self.process = host, 0, list(prefix), None

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([*self.prefix, REVERIE, "rpc-server", self.model, "--listen",
                                             f"{self.host}:{self.port}", "--threads", "1", *self.options],
                                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)
        said = self.process.stdout.readline()
        found = re.search(r":(\d+)", said)
        if not found:
            raise AssertionError(f"no machine: {said} {self.log()}")
        self.port = int(found.group(1))
        return self

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def stop(self, sig=signal.SIGTERM):
        if not self.process:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(sig)
        status = self.process.wait(60 * SLOW)
        self.process.stdout.close()
        self.process = None
        return status


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="reverie-machines-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.count, self.machines, self.daemon = 0, [], None
        self.addCleanup(self.end)

    def end(self):
        if self.daemon and self.daemon.process and self.daemon.process.poll() is None:
            self.assertEqual(self.daemon.stop(), 0, self.daemon.log())
        for m in self.machines:
            self.assertEqual(m.stop(), 0, m.log())
            self.assertIsNone(ALARM.search(m.log()), m.log())

    def machine(self, *options, **more):
        self.machines.append(Machine(self.folder, f"machine{len(self.machines)}", *options, **more).start())
        return self.machines[-1]

    def card(self, name, model=MODEL, **engine):
        card = {"id": f"local:{name}@1", "name": name, "family": "hidream", "executors": [{"name": "engine"}],
                "engine": {"weights": model, "loras": {"local:pair@1": "pair.safetensors"}, **engine}}
        path = os.path.join(self.folder, name + ".json")
        with open(path, "w") as f:
            json.dump(card, f)
        return path

    def begin(self, prefix=()):
        self.daemon = Daemon(self.folder, "--threads", "1", executor="auto")
        self.daemon.cards, self.daemon.prefix = self.folder, list(prefix)
        self.daemon.start()

    def ask(self, name, **more):
        """(HTTP status, reply) of one picture."""
        self.count += 1
        fields = {"positivePrompt": "a blue door", "outputType": "base64Data", "outputFormat": "PNG", "steps": 3, "seed": 3,
                  **more}
        return self.daemon.generate(task(self.count, model=f"local:{name}@1", **fields))

    def pixels(self, name, **more):
        status, reply = self.ask(name, **more)
        self.assertEqual(status, 200, reply)
        return lora.pixels(base64.b64decode(reply["data"][0]["imageBase64Data"]))

    def failed(self, name, *words, status=(502, 503, 504), retryable=True, **more):
        got, reply = self.ask(name, **more)
        self.assertIn(got, status, reply)
        error = reply["errors"][0]
        for word in words:
            self.assertIn(word, error["message"])
        return error


class OneHost(Case):
    def test_same_pictures(self):
        """Squares and others, guidance, caches, LoRAs, quantised weights, any split."""
        one, two = self.machine(), self.machine()
        rpc = [one.address, two.address]
        small = os.path.join(self.folder, "small.gguf")
        run(REVERIE, "quantize", MODEL, small, "q4_0")
        few = self.machine(model=small)
        lora.Lora.folder, lora.Lora.model = self.folder, lora.forms.read_part("transformer")
        lora.Lora.pairs = {}
        draw = lora.random.Random(5)
        for module in lora.MODULES:
            out, width = lora.Lora.model[module + ".weight"][1]
            lora.Lora.pairs[module] = (lora.matrix(draw, lora.RANK, width, 0.2), lora.matrix(draw, out, lora.RANK, 0.4))
        lora.Lora.write("pair", "transformer.{module}.lora_A.weight", "transformer.{module}.lora_B.weight")
        self.card("here")
        self.card("far", rpc=rpc)
        self.card("all", rpc=rpc, rpc_blocks=[0, 1, 3])
        self.card("few", rpc=[one.address], rpc_blocks=[3, 1])
        self.card("fast", rpc=rpc, precision="fast")
        self.card("near", precision="fast")
        self.card("q_here", small)
        self.card("q_far", small, rpc=[few.address])
        self.begin()
        used = {"lora": [{"model": "local:pair@1", "weight": 0.5}]}
        asked = {"square": {}, "tall": {"height": 192}, "guided": {"CFGScale": 5, "negativePrompt": "a cat", "height": 192},
                 "lora": used, "plain again": {},
                 **{name: {"steps": 8, "acceleratorOptions": {name: True, limit: value}} for name, limit, value in [
                     ("teaCache", "teaCacheDistance", 0.9), ("fbCache", "fbCacheThreshold", 0.5),
                     ("dbCache", "dbCacheThreshold", 0.5)]}}
        for what, more in asked.items():
            want = self.pixels("here", **more)
            for name in ["far", "all", "few"]:
                with self.subTest(what, card=name):
                    self.assertTrue(self.pixels(name, **more) == want, f"{what} on {name}")
        self.assertTrue(self.pixels("fast", height=192) == self.pixels("near", height=192))
        for more in [{}, used]:
            self.assertTrue(self.pixels("q_far", **more) == self.pixels("q_here", **more))
        self.assertFalse(self.pixels("q_far") == self.pixels("q_far", **used))
        self.check_memory(one, two)

    def check_memory(self, *machines):
        """Each holds its own blocks only, and says how much that is."""
        shares = []
        for m in machines:
            found = re.search(r"blocks (\d+) to (\d+) of 4: weights ([\d.]+) MB, activations [\d.]+ MB for .* patches",
                              m.log())
            self.assertTrue(found, m.log())
            self.assertRegex(m.log(), r"the picture is done; resident [\d.]+ MB")
            shares.append((int(found.group(1)), int(found.group(2)), float(found.group(3))))
        self.assertEqual(shares[0][1] + 1, shares[1][0])
        size = sum(os.path.getsize(os.path.join(MODEL, "transformer", n)) for n in os.listdir(os.path.join(MODEL, "transformer")))
        self.assertLess(sum(s[2] for s in shares), size / 1e6)

    def test_parity(self):
        one, two = self.machine(), self.machine()
        done = run(REVERIE, "parity", "--rpc", f"{one.address},{two.address}", MODEL, GOLDEN, "pipeline", check=False)
        self.assertEqual(done.returncode, 0, done.stdout[-2000:])
        self.assertIn(" 0 failed", done.stdout)
        self.assertIn("blocks", two.log())

    def test_turns(self):
        """A machine that rests goes to whoever asks; one at work says so."""
        one = self.machine()
        self.card("here")
        card = self.card("far", rpc=[one.address])
        self.begin()
        want = self.pixels("far")
        out = os.path.join(self.folder, "out.png")
        other = [REVERIE, "generate", "a blue door", "-o", out, "--model", card, "--seed", "3", "--steps", "3",
                 "--width", "128", "--height", "128"]
        run(*other)
        with open(out, "rb") as f:
            self.assertTrue(lora.pixels(f.read()) == want)
        self.assertTrue(self.pixels("far") == want)  # its connection was taken away meanwhile
        before = one.log().count("blocks ")
        asked = threading.Thread(target=self.ask, args=("far",), kwargs={"steps": 100, "width": 256, "height": 256})
        asked.start()
        wait_until(lambda: one.log().count("blocks ") > before)
        done = run(*other, check=False)
        self.daemon.request("DELETE", f"/tasks/00000000-0000-4000-8000-{self.count:012d}")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"the machine {one.address} (blocks 2 to 3): is at work for another", done.stderr)
        asked.join()
        self.assertTrue(self.pixels("here") == want)

    def test_dies_and_comes_back(self):
        one, two = self.machine(), self.machine()
        self.card("here")
        self.card("far", rpc=[one.address, two.address])
        self.begin()
        want = self.pixels("far")
        for sig in [signal.SIGKILL, signal.SIGTERM]:
            before, answers = two.log().count("blocks "), []
            asked = threading.Thread(target=lambda: answers.append(self.ask("far", steps=100, height=192)))
            asked.start()
            wait_until(lambda: two.log().count("blocks ") > before)
            two.stop(sig)
            asked.join()
            status, reply = answers[0]
            self.assertEqual(status, 502, reply)
            self.assertRegex(reply["errors"][0]["message"], rf"the machine {two.address} \(blocks \d to 3\): ")
            error = self.failed("far", two.address, "cannot be reached")
            self.assertEqual(error["code"], "providerError")
            self.assertTrue(self.pixels("here") == want)
            two.start()
            self.assertTrue(self.pixels("far") == want)

    def test_cancel(self):
        one = self.machine()
        self.card("far", rpc=[one.address])
        self.begin()
        self.count += 1
        fields = task(self.count, model="local:far@1", steps=100, height=192)
        asked = threading.Thread(target=lambda: self.daemon.generate(fields))
        asked.start()
        wait_until(lambda: "blocks " in one.log())
        self.daemon.request("DELETE", "/tasks/" + fields["taskUUID"])
        asked.join(60 * SLOW)
        self.assertFalse(asked.is_alive())
        self.pixels("far")

    def test_refused(self):
        """Keys, weights and cards that cannot be."""
        key, other, open_key = [os.path.join(self.folder, n) for n in ("key", "other", "open")]
        for path, text in [(key, KEY), (other, "another key of the right length"), (open_key, KEY)]:
            with open(path, "w") as f:
                f.write(text + "\n")
            os.chmod(path, 0o644 if path == open_key else 0o600)
        for words, options in [("is not on this machine: a key file is needed", ["--listen", "0.0.0.0:0"]),
                               ("everybody can read", ["--key", open_key]), ("host:port", ["--listen", "nowhere"]),
                               ("No such file", ["--key", "/nonexistent"])]:
            done = run(REVERIE, "rpc-server", MODEL, *options, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(words, done.stderr)
        small = os.path.join(self.folder, "small.gguf")
        run(REVERIE, "quantize", MODEL, small, "q8_0")
        shut, plain, less = self.machine("--key", key), self.machine(model=small), self.machine("--memory", "0.004")
        self.card("here")
        self.card("right", rpc=[shut.address], rpc_key="key")
        self.card("wrong", rpc=[shut.address], rpc_key="other")
        self.card("none", rpc=[shut.address])
        self.card("weights", rpc=[plain.address])
        self.card("less", rpc=[less.address])
        self.card("away", rpc=["203.0.113.7:9"])
        self.card("open", rpc=[shut.address], rpc_key="open")
        self.card("names", rpc="here")
        self.card("sum", rpc=[shut.address], rpc_blocks=[1, 2], rpc_key="key")
        self.card("hour", rpc=[shut.address], rpc_timeout=1e9)
        self.begin()
        self.assertTrue(self.pixels("right") == self.pixels("here"))
        self.failed("wrong", shut.address, "has another key, or none")
        self.failed("none", shut.address)
        self.failed("weights", plain.address, "has other weights")
        self.failed("less", less.address, "may use 0.00 GB", status=[400])
        self.failed("away", "203.0.113.7:9", "a key file is needed")
        for name, words in {"open": "everybody can read", "names": "engine.rpc is a list", "hour": "rpc_timeout",
                            "sum": "rpc_blocks adds up to 3, the model has 4 blocks"}.items():
            self.failed(name, words, status=[500])
        self.assertTrue(self.pixels("right") == self.pixels("here"))

    def test_lies(self):
        """A server gets what no client would say, a client what no server would."""
        one = self.machine()
        self.card("far", rpc=[one.address])
        self.begin()
        want = self.pixels("far")

        def frame(kind, body, size=None):
            return b"RV1" + kind + struct.pack("<Q", len(body) if size is None else size) + body
        shape = {"width": 8, "height": 8, "t5": 128, "llama": 128, "batch": 1, "fast": False, "spans": [[2, 4]]}
        asked = [b"GET / HTTP/1.1\r\n\r\n", b"", b"RV1", frame(b"H", b"{}"), frame(b"H", b"x" * 10, 1 << 60),
                 frame(b"P", b"[1]"), frame(b"R", b"12345678"), frame(b"T", b"12345678"), frame(b"?", b""), frame(b"Z", b"x"),
                 frame(b"L", b"\0" * 8 + b"no such file"), frame(b"L", struct.pack("<d", float("nan")) + b"x"),
                 frame(b"L", b"\0" * 8, 1 << 50), frame(b"L", b"1")]
        for change in [{"width": 1 << 40}, {"width": 1 << 20, "height": 1}, {"batch": 9}, {"batch": 0}, {"spans": []},
                       {"spans": [[4, 2]]}, {"spans": [[0, 5]]}, {"spans": [[2, 4], [1, 2]]}, {"spans": [[0, 1]] * 4},
                       {"spans": 7}, {"width": -1}, {"t5": 0}, {"llama": 1e300}, {"fast": 1}]:
            asked.append(frame(b"P", json.dumps({**shape, **change}).encode()))
        ready = frame(b"P", json.dumps(shape).encode())
        asked += [ready + frame(b"R", b"12345678"), ready + frame(b"T", b"12345678", 1 << 62),
                  ready + frame(b"R", bytes(8 + 4 * 64 * (1 + 64 + 256))), ready + frame(b"T", bytes(8 + 4 * 64 * 128))]
        for said in asked:
            with socket.create_connection(("127.0.0.1", one.port)) as s:
                s.settimeout(60 * SLOW)
                try:
                    s.sendall(said)
                    s.shutdown(socket.SHUT_WR)
                    while s.recv(65536):
                        pass
                except (ConnectionResetError, BrokenPipeError):
                    pass
                except OSError as e:  # gone already
                    self.assertEqual(e.errno, errno.ENOTCONN)
            self.assertIsNone(one.process.poll(), one.log())
        self.assertTrue(self.pixels("far") == want)
        self.check_lies_of_servers(frame)

    def check_lies_of_servers(self, frame):
        hello = {"protocol": 1, "version": "0.1.0", "blocks": 4, "weights": "0" * 64}
        answers = {"does not speak this protocol": [b"HTTP/1.1 400 Bad Request\r\n\r\n", frame(b"H", b"", 1 << 60),
                                                    frame(b"D", b"1234")],
                   "has closed the connection": [b"", frame(b"H", b"{", 100)],
                   "no message": [frame(b"H", b"{"), frame(b"H", b"[]"), frame(b"H", b'{"protocol": "x"}')],
                   "has other weights": [frame(b"H", json.dumps(hello).encode())],
                   "use the same on both": [frame(b"H", json.dumps({**hello, "version": "9"}).encode())],
                   "on fire": [frame(b"E", b'{"status": "auth", "message": "on fire"}')]}
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.card("liar", rpc=["127.0.0.1:%d" % server.getsockname()[1]], rpc_timeout=2)
            self.daemon.stop()
            self.begin()

            def answer(said):
                c, _ = server.accept()
                with c:
                    c.recv(65536)
                    c.sendall(said)
                    c.shutdown(socket.SHUT_WR)
                    with contextlib.suppress(ConnectionResetError):
                        while c.recv(65536):
                            pass
            for words, list_ in answers.items():
                for said in list_:
                    with self.subTest(said=said):
                        thread = threading.Thread(target=answer, args=(said,))
                        thread.start()
                        self.failed("liar", words)
                        thread.join()
            self.failed("liar", "was silent for 2.0 s")  # the kernel takes the connection, nobody answers


class Networks(Case):
    """Three processes in three networks, joined by wires."""

    def setUp(self):
        super().setUp()
        self.holders = []
        try:
            for _ in range(3):
                holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"],
                                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                self.holders.append(holder)
                if holder.stdout.readline().strip() != "ready":
                    self.skipTest("no network namespaces here: " + holder.stderr.read().strip()[:100])
            self.wire()
        except (OSError, subprocess.CalledProcessError) as e:
            self.skipTest(f"no network namespaces here: {getattr(e, 'stderr', e)}")
        finally:
            self.addCleanup(self.drop)

    def drop(self):
        for h in self.holders:
            for f in (h.stdin, h.stdout, h.stderr):
                f.close()
            h.wait(30)

    def inside(self, i):
        return ["nsenter", f"--net=/proc/{self.holders[i].pid}/ns/net"]

    def ip(self, i, *words):
        run(*self.inside(i), "ip", *words)

    def wire(self):
        for i in (1, 2):
            self.ip(0, "link", "add", f"wire{i}", "type", "veth", "peer", "name", "wire", "netns", str(self.holders[i].pid))
            for at, name, host in [(0, f"wire{i}", 1), (i, "wire", 2)]:
                self.ip(at, "address", "add", f"10.77.{i}.{host}/24", "dev", name)
                self.ip(at, "link", "set", name, "up")

    def test_one_dies(self):
        key = os.path.join(self.folder, "key")
        with open(key, "w") as f:
            f.write(KEY)
        os.chmod(key, 0o600)
        one, two = [self.machine("--key", key, host=f"10.77.{i}.2", prefix=self.inside(i)) for i in (1, 2)]
        self.card("here")
        self.card("far", rpc=[one.address, two.address], rpc_key="key", rpc_timeout=3)
        self.begin(self.inside(0))
        want = self.pixels("here")
        self.assertTrue(self.pixels("far") == want)

        def killed():
            two.process.kill()

        def cut():
            self.ip(2, "link", "set", "wire", "down")
        for accident, words in [(killed, "has closed the connection|cannot be reached"), (cut, "was silent for ")]:
            with self.subTest(accident.__name__):
                before, answers = two.log().count("blocks "), []
                asked = threading.Thread(target=lambda: answers.append(self.ask("far", steps=100, height=192)))
                asked.start()
                wait_until(lambda: two.log().count("blocks ") > before)
                accident()
                asked.join()
                status, reply = answers[0]
                self.assertIn(status, (502, 504), reply)
                self.assertIn(f"the machine {two.address} (blocks ", reply["errors"][0]["message"])
                self.assertRegex(reply["errors"][0]["message"], words)
                self.assertEqual(self.daemon.health()["status"], "ok")
                self.assertTrue(self.pixels("here") == want)
                if accident is killed:
                    two.stop()
                    two.start()
                else:
                    self.ip(2, "link", "set", "wire", "up")
                self.assertTrue(self.again(want))

    def again(self, want):
        """The picture, once the machine is reachable; until then errors that can be retried."""
        end = time.monotonic() + 120 * SLOW
        while True:
            status, reply = self.ask("far")
            if status == 200:
                return lora.pixels(base64.b64decode(reply["data"][0]["imageBase64Data"])) == want
            self.assertIn(status, (502, 503, 504), reply)
            self.assertLess(time.monotonic(), end, reply)


if __name__ == "__main__":
    unittest.main()
