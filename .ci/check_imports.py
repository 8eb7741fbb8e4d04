#!/usr/bin/env python3
"""Checks that the imports of each program run downhill: a module names only modules of lower layers.

imports.toml lists the layers, the lowest first. Only code counts: comments and tests may name any module.
"""

import re
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
PATH = re.compile(r"\b(crate|super(?:::super)*)::(\{[^;]*?\}|\w+)", re.DOTALL)
COMMENT = re.compile(r"//[^\n]*")
TESTS = re.compile(r"^#\[cfg\(test\)\]\s*(?:pub(?:\([^)]*\))? )?mod \w+ \{.*", re.MULTILINE | re.DOTALL)


def code_of(path: Path) -> str:
    """Returns a file without comments and without its tests, lines kept."""
    text = TESTS.sub("", path.read_text())
    return COMMENT.sub("", text)


def modules_named(place: list[str], code: str):
    """Yields each module at the top of the program that code at `place` names, with the offset in the code."""
    for found in PATH.finditer(code):
        base, names = found.groups()
        inside = [] if base == "crate" else place[: len(place) - base.count("super")]
        if inside:
            yield inside[0], found.start()
            continue
        for name in re.findall(r"(?:^\{|[{,])\s*(\w+)", names) if names.startswith("{") else [names]:
            yield name, found.start()


def faults_of(program: str, rules: dict) -> list[str]:
    """Returns a line for each import of a program that does not run downhill."""
    folder = ROOT / rules["folder"]
    layer = {name: depth for depth, names in enumerate(rules["layers"]) for name in names.split()}
    allowed = {tuple(pair.split(" -> ")) for pair in rules.get("except", {})}
    unused = set(allowed)
    faults = []
    present = set()
    for path in sorted(folder.rglob("*.rs")):
        place = list(path.relative_to(folder).with_suffix("").parts)
        own = place[0]
        if own in ("lib", "main", "bin") or "tests" in place:
            continue
        present.add(own)
        if own not in layer:
            faults.append(f"{path.relative_to(ROOT)}: module {own} stands in no layer of {program} in .ci/imports.toml")
            continue
        code = code_of(path)
        for name, offset in modules_named(place, code):
            if name == own or name not in layer or layer[name] < layer[own]:
                continue
            if (own, name) in allowed:
                unused.discard((own, name))
                continue
            line = code.count("\n", 0, offset) + 1
            faults.append(
                f"{path.relative_to(ROOT)}:{line}: {own} may not import {name}, which stands above it or beside it: "
                "move what both need below both, or let the upper one implement a trait of the lower one"
            )
    faults += [f"{program}: layer names {name}, which is no module" for name in layer if name not in present]
    faults += [f"{program}: the exception {' -> '.join(pair)} is not needed any more" for pair in sorted(unused)]
    return faults


def main() -> int:
    rules = tomllib.loads((HERE / "imports.toml").read_text())
    faults = [fault for program, own in rules.items() for fault in faults_of(program, own)]
    for fault in faults:
        print(fault)
    print(f"{len(rules)} programs, {len(faults)} imports against the order")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
