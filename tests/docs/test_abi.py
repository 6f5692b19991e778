"""The library's binary interface is what common/include/reverie.abi and the package's symbols file say.

A program that was linked with libreverie.so.0 must go on working with every later one of that name.  So functions may be
added, but none may go; structures and enumerations grow at their end only.  After such an addition
`python3 tests/docs/test_abi.py --write` (with BUILD_ROOT set) notes it in both files.
"""
import os
import re
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.environ.get("SOURCE_ROOT") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
BUILD = os.path.abspath(os.environ.get("BUILD_ROOT") or os.path.join(SOURCE, "build"))
HEADER = os.path.join(SOURCE, "common/include/reverie.h")
ABI = os.path.join(SOURCE, "common/include/reverie.abi")
SYMBOLS = os.path.join(SOURCE, "config/debian/libreverie0.symbols")


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def header():
    """The header without comments and bodies of macros."""
    text = re.sub(r"/\*.*?\*/", " ", read(HEADER), flags=re.S)
    return re.sub(r"^#(?:.*\\\n)*.*", "", text, flags=re.M)


def version():
    return re.search(r"version: '([\d.]+)'", read(os.path.join(SOURCE, "meson.build"))).group(1)


def declared():
    return sorted(re.findall(r"RV_API [^;]*?\b(rv_\w+)\(", header()))


def exported():
    out = subprocess.run(["nm", "-D", "--defined-only", os.path.join(BUILD, "common/libreverie.so.0")],
                         capture_output=True, text=True, check=True).stdout
    names = [line.split()[2].replace("@@", "@") for line in out.splitlines()]
    return sorted(name if "@" in name else f"{name}@{name}" for name in names)  # the version's own


def structures():
    """{name: members}"""
    found = {}
    for body, name in re.findall(r"typedef struct \w+ \{(.*?)\}\s*(\w+);", header(), re.S):
        members = []
        for part in body.split(";"):
            function = re.search(r"\(\*\s*(\w+)\)", part)
            names = [function.group(1)] if function else re.findall(r"(\w+)\s*(?:\[[^\]]*\])?\s*(?:,|$)", part.strip())
            members += names
        found[name] = members
    return found


def constants():
    """Names of all enumerations, in their order."""
    return [name for body in re.findall(r"enum \w*\s*\{(.*?)\}", header(), re.S)
            for name in re.findall(r"\b(RV_\w+)\b\s*(?:=[^,]*)?(?:,|$)", body.strip())]


def layout():
    """Sizes, offsets and values, as the compiler sees them."""
    lines = ["#include <reverie.h>", "#include <stdio.h>", "#include <stddef.h>", "int main(void) {"]
    for name, members in structures().items():
        lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
        lines += [f'printf("{name}.{m} %zu %zu\\n", offsetof({name}, {m}), sizeof((({name} *)0)->{m}));' for m in members]
    lines += [f'printf("{name} = %d\\n", (int){name});' for name in constants()]
    with tempfile.TemporaryDirectory() as folder:
        source, program = os.path.join(folder, "a.c"), os.path.join(folder, "a")
        with open(source, "w") as f:
            f.write("\n".join([*lines, "return 0; }"]))
        subprocess.run(["cc", "-I", os.path.dirname(HEADER), source, "-o", program], check=True)
        return subprocess.run([program], capture_output=True, text=True, check=True).stdout


def symbols_file():
    head = "libreverie.so.0 libreverie0 #MINVER#\n* Build-Depends-Package: libreverie-dev\n"
    known = dict(re.findall(r"^ (\S+) (\S+)$", read(SYMBOLS), re.M)) if os.path.exists(SYMBOLS) else {}
    return head + "".join(f" {name} {known.get(name, version())}\n" for name in exported())


class Abi(unittest.TestCase):
    def test_every_public_function_is_exported_and_nothing_else(self):
        self.assertGreater(len(declared()), 60)
        self.assertEqual([f"{name}@REVERIE_0" for name in declared()], [n for n in exported() if n != "REVERIE_0@REVERIE_0"])

    def test_the_package_lists_them(self):
        self.assertEqual(symbols_file(), read(SYMBOLS), "see the head of this file")

    def test_structures_and_enumerations_are_as_they_were(self):
        self.assertGreater(len(structures()), 8)
        self.assertEqual(layout(), read(ABI), "see the head of this file")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        for path, text in ((ABI, layout()), (SYMBOLS, symbols_file())):
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
    else:
        unittest.main()
