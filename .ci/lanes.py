"""Runs steps in lanes: the steps of a lane one after the other, the lanes side by side.

Each step's output goes to a log of its own. After a failure no further step starts, running steps come to their end,
and the log of the failed step is shown.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Nice value of polite steps: their weight is a tenth of the others'. With less, a build beside a busy cluster would starve.
NICE = 10
# Lines of a failed step's log that are shown.
TAIL_LINES = 400
# Seconds from the interrupt to the kill of a step: in them it removes its cluster.
KILL_AFTER_S = 60

# Starts a command politely. Each step is a session, which the kernel weighs as a whole where it groups processes by
# session (autogroup); there the nice value of a single process has no effect on other sessions.
POLITELY = f'{{ echo {NICE} >/proc/self/autogroup; }} 2>/dev/null; exec nice -n {NICE} bash -c "$1"'


@dataclass(frozen=True)
class Step:
    """One command."""

    name: str
    # For bash, with -e, -u and pipefail.
    command: str
    # Steps of other lanes that must have passed.
    after: tuple[str, ...] = ()
    # Whether it runs with low priority.
    polite: bool = False
    # Reason why it cannot run here, and counts as skipped; empty: it runs.
    skip: str = ""
    # Whether its output is shown at the end, too.
    shown: bool = False


@dataclass
class Result:
    """Result of a step."""

    step: Step
    outcome: str
    wall_s: float = 0.0
    # CPU seconds of the processes that the step waited for; a cluster's are not among them.
    cpu_s: float = 0.0


def busy_s() -> float:
    """Returns the CPU seconds that the whole machine has spent."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


class Run:
    """One run of all lanes."""

    def __init__(self, lanes: list[list[Step]], logs: Path, limit_s: float) -> None:
        self.lanes, self.logs, self.limit_s = lanes, logs, limit_s
        self.began = time.monotonic()
        self.busy_s = busy_s()
        self.results: dict[str, Result] = {}
        self.running: dict[str, subprocess.Popen] = {}
        # Guards the two above; notified of every end of a step.
        self.changed = threading.Condition()
        self.stopped = ""

    def log(self, step: Step) -> Path:
        return self.logs / f"{step.name}.log"

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:5.0f} s] {text}", flush=True)

    def run(self) -> bool:
        """Runs everything; returns whether nothing failed."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: self.stop(f"signal {number}"))
        timer = threading.Timer(self.limit_s, self.stop, [f"the limit of {self.limit_s:.0f} s"])
        timer.daemon = True
        timer.start()
        threads = [threading.Thread(target=self.lane, args=[lane], daemon=True) for lane in self.lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        timer.cancel()
        return not self.stopped

    def lane(self, lane: list[Step]) -> None:
        for step in lane:
            with self.changed:
                self.changed.wait_for(lambda: self.stopped or all(name in self.results for name in step.after))
                if self.stopped:
                    return
            result = Result(step, "skipped") if step.skip else self.one(step)
            with self.changed:
                self.results[step.name] = result
                if result.outcome == "FAILED":
                    self.stopped = self.stopped or f"the failure of {step.name}"
                self.changed.notify_all()
            if step.skip:
                self.say(f"skipped {step.name}: {step.skip}")

    def one(self, step: Step) -> Result:
        script = f"set -euo pipefail\n{step.command}"
        command = ["bash", "-c", POLITELY, "bash", script] if step.polite else ["bash", "-c", script]
        began = time.monotonic()
        with self.log(step).open("wb") as log, self.changed:
            if self.stopped:
                return Result(step, "not started")
            self.say(f"start   {step.name}")
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            self.running[step.name] = process
        # Not Popen's own wait: this one returns the CPU time too.
        _, status, usage = os.wait4(process.pid, 0)
        with self.changed:
            del self.running[step.name]
        code = os.waitstatus_to_exitcode(status)
        process.returncode = code
        wall_s = time.monotonic() - began
        outcome = "FAILED" if code else "ok"
        self.say(f"{outcome:7} {step.name}, {wall_s:.0f} s" + (f", exit code {code}; {self.log(step)}" if code else ""))
        return Result(step, outcome, wall_s, usage.ru_utime + usage.ru_stime)

    def stop(self, why: str) -> None:
        """Interrupts running steps, as Ctrl-C would, and kills those that do not end."""
        # A thread of its own: a signal may come while this one holds the lock.
        threading.Thread(target=self.interrupt, args=[why], daemon=True).start()

    def interrupt(self, why: str) -> None:
        with self.changed:
            self.stopped = self.stopped or why
            self.say(f"stopped by {why}: {', '.join(self.running) or 'nothing'} is interrupted")
            self.changed.notify_all()
        for number, pause_s in ((signal.SIGINT, KILL_AFTER_S), (signal.SIGKILL, 0)):
            with self.changed:
                for process in self.running.values():
                    # The process may have ended a moment ago.
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, number)
                self.changed.wait_for(lambda: not self.running, timeout=pause_s)


def report(run: Run, also: Callable[[], None]) -> None:
    """Prints the logs that matter, and a table of all steps."""
    results = run.results
    steps = [(step, results.get(step.name) or Result(step, "not started")) for lane in run.lanes for step in lane]
    for step, result in steps:
        if result.outcome == "FAILED" or step.shown and result.outcome == "ok":
            lines = run.log(step).read_text(encoding="utf-8", errors="replace").splitlines()
            print(f"\n=== {step.name}: {result.outcome}" + (", the end of its log:" if lines[TAIL_LINES:] else ":"))
            print("\n".join(lines[-TAIL_LINES:]))
    also()
    print(f"\n=== steps; logs are in {run.logs}\n  wall s   CPU s")
    for _, result in steps:
        print(f"{result.wall_s:8.0f}{result.cpu_s:8.0f}  {result.step.name:28} {result.outcome}")
    wall_s, cpu_s = time.monotonic() - run.began, busy_s() - run.busy_s
    print(f"=== all: {wall_s:.0f} s, in which the machine's {os.cpu_count()} cores worked {cpu_s:.0f} s", end="")
    print(f"; stopped by {run.stopped}" if run.stopped else "")
    counts = {kind: sum(result.outcome == kind for _, result in steps) for kind in ("ok", "FAILED", "skipped")}
    failed = max(counts["FAILED"], bool(run.stopped))
    print(f"{counts['ok']} passed, {failed} failed" + (f", {counts['skipped']} skipped" if counts["skipped"] else ""))
    sys.stdout.flush()
