#!/usr/bin/env python3
"""run.py FILE: runs a unittest file inside GIMP, without a screen, and passes its results (TAP) on.

The file runs in GIMP's own Python through tests/hosts/tap.py, so that it sees images as every plug-in does.
"""
import os
import sys

import harness

TAP = os.path.join(os.path.dirname(harness.HERE), "tap.py")
INSIDE = """
import sys
sys.argv = ['tap.py', {file!r}]
sys.dont_write_bytecode = True
with open({tap!r}) as f:
    names = {{'__name__': 'tap'}}
    exec(compile(f.read(), {tap!r}, 'exec'), names)
names['main']()
sys.stdout.flush()
"""


def main():
    why = harness.missing()
    if why:
        print(f"1..0 # SKIP {why}")
        return 0
    file = os.path.abspath(sys.argv[1])
    with harness.Gimp() as gimp, gimp.daemon():
        run = gimp.console("python-fu-eval", INSIDE.format(file=file, tap=TAP))
    return run.returncode  # what failed is in the results


if __name__ == "__main__":
    sys.exit(main())
