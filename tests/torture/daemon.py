#!/usr/bin/env python3
"""daemon.py [--seconds N] [--rounds N] [--seed N]: a whole reveried while the system fails it.

Each round is a daemon with libtorture.so before it: the n-th allocation, read, write, mmap, thread, fsync, open or
transfer fails, once or from then on; or the disk is full; or the clock jumps.  Meanwhile tasks come in, with webhooks.
Then nothing fails any more, the daemon is asked for what it acknowledged, stopped or killed, and started again alone:
every acknowledged task ends with one result that is right, its webhook arrives, and checker.py finds queue and files
sound.  A daemon that nothing fails any more serves again without a restart.
"""
import argparse
import errno
import json
import mmap
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../daemon")]
import checker  # noqa: E402
from reveried import ALARM, BUILD, Daemon, task, wait_until  # noqa: E402
from test_delivery import Receiver  # noqa: E402

LIBRARY = os.path.join(BUILD, "tests/torture/libtorture.so")
KINDS = {"alloc": errno.ENOMEM, "read": errno.EIO, "write": errno.EIO, "map": errno.ENOMEM, "thread": errno.EAGAIN,
         "sync": errno.EIO, "open": errno.EMFILE, "send": errno.ECONNRESET}  # in the order of shim.h
FIELDS = ("calls", "countdown", "lasting", "error", "failed")
TASKS = 5


class Page:
    """The page that the shim reads (shim.h)."""

    def __init__(self, path):
        self.path = path
        with open(path, "wb") as f:
            f.write(bytes(8 * (2 + len(FIELDS) * len(KINDS))))
        with open(path, "r+b") as f:
            self.memory = mmap.mmap(f.fileno(), 0)

    def put(self, place, value):
        struct.pack_into("q", self.memory, 8 * place, value)

    def of(self, kind, field):
        return 2 + list(KINDS).index(kind) * len(FIELDS) + FIELDS.index(field)

    def get(self, kind, field):
        return struct.unpack_from("q", self.memory, 8 * self.of(kind, field))[0]

    def arm(self, kind, n, lasting=False, error=None):
        self.put(self.of(kind, "error"), error or KINDS[kind])
        self.put(self.of(kind, "lasting"), lasting)
        self.put(self.of(kind, "countdown"), n)

    def disarm(self):
        for kind in KINDS:
            self.put(self.of(kind, "lasting"), 0)
            self.put(self.of(kind, "countdown"), 0)
            self.put(self.of(kind, "lasting"), 0)

    def jump(self, seconds):
        self.put(0, seconds)

    def failed(self):
        return sum(self.get(kind, "failed") for kind in KINDS)


class Round:
    """A daemon in a folder of its own, what it acknowledged, and what came by webhook."""

    def __init__(self, say=print):
        self.say = say
        self.folder = tempfile.mkdtemp(prefix="torture-")
        self.page = Page(os.path.join(self.folder, "page"))
        self.receiver = Receiver()
        self.daemon = Daemon(self.folder, "--fetch-allow", "127.0.0.1", "--fetch-ports", "*", "--grace", "5",
                             "--stub-ms", "2")
        self.acknowledged = {}
        self.number = 0

    def close(self):
        if self.daemon.process and self.daemon.process.poll() is None:
            self.daemon.stop(signal.SIGKILL)
        self.receiver.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, tormented=True):
        """False: it said that it cannot start."""
        env = dict(os.environ)
        if tormented:
            os.environ.update(LD_PRELOAD=LIBRARY, TORTURE=self.page.path)
        try:
            self.daemon.start(wait=False)
        finally:
            os.environ.clear()
            os.environ.update(env)
        wait_until(lambda: self.daemon.process.poll() is not None or self.answers(), 20, "the daemon or its end")
        code = self.daemon.process.poll()
        if code is not None and code < 0:
            raise AssertionError(f"the daemon crashed at its start: signal {-code}")
        return code is None

    def answers(self):
        try:
            return self.daemon.get("/healthz")[0] in (200, 503)
        except (OSError, ValueError, EOFError):
            return False
        except Exception as e:  # http.client's own
            if type(e).__module__ == "http.client":
                return False
            raise

    def send(self, count=TASKS):
        for _ in range(count):
            self.number += 1
            one = task(self.number, deliveryMethod="async", numberResults=1 + self.number % 2, seed=self.number,
                       outputFormat="PNG", webhookURL=f"{self.receiver.url}/{self.number}")
            try:
                status, reply = self.daemon.generate(one)
            except Exception as e:  # no answer is no promise
                self.last = e
                continue
            self.last = status, reply
            if status == 200:
                self.acknowledged[self.number] = one
            elif status not in (400, 429, 500, 502, 503, 507) or not reply.get("error", {}).get("message"):
                raise AssertionError(f"an answer that tells nothing: {status} {reply}")

    def serves(self):
        self.send(1)
        if self.number not in self.acknowledged:
            self.say(f"# not yet: {self.last}")
            time.sleep(0.2)
        return self.number in self.acknowledged

    def must_live(self):
        code = self.daemon.process.poll()
        if code is not None:
            raise AssertionError(f"the daemon ended by itself with {code}: {self.daemon.log()[-800:]}")

    def ended(self, number):
        """What it says about a task that has ended; None while it runs."""
        try:
            status, reply = self.daemon.generate({"taskType": "getResponse",
                                                  "taskUUID": self.acknowledged[number]["taskUUID"]})
        except OSError:
            return None
        if status == 503:
            return None
        if status != 200:
            raise AssertionError(f"acknowledged, but now: {status} {reply}")
        return None if any(i["status"] == "processing" for i in reply["data"]) else reply

    def check_all(self, may_fail):
        """Every acknowledged task has ended, rightly, or (may_fail) with an error that says what was lacking."""
        failed = 0
        for number, one in self.acknowledged.items():
            reply = wait_until(lambda: self.ended(number), 60, f"the end of task {number}")
            if "errors" in reply:
                failed += 1
                if not may_fail:
                    raise AssertionError(f"task {number}: {reply}")
                continue
            seeds = [item["seed"] for item in reply["data"]]
            if seeds != list(range(number, number + one["numberResults"])):
                raise AssertionError(f"task {number}: {reply}")
            wait_until(lambda: {json.loads(g["body"]).get("seed") for g in self.receiver.of(f"/{number}")
                                if g["status"] == 200} >= set(seeds), 90, f"the webhook of task {number}")
        return failed

    def finish(self, kill, may_fail):
        """Nothing fails any more."""
        self.page.disarm()
        if self.daemon.process.poll() is None:
            wait_until(lambda: self.must_live() or self.answers(), 30, "an answer, now that nothing fails")
            wait_until(self.serves, 30, "a new task's acknowledgement, now that nothing fails")
            code = self.daemon.stop(signal.SIGKILL if kill else signal.SIGTERM)
            if code not in (0, -signal.SIGKILL):
                raise AssertionError(f"the daemon ended with {code}")
        self.page.jump(0)
        if not self.start(tormented=False):
            raise AssertionError("it does not start again: " + self.daemon.log()[-800:])
        failed = self.check_all(may_fail)
        if self.daemon.stop() != 0:
            raise AssertionError("it does not stop")
        checker.look(self.daemon.state, [t["taskUUID"] for t in self.acknowledged.values()])
        if ALARM.search(self.daemon.log()):
            raise AssertionError(self.daemon.log())
        return failed


