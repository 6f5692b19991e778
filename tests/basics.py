"""What every test program in Python needs: where things are, and how to wait.

Nothing waits for a fixed time where it can wait for a fact.
"""
import glob
import os
import time

SOURCE = os.environ.get("SOURCE_ROOT") or os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
BUILD = os.path.abspath(os.environ.get("BUILD_ROOT") or os.path.join(SOURCE, "build"))
REVERIE = os.path.join(BUILD, "reverie")
REVERIED = os.path.join(BUILD, "reveried")
CARDS = os.path.join(SOURCE, "config/models")
SLOW = float(os.environ.get("TEST_SLOWNESS", "1"))  # patience of every wait, as a multiple


def wait_until(fact, seconds=30.0, what="the expected state"):
    """Calls fact until it is true; its value."""
    end = time.monotonic() + seconds * SLOW
    while True:
        value = fact()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come within {seconds * SLOW:.0f} s")
        time.sleep(0.01)


def descriptors(pid):
    """What a process has open, as text; sockets of clients come and go and are waited for by the caller."""
    found = []
    for fd in glob.glob(f"/proc/{pid}/fd/*"):
        try:
            found.append(os.readlink(fd))
        except OSError:
            pass
    return sorted(found)
