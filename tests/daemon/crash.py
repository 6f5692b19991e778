#!/usr/bin/env python3
"""crash.py [--tasks N] [--kills N] [--seconds N] [--workers N,…] [--queue URL] [--valkey] [--network] [--seed N]

Asynchronous tasks under load while nginx workers, nginx masters, reveried (and Valkey) are killed with SIGKILL at
random; then an independent look: every acknowledged task has ended with exactly one result, and each of its pictures
is, byte for byte, the one its prompt and seed make on a daemon that nobody ever killed.

With --network each node lives in a network of its own, and now and then one is cut off from Valkey and the clients;
at the end the last node stays away while the results are looked at, and must tell the same once it is back.

With --network each node lives in a network of its own, and now and then one is cut off from Valkey and the clients;
at the end the last node is cut off while the results are looked at, and must tell the same once it is back.

What a client does here is what clients do: it repeats a request with the same taskUUID until it has an answer.
"""
import argparse
import base64
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../hosts/nginx"), os.path.join(HERE, "../torture")]
import checker  # noqa: E402
import harness  # noqa: E402
from harness import BUILD, CARDS, SLOW, children, free_port, is_alive, wait_until  # noqa: E402

PATIENCE = 120 * SLOW  # seconds without progress before a run has failed


class Restless:
    """A process that is started again as often as it is killed."""

    def __init__(self, name, command, folder, env=None):
        self.name, self.command, self.env = name, command, env
        self.log = open(os.path.join(folder, name + ".log"), "ab")
        self.starts, self.stopping, self.process = 0, False, None
        self.thread = threading.Thread(target=self.tend, daemon=True)
        self.thread.start()

    def tend(self):
        while not self.stopping:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                            start_new_session=True, env=self.env)
            self.starts += 1
            self.process.wait()
            self.kill_group()  # workers of a dead master, as a service manager does it
            time.sleep(0.02)

    def kill_group(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            return True
        return False

    def stop(self):
        self.stopping = True
        while self.thread.is_alive():
            self.kill_group()
            self.thread.join(0.05)
        self.log.close()


class Loopback:
    """All nodes on this machine's own loopback."""

    valkey = "127.0.0.1"

    def prefix(self, i):
        return []  # of commands of node i

    def address(self, i):
        return "127.0.0.1"

    def queue(self, i, port):
        return f"redis://127.0.0.1:{port}/0?lease=1000"

    def stop(self):
        pass


class Network:
    """Network namespaces: this process enters one with Valkey and the clients, each node gets another, and a cable
    between them that can be pulled.  Nothing else is connected to them."""

    valkey = "0.0.0.0"

    def __init__(self, nodes):
        os.unshare(os.CLONE_NEWNET)
        self.ip("link", "set", "lo", "up")
        self.away, self.holders = set(), []
        for i in range(nodes):
            holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL)
            self.holders.append(holder)
            ours = os.readlink("/proc/self/ns/net")
            wait_until(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != ours, what="a network of its own")
            self.ip("link", "add", f"node{i}", "type", "veth", "peer", "name", "out", "netns", str(holder.pid))
            self.ip("address", "add", f"10.77.{i}.1/24", "dev", f"node{i}")
            self.ip("link", "set", f"node{i}", "up")
            for command in (("link", "set", "lo", "up"), ("address", "add", f"10.77.{i}.2/24", "dev", "out"),
                            ("link", "set", "out", "up")):
                subprocess.run([*self.prefix(i), "ip", *command], check=True)

    @staticmethod
    def ip(*command):
        subprocess.run(["ip", *command], check=True)

    def prefix(self, i):
        return ["nsenter", "--net", "--target", str(self.holders[i].pid)]

    def address(self, i):
        return f"10.77.{i}.2"

    def queue(self, i, port):
        return f"redis://10.77.{i}.1:{port}/0?lease=1000"

    def cut(self, i):
        self.ip("link", "set", f"node{i}", "down")
        self.away.add(i)

    def mend(self, i):
        self.ip("link", "set", f"node{i}", "up")
        self.away.discard(i)

    def stop(self):
        for holder in self.holders:
            holder.kill()
            holder.wait()


def missing_for_network():
    """Why --network cannot work here, or None."""
    if os.getuid() != 0:
        return "network namespaces need root"
    lacking = [name for name in ("ip", "unshare", "nsenter", "valkey-server") if not shutil.which(name)]
    return f"{lacking[0]} is not installed" if lacking else None


