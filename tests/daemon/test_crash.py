"""The crash test in a few seconds; crash.py has it in full."""
import unittest

import crash


class Crash(unittest.TestCase):
    def test_sqlite(self):
        """nginx workers and masters and reveried are killed while tasks come in."""
        self.assertEqual(crash.Run(tasks=60, kills=12).run(), 60)


if __name__ == "__main__":
    unittest.main()
