"""The page of `make bench`: any program's lines are in it, with the limit they are held to."""
import os
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.environ.get("SOURCE_ROOT") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
LINES = """bench engine_step_tiny: 0.0123 s/step | openblas sgemm 0.0110 s/step | ratio 1.12
bench torch_float32_2_threads: 0.510 s/step | pytorch float32 0.500 s/step | ratio 1.02
bench nginx stored picture 48 kB: 9000 requests/s | static file 9100 requests/s | ratio 0.99
bench nginx getResponse: 200 requests/s | return 200 1000 requests/s | ratio 0.20
bench something new: 3 things | other 4 things | ratio 0.75
bench gimp: skipped (no screen)
# a remark
"""


class Page(unittest.TestCase):
    def test_every_line_is_there_and_judged(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "page.md")
            run = subprocess.run([sys.executable, os.path.join(SOURCE, "tests/bench/report.py"), path], input=LINES,
                                 capture_output=True, text=True, check=True)
            self.assertTrue(run.stdout.startswith(LINES))
            with open(path, encoding="utf-8") as f:
                page = f.read()
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
        found = {row[0]: row for row in rows}
        self.assertEqual(found["engine_step_tiny"][1:6], ["0.0123 s/step", "openblas sgemm 0.0110 s/step", "1.12", "", ""])
        self.assertEqual(found["torch_float32_2_threads"][4:6], ["≤ 1", "+2 %"])
        self.assertEqual(found["nginx stored picture 48 kB"][4:6], ["≥ 0.95", "holds"])
        self.assertEqual(found["nginx getResponse"][4:6], ["≥ 0.6", "-67 %"])
        self.assertIn("something new", found)
        self.assertIn("* gimp: skipped (no screen)", page)


if __name__ == "__main__":
    unittest.main()
