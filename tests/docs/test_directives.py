#!/usr/bin/env python3
"""The table of directives in ngx_module/README.md is that of the module: names, contexts and numbers of arguments come from
the source, values and defaults from each directive's own section.  `test_directives.py --write` (config/docs) makes it.
"""
import os
import re
import sys
import unittest

SOURCE = os.environ.get("SOURCE_ROOT") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
PAGE = os.path.join(SOURCE, "ngx_module/README.md")
TABLE = os.path.join(SOURCE, "ngx_module/ngx_http_reverie_module.c")
BEGIN, END = "<!-- directives: made by config/docs -->\n", "<!-- end of directives -->\n"
CONTEXTS = {"NGX_HTTP_REVERIE_ANYWHERE": "http, server, location", "NGX_HTTP_LOC_CONF": "location",
            "NGX_HTTP_MAIN_CONF": "http"}
ARGUMENTS = {"NGX_CONF_NOARGS": (0, 0), "NGX_CONF_TAKE1": (1, 1), "NGX_CONF_TAKE12": (1, 2), "NGX_CONF_FLAG": (1, 1),
             "NGX_CONF_1MORE": (1, None)}


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def directives():
    """[(name, context, kind of arguments)] in the module's order."""
    found = []
    for name, flags in re.findall(r'ngx_string\("(reverie\w*)"\),\n\s+(NGX_HTTP\w+\|NGX_CONF\w+)', read(TABLE)):
        context, arguments = flags.split("|")
        found.append((name, CONTEXTS[context], arguments))
    return found


def sections():
    """{name: (values, default)} of the page."""
    found = {}
    for name, body in re.findall(r"^### (reverie\w*)\n(.*?)(?=^##)", read(PAGE), re.M | re.S):
        synopsis = re.search(r"((?:^    .*\n)+)", body, re.M).group(1)
        values, _, default = " ".join(synopsis.split()).partition("default:")
        found[name] = (values.split(None, 1)[1].strip().rstrip(";") if " " in values.strip() else "", default.strip())
    return found


def table():
    told = sections()
    lines = ["| directive | values | default | where |", "|---|---|---|---|"]
    for name, context, _ in directives():
        values, default = told[name]
        shown = f"`{values.replace('|', chr(92) + '|')}`" if values else ""
        lines.append(f"| [`{name}`](#{name}) | {shown} | {default} | {context} |")
    return "\n".join(lines) + "\n"


class Directives(unittest.TestCase):
    def test_the_table_is_current(self):
        self.assertGreater(len(directives()), 25)
        self.assertIn(BEGIN + table() + END, read(PAGE), "run make docs")

    def test_synopses_fit_the_number_of_arguments(self):
        told = sections()
        for name, _, kind in directives():
            least, most = ARGUMENTS[kind]
            values = told[name][0]
            self.assertEqual(bool(values), least > 0, name)
            if kind == "NGX_CONF_FLAG":
                self.assertEqual(values, "on | off", name)
            if most is None:
                self.assertRegex(values, r"\.\.\.|\[", name)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        text = read(PAGE)
        text = re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: BEGIN + table() + END, text, flags=re.S)
        with open(PAGE, "w", encoding="utf-8") as f:
            f.write(text)
    else:
        unittest.main()
