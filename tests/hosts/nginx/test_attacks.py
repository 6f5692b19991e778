"""Attacks on a real nginx with real reverieds, in a network of their own without a way out: each with the reply it
gets and the proof that nothing happened.  The table is kept in ngx_module/attacks.md; WRITE_ATTACKS=1 writes it anew.
"""
import os
import unittest

import attack_rows
import harness
import netbox
from attack_lab import SECRET_FILE, Lab

PAGE = os.path.join(harness.SOURCE, "ngx_module/attacks.md")
MEMORY = 700  # MiB that no process may ever have had: the engine with its model has about half of it
lab = None


def setUpModule():
    global lab
    try:
        lab = Lab()
    except PermissionError as why:
        raise unittest.SkipTest(f"no network of its own: {why}") from None


def tearDownModule():
    lab.close()


class Attacks(unittest.TestCase):
    def attack(self, row):
        opened, ran, hits = netbox.opened(), lab.ran(), len(lab.hits())
        self.assertIn(row["send"](lab), row["reply"].split(" or "), lab.last[:600])
        for text in [netbox.Victims.SECRET, SECRET_FILE.encode(), *row.get("absent", [])]:
            self.assertNotIn(text, lab.last)
        lab.nginx.verify()
        self.assertEqual(netbox.opened() - opened, row.get("opened", 0), "TCP connections were tried")
        self.assertEqual(lab.hits()[hits:], [])
        self.assertEqual(lab.ran() - ran, row.get("ran", 0), "tasks that ended with pictures")
        self.assertLess(lab.memory(), MEMORY * (8 if harness.WRAP else 1))
        for text in row.get("unlogged", []):
            self.assertNotIn(text, lab.logs())


def add(number, row):
    def test(self):
        self.attack(row)
    setattr(Attacks, f"test_{number:03d} {row['kind']}: {row['name']}".replace(".", "·"), test)


for number, row in enumerate(attack_rows.ROWS, 1):
    add(number, row)


class Controls(unittest.TestCase):
    """The attacks would be seen if they worked."""

    def test_victims_are_there(self):
        """Where the operator allows it, the same URLs do reach them."""
        for url in ["http://127.0.0.1/x", "http://10.0.0.5:8080/x", "http://[::1]/x", "http://inner.test/x"]:
            opened, hits = netbox.opened(), len(lab.hits())
            self.assertEqual(lab.seed(url, "/loose"), "400 invalidSeedImage")
            self.assertEqual(netbox.opened() - opened, 1)
            self.assertEqual(len(lab.hits()) - hits, 1)

    def test_no_way_out(self):
        with open("/proc/net/route") as f:
            self.assertEqual(len(f.readlines()), 1)
        self.assertEqual([n for _, n in __import__("socket").if_nameindex()], ["lo"])


class Page(unittest.TestCase):
    def test_page(self):
        text = page()
        if os.environ.get("WRITE_ATTACKS"):
            with open(PAGE, "w") as f:
                f.write(text)
        with open(PAGE) as f:
            self.assertEqual(f.read(), text, "WRITE_ATTACKS=1 writes the page anew")


def proof(row):
    tried, ran = row.get("opened", 0), row.get("ran", 0)
    words = ["no connection tried" if not tried else
             f"{tried} connection{'s' if tried > 1 else ''}, to the allowed host alone",
             "no picture made" if not ran else "the task itself ran"]
    if row.get("unlogged"):
        words.append("not in any log")
    return "; ".join(words)


def page():
    rows = attack_rows.ROWS
    lines = ["# Attacks", "",
             "Made by `tests/hosts/nginx/test_attacks.py`, which makes every one of these attacks on a real nginx with "
             "real `reveried`", "processes inside a network namespace that has no device but loopback and no route "
             "out. The private, metadata and", "loopback addresses exist there, with servers that count who comes; a "
             "name server of the attacker answers for his names.", "", "After each attack the test looks that", "",
             "* the kernel counted no TCP connection tried in that network (but to a host that was allowed), and no "
             "server was visited;", "* no picture was made where none should, no secret came back, no forged line or prompt "
             "is in a log;",
             f"* every process lives, nginx's log holds no alarm, and no process ever had more than {MEMORY} MiB.", "",
             "Controls in the same file show that the same URLs do reach those servers once the operator allows it.",
             "", f"{len(rows)} attacks.", "", "| # | kind | attack | reply | proof |", "|---|---|---|---|---|"]
    for number, row in enumerate(rows, 1):
        name = row["name"].replace("|", "\\|").replace("\t", "\\t")
        lines.append(f"| {number} | {row['kind']} | {name} | {row['reply']} | {proof(row)} |")
    return "\n".join(lines) + "\n"