def fail_calls(round, kind, n, lasting, early, kill, error=None):
    """One round; what happened, for the record."""
    if early:
        round.page.arm(kind, n, lasting, error)
    if not round.start():
        round.page.disarm()
        if not round.start():
            raise AssertionError("it does not start: " + round.daemon.log()[-800:])
    if not early:
        round.send(1)
        round.page.arm(kind, n, lasting, error)
    round.send()
    time.sleep(0.1)
    round.must_live()
    return round.finish(kill, may_fail=True)


def full_disk(round, kill, n=1):
    """Tasks that were acknowledged before or while the disk is full, and wait, end well once there is room."""
    round.start()
    round.send(2)
    round.page.arm("write", n, True, errno.ENOSPC)
    round.page.arm("open", 10 ** 9)
    round.send()
    time.sleep(0.3)
    round.must_live()
    return round.finish(kill, may_fail=True)


def jump_clock(round, seconds, kill):
    """Days forth or back, and the other way round, while webhooks are refused and tried again."""
    round.receiver.answers = {f"/{i}": [(500, {}), (200, {})] for i in range(1, 40)}
    round.page.jump(seconds // 2)
    round.start()
    round.send(3)
    round.page.jump(seconds)
    round.send()
    for number in list(round.acknowledged):
        wait_until(lambda: round.receiver.of(f"/{number}"), 30, "a first attempt")
    round.page.jump(-seconds)
    round.send(2)
    return round.finish(kill, may_fail=False)


def one(seed, say):
    """A round drawn from its seed: (name, failures that came through, calls that failed)."""
    r = random.Random(seed)
    round = Round()
    try:
        what, kill = r.choice([*KINDS, *KINDS, "disk", "clock"]), r.random() < 0.5
        if what == "disk":
            words, lost = f"disk full, kill {kill}", full_disk(round, kill, n=int(r.expovariate(0.05)) + 1)
        elif what == "clock":
            seconds = r.choice([-86400, 86400])
            words, lost = f"clock {seconds:+d} s", jump_clock(round, seconds, kill)
        else:
            early, lasting = r.random() < (0.9 if what in ("map", "read", "thread") else 0.3), r.random() < 0.5
            n = int(r.expovariate(1 / {"alloc": 2000, "thread": 2, "map": 2, "read": 5}.get(what, 20))) + 1
            lasting = lasting and not (early and what == "send")  # nobody could ask it anything
            error = errno.ENOSPC if what in ("write", "open", "sync") and r.random() < 0.5 else None
            words = f"{what} {n}{' and all after it' if lasting else ''}{' from the start' if early else ''}, kill {kill}"
            lost = fail_calls(round, what, n, lasting, early, kill, error)
        return what, words, lost, round.page.failed(), len(round.acknowledged)
    except Exception as e:
        say(f"# round --seed {seed} --rounds 1: {words if 'words' in locals() else what}: {e}")
        raise
    finally:
        round.close()


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--seconds", type=float, default=1e9)
    p.add_argument("--rounds", type=int, default=1 << 30)
    p.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    o = p.parse_args()
    end, counts, bad = time.monotonic() + o.seconds, {}, 0
    for i in range(o.rounds):
        if time.monotonic() > end:
            break
        try:
            what, words, lost, failed, tasks = one(o.seed + i, print)
        except Exception as e:
            bad += 1
            print(f"not ok - {type(e).__name__}: {e}", flush=True)
            if bad >= 10:
                break
            continue
        c = counts.setdefault(what, [0, 0, 0, 0])
        for k, more in enumerate((1, failed, tasks, lost)):
            c[k] += more
    for what, c in sorted(counts.items()):
        print(f"ok - {what}: {c[0]} rounds, {c[1]} calls failed, {c[2]} tasks acknowledged, {c[3]} ended with an error")
    print(f"{len(counts)} passed, {bad} failed, 0 skipped")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
