"""Reads the logs of tests: how long tests took, which were skipped, which were tried again.

Usage: tests.py LOGS [--strict]   (fails where a test was skipped that must run; strict: scenarios too)
"""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

SHOWN = 10
# Tests that `cargo test` ignores, and the step that runs them.
IGNORED = {
    "independent_client::nvidia_ml_py_lists_the_instance_that_the_driver_has_just_made": "step nvml-client",
    "container_runtime::a_container_whose_image_asks_for_all_gpus_gets_its_slice_alone_under_nvidias_runtime": "step container-runtime",
    "container_runtime::a_container_with_two_claims_sees_both_also_when_one_was_prepared_before": "step container-runtime",
    "container_runtime::containers_of_two_requests_see_their_own_and_one_of_both_sees_both": "step container-runtime",
    "container_runtime::a_container_has_the_libraries_of_the_nodes_driver_once_whatever_it_claims": "step container-runtime",
    "container_runtime::no_library_is_mounted_where_there_is_none_or_it_was_switched_off": "step container-runtime",
    "nvml::processes::racer": "other tests run it as a process of its own",
    "nvml::faults::maker": "other tests run it as a process of its own",
    "local::model::model_server_process": "other tests run it as a process of its own",
}
PROGRAM = re.compile(r" Running .*/([^/]+)-[0-9a-f]{16}\)$")
TEST = re.compile(r"^test (.+?) \.\.\. (ok|FAILED|ignored)(?:, .*?)?(?: <([\d.]+)s>)?$")
SCENARIO_TIMES = "how long each took:"
SCENARIO = re.compile(r"^ *([\d.]+) s  (.+)$")


@dataclass
class Tests:
    """Findings in the logs."""

    # Seconds and name of each test.
    times: list[tuple[float, str]] = field(default_factory=list)
    scenarios: list[tuple[float, str]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    # Lines that report something other than a test of cargo as skipped.
    skipped: list[str] = field(default_factory=list)
    flakes: list[str] = field(default_factory=list)


def read(logs: Path) -> Tests:
    found = Tests()
    for log in sorted(logs.glob("*.log")):
        program, in_times = "", False
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if match := PROGRAM.search(line):
                program = match[1]
            elif log.stem in ("test", "doctest") and (match := TEST.match(line)):
                name = f"{program}::{match[1]}"
                if match[2] == "ignored":
                    found.ignored.append(name)
                else:
                    found.times.append((float(match[3] or 0), name))
            elif line == SCENARIO_TIMES:
                in_times = True
            elif in_times and (match := SCENARIO.match(line)):
                found.scenarios.append((float(match[1]), f"{match[2]} ({log.stem})"))
            elif "SKIPPED" in line or line.startswith("ignored, for it needs"):
                found.skipped.append(f"{log.stem}: {line.strip()}")
            elif line.startswith("FLAKE?"):
                found.flakes.append(f"{log.stem}: {line}")
    return found


def summary(logs: Path) -> None:
    """Prints the slowest tests and scenarios, and those that were tried again."""
    found = read(logs)
    for what, times in (("tests", found.times), ("scenarios", found.scenarios)):
        if times:
            print(f"\n=== the slowest of {len(times)} {what}")
            for seconds, name in sorted(times, reverse=True)[:SHOWN]:
                print(f"{seconds:8.1f} s  {name}")
    for flake in found.flakes:
        print(f"\n=== {flake}")


def problems(logs: Path, strict: bool) -> list[str]:
    found = read(logs)
    for name in found.ignored:
        print(f"ignored: {name} ({IGNORED.get(name, 'no reason is known')})")
    for line in found.skipped:
        print(f"skipped: {line}")
    wrong = [f"{name} is ignored, and IGNORED in .ci/tests.py does not say where it runs" for name in found.ignored]
    wrong = [problem for problem in wrong if problem.split(" ")[0] not in IGNORED]
    if not found.times:
        wrong.append("test.log tells no time of a test")
    if strict:
        wrong += [f"as root nothing may be skipped: {line}" for line in found.skipped]
        ran = [name.rsplit(" (", 1)[0] for _, name in found.scenarios if name.endswith(("light)", "heavy)"))]
        for name in (logs / "scenarios.txt").read_text(encoding="utf-8").splitlines():
            if ran.count(name) != 1:
                wrong.append(f"scenario {name!r} ran {ran.count(name)} times on the newest Kubernetes, not once")
    return wrong


def main() -> int:
    wrong = problems(Path(sys.argv[1]), "--strict" in sys.argv[2:])
    for problem in wrong:
        print(f"FAILED: {problem}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
