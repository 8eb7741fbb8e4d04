"""Checks the crates of a workspace: source, licence, and that no crate is there in two versions without a reason.

Usage: check_dependencies.py MANIFEST...   (dependencies.toml lists what is allowed)
"""

import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

ALLOWED = tomllib.loads(Path(__file__).with_name("dependencies.toml").read_text(encoding="utf-8"))
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"
TARGET = "x86_64-unknown-linux-gnu"


def is_allowed(expression: str) -> bool:
    """Returns whether a licence expression is allowed: `AND` needs both sides, `OR` and the old `/` need one."""
    tokens = re.findall(r"\(|\)|[^()\s]+", expression.replace("/", " OR "))

    def one_of() -> bool:
        met = all_of()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            met = all_of() or met
        return met

    def all_of() -> bool:
        met = licence()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            met = licence() and met
        return met

    def licence() -> bool:
        name = tokens.pop(0)
        if name == "(":
            met = one_of()
            tokens.pop(0)
            return met
        if tokens and tokens[0] == "WITH":
            name = f"{name} WITH {tokens[1]}"
            del tokens[:2]
        return name in ALLOWED["licences"]

    try:
        return one_of() and not tokens
    except IndexError:
        return False


def packages(manifest: str) -> list[dict]:
    """Returns the packages of a workspace that are built, from its lock file."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET]
    done = subprocess.run([*command, "--manifest-path", manifest], stdout=subprocess.PIPE, check=True)
    metadata = json.loads(done.stdout)
    built = {node["id"] for node in metadata["resolve"]["nodes"]}
    return [package for package in metadata["packages"] if package["id"] in built]


def problems_of(manifest: str) -> tuple[list[str], set[str]]:
    """Returns the problems of the crates of a workspace, and the names of crates that are there more than once."""
    problems, versions = [], defaultdict(set)
    for package in packages(manifest):
        name = f"{package['name']} {package['version']}"
        versions[package["name"]].add(package["version"])
        # Packages of the workspace itself have no source.
        if package["source"] not in (None, CRATES_IO):
            problems.append(f"{name} is not from crates.io but from {package['source']}")
        if not is_allowed(package["license"] or ""):
            problems.append(f"{name}: licence {package['license']!r} is not among those in .ci/dependencies.toml")
    twice = {name for name, found in versions.items() if len(found) > 1}
    for name in sorted(twice - set(ALLOWED["duplicates"])):
        problems.append(
            f"{name} is there in versions {', '.join(sorted(versions[name]))} (`cargo tree -i {name}@VERSION` says "
            "for whom): use one, or say in .ci/dependencies.toml why not"
        )
    return problems, twice


def main() -> int:
    problems, twice = [], set()
    for manifest in sys.argv[1:]:
        found, duplicates = problems_of(manifest)
        problems += [f"{manifest}: {problem}" for problem in found]
        twice |= duplicates
    for problem in problems:
        print(f"dependencies: {problem}")
    for name in sorted(set(ALLOWED["duplicates"]) - twice):
        print(f"dependencies: {name} is there only once now: its line in .ci/dependencies.toml can go")
    print(f"dependencies: {'FAILED' if problems else 'sources, licences and versions are as allowed'}")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