class Node:
    """reveried processes and one nginx in front of the first of them."""

    template = """
{user}
daemon off; worker_processes 2; worker_shutdown_timeout 5s;
load_module {module};
error_log {dir}/error.log warn; pid {dir}/pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
    reverie_model_cards {cards}; reverie_results_dir {results}; reverie_daemon unix:{dir}/s0;
    server {{
        listen {address}:{port} reuseport;
        location /generate {{ reverie runware; reverie_results_url http://pictures/; }}
        location / {{ root {results}; }}
    }}
}}
"""

    def __init__(self, folder, results, count, queue, address, prefix):
        self.folder, self.address, self.port = folder, address, free_port()
        self.is_shared = queue is not None
        os.makedirs(folder)
        self.daemons = []
        for i in range(count):
            state = os.path.join(folder, f"state{i}")
            os.makedirs(state)
            os.symlink(results, os.path.join(state, "results"))
            command = [os.path.join(BUILD, "reveried"), "--socket", os.path.join(folder, f"s{i}"), "--state", state,
                       "--models", CARDS, "--executor", "stub", "--stub-ms", "5", "--attempts", "1000"]
            command += ["--queue", queue] if queue else []
            self.daemons.append(Restless(f"reveried{i}", prefix + command, folder))
        conf = os.path.join(folder, "nginx.conf")
        with open(conf, "w") as f:
            f.write(self.template.format(dir=folder, address=address, port=self.port, results=results, cards=CARDS,
                                         module=harness.MODULE, user="user root;" if os.getuid() == 0 else ""))
        self.nginx = Restless("nginx", [*prefix, "nginx", "-p", folder, "-c", conf, "-e",
                                        os.path.join(folder, "error.log")], folder, harness.environment())

    def workers(self):
        return [p for p in children(self.nginx.process.pid) if is_alive(p)] if self.nginx.process else []

    def stop(self):
        self.nginx.stop()
        for d in self.daemons:
            d.stop()


