"""Every text that people see is in every catalogue: those of the sources and those of the parameter table."""
import glob
import json
import os
import re
import shutil
import subprocess
import unittest

SOURCE = os.environ.get("SOURCE_ROOT") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))
BUILD = os.path.abspath(os.environ.get("BUILD_ROOT") or os.path.join(SOURCE, "build"))
PLUGIN = os.path.join(SOURCE, "gimp_plugin")


def entries(text):
    """msgid -> msgstr of a catalogue."""
    found = {}
    for block in re.split(r"\n\s*\n", text):
        match = re.search(r"^msgid (.*?)^msgstr (.*)", block, re.S | re.M)
        if match:
            a, b = ("".join(re.findall(r'"(.*)"', part)) for part in match.groups())
            if a:
                found[a] = b
    return found


def of_table():
    """Labels, help, groups and units of the rows that the window shows."""
    out = subprocess.run([os.path.join(BUILD, "reverie"), "schema", "reverie:1@1"], capture_output=True, text=True,
                         check=True).stdout
    with open(os.path.join(PLUGIN, "parameters.c")) as f:
        ours = set(re.findall(r'"(\w+)"', f.read().split("ours[] = {")[1].split("}")[0]))
    with open(os.path.join(PLUGIN, "form.c")) as f:
        ours |= set(re.findall(r'"(\w+)"', f.read().split("placed[] = {")[1].split("}")[0]))

    def walk(fields, skip):
        for name, field in fields.items():
            if field.get("deprecated") or name in skip:
                continue
            if "properties" in field:
                yield from walk(field["properties"], ())
            else:
                yield from (field[k] for k in ("title", "description", "x-group", "x-unit") if field.get(k))
    return set(walk(json.loads(out)["properties"], ours))


def of_options():
    with open(os.path.join(PLUGIN, "request.c")) as f:
        lists = re.findall(r'\.words = "([^"]+)"', f.read())
    return {word.capitalize() for words in lists[1:] for word in words.split("|")}


@unittest.skipUnless(shutil.which("xgettext"), "gettext is not installed")
class Catalogues(unittest.TestCase):
    def test_all_are_complete(self):
        texts = subprocess.run(["xgettext", "--keyword=_", "--keyword=N_", "--from-code=UTF-8", "-o", "-",
                                *sorted(glob.glob(PLUGIN + "/*.c"))], capture_output=True, text=True, check=True).stdout
        wanted = set(entries(texts)) | of_table() | of_options()
        self.assertGreater(len(wanted), 200)
        catalogues = glob.glob(PLUGIN + "/po/*.po")
        self.assertTrue(catalogues)
        for path in catalogues:
            with open(path) as f:
                has = entries(f.read())
            self.assertEqual(sorted(w for w in wanted if not has.get(w)), [], path)
            self.assertEqual(sorted(set(has) - wanted), [], path)

    def test_formats_fit(self):
        for path in glob.glob(PLUGIN + "/po/*.po"):
            run = subprocess.run(["msgfmt", "--check-format", "--check-domain", "-o", os.devnull, path], capture_output=True, text=True)
            self.assertEqual((run.returncode, run.stderr), (0, ""))
            with open(path) as f:
                for a, b in entries(f.read()).items():
                    self.assertEqual(re.findall("%[a-z]", a), re.findall("%[a-z]", b), a)


if __name__ == "__main__":
    unittest.main()
