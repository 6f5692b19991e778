"""One round of each kind; daemon.py goes on for as long as it is told."""
import errno
import unittest

import daemon


class Torture(unittest.TestCase):
    def setUp(self):
        self.round = daemon.Round()
        self.addCleanup(self.round.close)

    def test_full_disk(self):
        daemon.full_disk(self.round, kill=False)
        self.assertGreater(self.round.page.failed(), 0)

    def test_clock_that_jumps_back(self):
        daemon.jump_clock(self.round, 86400, kill=False)

    def test_clock_that_jumps_forth(self):
        daemon.jump_clock(self.round, -86400, kill=True)


def add(kind, n, lasting, early, error=None):
    def test(self):
        daemon.fail_calls(self.round, kind, n, lasting, early, kill=early, error=error)
        self.assertGreater(self.round.page.failed(), 0)
    setattr(Torture, f"test_{kind}{'_and_all_after' if lasting else ''}{'_from_the_start' if early else ''}", test)


add("alloc", 700, False, False)
add("alloc", 300, True, False)
add("alloc", 500, False, True)
add("write", 4, True, False, errno.ENOSPC)
add("sync", 2, False, False)
add("open", 5, True, False)
add("read", 2, True, True)
add("thread", 1, False, True)
add("send", 2, False, False)


if __name__ == "__main__":
    unittest.main()
