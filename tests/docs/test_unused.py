"""Nothing in common/ is there for nobody: every function shared between files is used by a program or a host.

Looks at the objects of the build: what one of them defines under a public or shared name, another one must want, or its
own file must call.  Tests do not count.
"""
import glob
import os
import re
import subprocess
import unittest

SOURCE = os.environ.get("SOURCE_ROOT") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
BUILD = os.path.abspath(os.environ.get("BUILD_ROOT") or os.path.join(SOURCE, "build"))
# Wanted by tests alone, and why.
FOR_TESTS = {
    "rv__alloc_fail_after": "makes allocations fail",
    "rv__channels": "the other half of rv__tokens, with which the graph's views are tried",
    "rv__device_threads": "benchmarks print it",
    "rv__guard_is_public": "the list of addresses without this machine's own",
    "rv__link_recorded": "fuzzers talk to a machine that is a file",
    "rv__machines_attach": "the same",
    "rv__rpc_server_talk": "the same, from the other side",
    "rv__scheduler_canonical": "compares the engine's names with those of requests",
    "rv__task_model_sent": "looks at aliases",
    "rv__text_llama": "looks at what is loaded",
    "rv__transformer_flops": "benchmarks count operations with it",
}


def symbols(objects):
    """{object: (defined, wanted)}"""
    out = subprocess.run(["nm", "-A", *objects], capture_output=True, text=True, check=True).stdout
    found = {path: (set(), set()) for path in objects}
    for line in out.splitlines():
        path, rest = line.split(":", 1)
        kind, name = rest.split()[-2:]
        if kind in "TDBR":
            found[path][0].add(name)
        elif kind == "U":
            found[path][1].add(name)
    return found


def source_of(path):
    """The file of an object: meson writes folders with underscores."""
    name = os.path.basename(path)[:-2]
    for folder in ("base", "request", "job", "remote", "engine", "image"):
        if name.startswith(folder + "_"):
            return os.path.join(SOURCE, "common", folder, name[len(folder) + 1:])
    return None


class Unused(unittest.TestCase):
    maxDiff = None

    def test_every_shared_function_is_wanted(self):
        core = [p for p in glob.glob(os.path.join(BUILD, "common/*.a.p/*.c.o")) if "client" not in p]
        hosts = [p for folder in ("reverie.p", "reveried.p", "ngx_module/*.p", "lua_binding/abi/*/reverie/*.p", "gimp_plugin/*.p")
                 for p in glob.glob(os.path.join(BUILD, folder, "*.o"))]
        self.assertGreater(len(core), 100)
        found = symbols(core + hosts)
        wanted = set().union(*(w for _, w in found.values()))
        with open(os.path.join(SOURCE, "common/include/reverie.h"), encoding="utf-8") as f:
            public = set(re.findall(r"\b(rv_\w+)\(", f.read()))
        unused = []
        for path in core:
            source = source_of(path)
            if not source or not os.path.exists(source):
                continue
            with open(source, encoding="utf-8") as f:
                text = f.read()
            for name in found[path][0] - wanted - public:
                uses = len(re.findall(rf"\b{name}\b", text))
                if name.startswith("rv") and uses < 2 and name not in FOR_TESTS:
                    unused.append(f"{os.path.relpath(source, SOURCE)}: {name}")
        self.assertEqual(sorted(unused), [], "nobody but tests uses these")


if __name__ == "__main__":
    unittest.main()