class Run:
    def __init__(self, tasks=None, kills=100, seconds=1e9, workers=(1,), queue=None, valkey=False, network=False,
                 seed=None, say=print):
        tasks = tasks or max(500, 2 * kills)
        self.random = random.Random(seed)
        self.say = say
        self.folder = tempfile.mkdtemp(prefix="crash-")
        self.results = os.path.join(self.folder, "results")
        os.makedirs(self.results)
        self.network = Network(len(workers)) if network else Loopback()
        self.is_cuttable = network
        self.valkey = self.start_valkey() if valkey else None
        self.kills, self.kills_wanted = 0, kills
        self.killed = {}
        self.nodes = [Node(os.path.join(self.folder, f"node{i}"), self.results, count,
                           self.network.queue(i, self.valkey_port) if valkey else queue,
                           self.network.address(i), self.network.prefix(i)) for i, count in enumerate(workers)]
        self.tasks = [self.make(i) for i in range(tasks)]
        self.todo = list(range(tasks))
        self.acknowledged = {}
        self.repeats = 0
        self.lock = threading.Lock()
        self.moved = time.monotonic()
        self.end = self.moved + seconds

    def start_valkey(self):
        self.valkey_port = free_port()
        command = ["valkey-server", "--port", str(self.valkey_port), "--bind", self.network.valkey, "--dir",
                   self.folder, "--protected-mode", "no", "--appendonly", "yes", "--appendfsync", "everysec",
                   "--save", ""]
        return Restless("valkey", command, self.folder)

    def make(self, i):
        """Every other task leaves the choice of the seed to us."""
        body = {"taskType": "imageInference", "taskUUID": f"c4a50000-0000-4000-8000-{i:012d}",
                "model": "runware:97@3", "positivePrompt": f"picture {i}", "width": 128, "height": 128,
                "steps": self.random.randint(1, 8), "numberResults": self.random.choice((1, 1, 2, 3)),
                "outputFormat": "PNG", "deliveryMethod": "async"}
        if i % 2:
            body["seed"] = self.random.randrange(1 << 40)
        return body

    # -- the client --

    def ask(self, *tasks, node=None):
        """An answer of any node: (status, reply); None where there was none."""
        node = node or random.choice(self.nodes)
        c = http.client.HTTPConnection(node.address, node.port, timeout=10 * SLOW)
        try:
            c.request("POST", "/generate", json.dumps(tasks))
            r = c.getresponse()
            return r.status, json.loads(r.read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            c.close()

    def send(self):
        while True:
            with self.lock:
                if not self.todo or self.is_over():
                    return
                i = self.todo.pop(self.random.randrange(len(self.todo)))
            while self.is_early():
                time.sleep(0.02)
            while not self.try_send(i):
                time.sleep(random.uniform(0.005, 0.05))
                self.check_patience()

    def is_over(self):
        return time.monotonic() > self.end

    def is_early(self):
        """Tasks arrive as long as something is killed."""
        if self.is_over():
            return False
        return len(self.acknowledged) * self.kills_wanted > (self.kills + 1) * len(self.tasks)

    def try_send(self, i):
        answer = self.ask(self.tasks[i])
        if answer and answer[0] == 200:
            expected = {"data": [{"taskType": "imageInference", "taskUUID": self.tasks[i]["taskUUID"]}]}
            assert answer[1] == expected, answer
            with self.lock:
                self.acknowledged[i] = True
                self.moved = time.monotonic()
            return True
        assert not answer or answer[0] in (429, 500, 502, 503, 504), answer
        self.repeats += 1
        return False

    def check_patience(self):
        if time.monotonic() - self.moved > PATIENCE:
            raise AssertionError(f"nothing moved for {PATIENCE:.0f} s: {len(self.acknowledged)} acknowledged")

    # -- the killer --

    def kill_one(self):
        node = self.random.choice(self.nodes)
        kind = self.random.choice(["worker", "master", "reveried", "reveried", "reveried"] +
                                  (["valkey"] if self.valkey else []) + (["cut"] if self.is_cuttable else []))
        if kind == "cut":
            if self.network.away:
                return False
            self.cut_for(self.nodes.index(node), self.random.uniform(0.5, 4))
        elif kind == "worker":
            workers = node.workers()
            if not workers:
                return False
            try:
                os.kill(self.random.choice(workers), signal.SIGKILL)
            except ProcessLookupError:
                return False
        elif not {"master": node.nginx, "reveried": self.random.choice(node.daemons),
                  "valkey": self.valkey}[kind].kill():
            return False
        self.killed[kind] = self.killed.get(kind, 0) + 1
        return True

    def cut_for(self, i, seconds):
        """Longer than a lease: what the node runs goes to others, and what it says later must not count."""
        self.network.cut(i)
        self.mending = threading.Timer(seconds, self.network.mend, [i])
        self.mending.start()

    def kill_all(self):
        while self.kills < self.kills_wanted and not self.is_over():
            time.sleep(self.random.uniform(0.02, 0.35))
            self.kills += self.kill_one()

    # -- the checker --

    def response(self, i, node=None):
        answer = self.ask({"taskType": "getResponse", "taskUUID": self.tasks[i]["taskUUID"]}, node=node)
        if not answer or answer[0] in (502, 503, 504):
            return None
        assert answer[0] == 200, f"acknowledged, but now: {answer}"
        return answer[1]

    def wait_end(self, i, node=None):
        while True:
            reply = self.response(i, node)
            if reply and all(item["status"] != "processing" for item in reply["data"]):
                with self.lock:
                    self.moved = time.monotonic()
                return reply
            time.sleep(0.02)
            self.check_patience()

    def check(self, i, reference):
        """One acknowledged task: its pictures, each the right one, and the same answer when asked again."""
        body, reply = self.tasks[i], self.wait_end(i)
        assert "errors" not in reply, reply
        assert len(reply["data"]) == body["numberResults"], reply
        first = reply["data"][0]["seed"]
        assert first == body.get("seed", first), (body, reply)
        for k, item in enumerate(reply["data"]):
            assert item["seed"] == first + k, reply
            with open(os.path.join(self.results, item["imageURL"].rsplit("/", 1)[1]), "rb") as f:
                picture = f.read()
            assert picture == reference.paint(body, first + k), f"task {i}: picture {k} is not that of its seed"
        assert len({item["imageUUID"] for item in reply["data"]}) == len(reply["data"])
        assert self.wait_end(i) == reply, "another answer the second time"
        return len(reply["data"])

    def run(self):
        try:
            self.load()
            self.say(f"# {len(self.acknowledged)} of {len(self.tasks)} tasks acknowledged, {self.repeats} repeats, "
                     f"killed: {self.killed}")
            if self.is_cuttable:
                self.isolate()
            with Reference(self.folder) as reference:
                pictures = sum(self.check(i, reference) for i in sorted(self.acknowledged))
            self.say(f"# {pictures} pictures of {len(self.acknowledged)} tasks are those of their seeds")
            if self.is_cuttable:
                self.compare()
            starts = {f"{os.path.basename(n.folder)} {d.name}": d.starts
                      for n in self.nodes for d in [n.nginx, *n.daemons]}
            self.say(f"# starts: {starts}")
            self.check_logs()
            self.check_files()
            return len(self.acknowledged)
        finally:
            self.stop()

    def isolate(self):
        """The last node is cut off, with whatever it is doing."""
        if self.network.away:
            self.mending.join()
        self.network.cut(len(self.nodes) - 1)

    def compare(self):
        """It comes back and knows what the others know."""
        away, here = self.nodes[-1], self.nodes[0]
        self.network.mend(len(self.nodes) - 1)
        for i in sorted(self.acknowledged):
            assert self.wait_end(i, away) == self.wait_end(i, here), f"task {i}: two nodes, two answers"
        self.say(f"# the node that was cut off tells the same of {len(self.acknowledged)} tasks")

    def load(self):
        errors = []

        def guarded(work):
            try:
                work()
            except BaseException as e:  # a thread's failure is the run's
                errors.append(e)
        threads = [threading.Thread(target=guarded, args=(self.send,)) for _ in range(8)]
        killer = threading.Thread(target=guarded, args=(self.kill_all,))
        for t in [*threads, killer]:
            t.start()
        for t in [*threads, killer]:
            t.join()
        if errors:
            raise errors[0]

    def check_logs(self):
        for root, _, names in os.walk(self.folder):
            for name in names:
                if name.endswith(".log"):
                    with open(os.path.join(root, name), errors="replace") as f:
                        for line in f:
                            assert "Sanitizer" not in line and "runtime error:" not in line, line

    def check_files(self):
        """Nothing of ours reads the queues here: Python's sqlite3 and zlib do."""
        if self.valkey or self.nodes[0].is_shared:
            return
        seen = set()
        for node in self.nodes:
            for d in node.daemons:
                d.stop()
            must = [self.tasks[i]["taskUUID"] for i in self.acknowledged] if len(self.nodes) == 1 else ()
            seen.add(checker.look(os.path.join(node.folder, "state0"), must))
        self.say(f"# tasks and pictures found in the files: {sorted(seen)}")

    def stop(self):
        for node in self.nodes:
            node.stop()
        if self.valkey:
            self.valkey.stop()
        if getattr(self, "mending", None):
            self.mending.join()
        self.network.stop()
        if os.environ.get("KEEP"):
            self.say(f"# kept {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


class Reference:
    """A daemon that nobody kills."""

    def __init__(self, folder):
        self.socket, state = os.path.join(folder, "reference"), os.path.join(folder, "reference-state")
        self.process = subprocess.Popen([os.path.join(BUILD, "reveried"), "--socket", self.socket, "--state", state,
                                         "--models", CARDS, "--executor", "stub"], stderr=subprocess.DEVNULL)
        self.count = 0

    def __enter__(self):
        wait_until(lambda: os.path.exists(self.socket), what="the reference daemon")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def paint(self, body, seed):
        import reveried
        self.count += 1
        body = {**body, "seed": seed, "numberResults": 1, "deliveryMethod": "sync", "outputType": "base64Data",
                "taskUUID": f"4ef00000-0000-4000-8000-{self.count:012d}"}
        c = reveried.Connection(self.socket)
        c.request("POST", "/generate", json.dumps([body]))
        reply = json.loads(c.getresponse().read())
        c.close()
        return base64.b64decode(reply["data"][0]["imageBase64Data"])


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--tasks", type=int, help="500, or two for each kill")
    p.add_argument("--kills", type=int, default=100)
    p.add_argument("--seconds", type=float, default=1e9, help="no kill and no new task later; the check comes then")
    p.add_argument("--workers", default="1", help="reveried processes of each node, a number for each (more than one "
                   "in all: Valkey)")
    p.add_argument("--queue", help="where tasks are kept, instead of each node's own SQLite file")
    p.add_argument("--valkey", action="store_true", help="start a Valkey for this run, and kill it too")
    p.add_argument("--network", action="store_true", help="each node in a network of its own that is cut off at times")
    p.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    o = p.parse_args()
    o.workers = [int(n) for n in o.workers.split(",")]
    if o.network and missing_for_network():
        print("skipped:", missing_for_network())
        return
    print(f"# seed {o.seed}")
    began = time.monotonic()
    run = Run(**vars(o))
    n = run.run()
    print(f"ok: {n} acknowledged tasks ended with exactly one result each, {run.kills} kills, "
          f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    main()
