"""What can be measured of how the sources should look: lengths, heads, words that are never used."""
import ast
import os
import re
import subprocess
import unittest

SOURCE = os.environ.get("SOURCE_ROOT") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
FILE_LINES = 800      # more needs a sentence with these words in the head:
REASON = "longer than 800 lines"
FUNCTION_LINES = 100  # two screens: nobody scrolls twice
BANNED = r"\b(strcpy|strcat|sprintf|vsprintf|strtok|atoi|gets|alloca)\s*\("
LIBRARY = r"\b(exit|abort|_exit|printf|puts|assert)\s*\("  # common/ but for its two programs


def sources(*suffixes):
    for top in ("common", "ngx_module", "lua_binding", "gimp_plugin", "tests", "config"):
        for folder, folders, names in os.walk(os.path.join(SOURCE, top)):
            folders[:] = [f for f in folders if f not in ("node_modules", "__pycache__", "corpus")]
            for name in sorted(names):
                path = os.path.join(folder, name)
                if name.endswith(suffixes) and not os.path.islink(path):
                    yield os.path.relpath(path, SOURCE)


def text_of(path):
    with open(os.path.join(SOURCE, path), encoding="utf-8") as f:
        return f.read()


def code_of(path):
    """C without comments and texts, with its lines."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group())
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', blank, text_of(path), flags=re.S)


def c_functions(path):
    """(line, name, lines of the body): a body stands between braces in the first column."""
    lines, start = text_of(path).split("\n"), None
    for number, line in enumerate(lines):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            head = " ".join(lines[max(0, start - 6):start])
            names = re.findall(r"(\w+)\(", head.rsplit(";", 1)[-1].rsplit("}", 1)[-1])
            yield start + 1, names[0] if names else "?", number - start - 1
            start = None


def python_functions(path):
    for node in ast.walk(ast.parse(text_of(path))):
        if isinstance(node, ast.FunctionDef):
            yield node.lineno, node.name, node.end_lineno - node.lineno + 1


class Style(unittest.TestCase):
    def none(self, found, what):
        self.assertEqual(list(found), [], what)

    def test_it_finds_the_sources(self):
        self.assertGreater(len(list(sources(".c"))), 200)
        self.assertGreater(sum(1 for p in sources(".c") for _ in c_functions(p)), 2000)

    def test_files_are_short(self):
        found = []
        for path in sources(".c", ".h", ".py", ".lua", ".html"):
            text = text_of(path)
            if text.count("\n") > FILE_LINES and REASON not in text[:1000]:
                found.append(f"{path}: {text.count(chr(10))} lines")
        self.none(found, f"more than {FILE_LINES} lines, and the head does not say why ({REASON!r})")

    def test_functions_are_short(self):
        found = []
        for suffix, functions in ((".c", c_functions), (".py", python_functions)):
            for path in sources(suffix):
                found += [f"{path}:{line}: {name}, {n} lines" for line, name, n in functions(path) if n > FUNCTION_LINES]
        self.none(found, f"functions of more than {FUNCTION_LINES} lines")

    def test_files_say_what_they_are_for(self):
        found = [path for path in sources(".c", ".h") if not re.match(r"\s*/\*", text_of(path))]
        found += [path for path in sources(".py") if not re.match(r'#[^!]|(#!.*\n)?"""|(#!.*\n)#', text_of(path))]
        self.none(found, "files without a head")

    def test_dangerous_functions(self):
        found = [f"{path}: {m.group(1)}" for path in sources(".c", ".h")
                 if not path.startswith("tests/") for m in re.finditer(BANNED, code_of(path))]
        self.none(found, "functions that are never used here")

    def test_the_library_neither_prints_nor_ends(self):
        found = [f"{path}: {m.group(1)}" for path in sources(".c", ".h")
                 if path.startswith("common/") and not path.startswith(("common/cli/", "common/daemon/"))
                 for m in re.finditer(LIBRARY, code_of(path))]
        self.none(found, "a library does not")

    def test_dependencies_point_downwards(self):
        """common/ knows no host; hosts include reverie.h and nothing else of it."""
        found = []
        for path in sources(".c", ".h"):
            for name in re.findall(r'^#include "([^"]+)"', text_of(path), re.M):
                top = path.split("/")[0]
                if top in ("ngx_module", "lua_binding", "gimp_plugin") and "/" in name:
                    found.append(f"{path}: {name}")
                if top == "common" and re.search(r"ngx_|lrv|gimp", name):
                    found.append(f"{path}: {name}")
        self.none(found, "includes across the border")

    def test_shell_scripts_are_sound(self):
        scripts = [p for top in ("config", "tests", ".ci") for folder, _, names in os.walk(os.path.join(SOURCE, top))
                   for p in (os.path.join(folder, n) for n in names)
                   if os.access(p, os.X_OK) and open(p, "rb").read(9) == b"#!/bin/sh"]
        self.assertGreater(len(scripts), 5)
        for script in scripts:
            run = subprocess.run(["sh", "-n", script], capture_output=True, text=True)
            self.assertEqual(run.stderr, "", script)


if __name__ == "__main__":
    unittest.main()
