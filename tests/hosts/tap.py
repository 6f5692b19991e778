#!/usr/bin/env python3
"""tap.py FILE [FILE ...]: runs unittest files and prints their results in the Test Anything Protocol.

Every method is one result, so that a failure is counted and named on its own.  TESTS=PATTERN[,PATTERN] in the
environment runs only the methods whose name contains one of the patterns.
"""
import importlib.util
import os
import sys
import time
import traceback
import unittest


class Result(unittest.TestResult):
    """Prints one line per test; sub-tests count for their test."""

    def __init__(self):
        super().__init__()
        self.number = 0
        self.problems = []

    def startTest(self, test):
        super().startTest(test)
        self.problems = []
        self.started = time.monotonic()

    def line(self, test, status, comment=""):
        self.number += 1
        name = ".".join(test.id().split(".")[-2:]).replace("#", "")
        print(f"{status} {self.number} - {name}{comment}", flush=True)

    def problem(self, err):
        self.problems.append("".join(traceback.format_exception(*err)))

    def addError(self, test, err):
        super().addError(test, err)
        self.problem(err)
        if not isinstance(test, unittest.TestCase):  # setUpClass and the like
            self.finish(test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.problem(err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.problem(err)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.skipped_now = True
        self.line(test, "ok", f" # SKIP {reason}")

    def stopTest(self, test):
        super().stopTest(test)
        if not getattr(self, "skipped_now", False):
            self.finish(test)
        self.skipped_now = False

    def finish(self, test):
        if not self.problems:
            self.line(test, "ok", f" ({time.monotonic() - self.started:.2f} s)")
            return
        self.line(test, "not ok")
        for text in self.problems:
            print("\n".join("# " + line for line in text.splitlines()), flush=True)


def load(path):
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return unittest.defaultTestLoader.loadTestsFromModule(module)


def chosen(suite, patterns):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from chosen(test, patterns)
        elif not patterns or any(p in test.id() for p in patterns):
            yield test


def main():
    patterns = [p for p in os.environ.get("TESTS", "").split(",") if p]
    tests = list(chosen(unittest.TestSuite(load(path) for path in sys.argv[1:]), patterns))
    result = Result()
    unittest.TestSuite(tests).run(result)
    print(f"1..{result.number}")
    return 0 if result.wasSuccessful() and result.number else 1


if __name__ == "__main__":
    sys.exit(main())
