"""Checks that `cargo compare --json` measured every requested peer in every scenario without an error."""

import json
import sys

run = json.load(open(sys.argv[1], encoding="utf-8"))
peers = set(sys.argv[2].split(","))
rows = run["rows"]
checks = {
    "no peer is absent": not run["absent"],
    "every peer was measured": {row["peer"] for row in rows} == peers,
    "three scenarios": len({row["scenario"] for row in rows}) == 3,
    "requests in every row": all(row["requests"] > 0 for row in rows),
    "none lost": all(row["lost"] == 0 for row in rows),
    "none failed": all(row["failed"] == 0 for row in rows),
}
problems = [name for name, holds in checks.items() if not holds]
for problem in problems:
    print(f"compare: does not hold: {problem}")
print(f"compare: {'FAILED' if problems else 'all checks hold'}")
sys.exit(bool(problems))
