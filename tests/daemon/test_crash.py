"""The crash test in a few seconds; crash.py has it in full."""
import os
import subprocess
import sys
import unittest

import crash


class Crash(unittest.TestCase):
    def test_sqlite(self):
        """nginx workers and masters and reveried are killed while tasks come in."""
        self.assertEqual(crash.Run(tasks=60, kills=12).run(), 60)

    def test_valkey_on_two_nodes(self):
        """The same with three workers on two nodes, Valkey killed too, and nodes cut off."""
        if crash.missing_for_network():
            self.skipTest(crash.missing_for_network())
        run = subprocess.run([sys.executable, os.path.join(os.path.dirname(__file__), "crash.py"), "--valkey",
                              "--network", "--workers", "2,1", "--tasks", "60", "--kills", "12"], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        print("\n".join("# " + line for line in run.stdout.splitlines()))
        self.assertEqual(run.returncode, 0)
        self.assertIn("the node that was cut off tells the same of 60 tasks", run.stdout)


if __name__ == "__main__":
    unittest.main()
