"""Checks that the numbers of `cargo demo --json` are present, plausible and consistent."""

import json
import sys

run = json.load(open(sys.argv[1], encoding="utf-8"))
NUMBERS = (
    "requests answered lost attainment objective_ms p50_ms p99_ms slice_seconds static_slice_seconds "
    "max_replicas scale_ups scale_downs"
).split()

problems = [f"{name} is not a number" for name in NUMBERS if not isinstance(run.get(name), (int, float))]
if not problems:
    arms = {arm["name"]: arm for arm in run["arms"]}
    statics = sorted((arm for arm in run["arms"] if arm["static_replicas"]), key=lambda arm: arm["static_replicas"])
    checks = {
        "no request lost in any arm": all(arm["lost"] == 0 for arm in run["arms"]),
        "every request answered": run["answered"] == run["requests"] > 1000,
        "scaled up and down": run["scale_ups"] > 0 < run["scale_downs"],
        "p50 below p99": 0 < run["p50_ms"] <= run["p99_ms"],
        "three arms": len(arms) == 3 and len(statics) == 2,
        "all arms got the same load": len({arm["requests"] for arm in run["arms"]}) == 1,
        "fewer slice-seconds than static for the peak": run["slice_seconds"] < run["static_slice_seconds"],
        "static for the mean misses": statics[0]["attainment"] < run["objective_attainment"],
        "nothing left behind": not run["left_behind"] and not run["failures"],
    }
    problems = [name for name, holds in checks.items() if not holds]

for problem in problems:
    print(f"demo: does not hold: {problem}")
print(f"demo: {'FAILED' if problems else 'all checks hold'}")
sys.exit(bool(problems))
