"""Prints the load's reports side by side: the model alone, and behind the batcher.

Usage: report.py FOLDER CLIENTS; in the folder are alone-N.json and batcher-N.json of `sluice-loadtest run`, and the
batcher's metrics before and after as before.prom and after.prom.
"""

import json
import re
import sys
from pathlib import Path
from statistics import median

from prometheus_client.parser import text_string_to_metric_families

BATCH_ROWS = "sluice_batcher_batch_rows"
COLUMNS = (("req/s", "throughput_rps"), ("p50 ms", "p50_ms"), ("p99 ms", "p99_ms"))
UNANSWERED = ("rejected", "failed", "lost")


def totals(metrics: str) -> dict[str, float]:
    """Returns the sum of all samples of each name, over all labels."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def mean_batch_rows(before: str, after: str) -> float:
    """Returns the rows per batch between two readings of the batcher's metrics; 0 where there was no batch."""
    first, last = totals(before), totals(after)
    rows, batches = (
        last.get(f"{BATCH_ROWS}{end}", 0) - first.get(f"{BATCH_ROWS}{end}", 0) for end in ("_sum", "_count")
    )
    return rows / batches if batches else 0.0


def rounds(folder: Path, arm: str) -> list[dict]:
    paths = sorted(folder.glob(f"{arm}-*.json"), key=lambda path: int(re.findall(r"\d+", path.stem)[0]))
    return [json.loads(path.read_text()) for path in paths]


def row(name: str, *cells: str) -> str:
    return f"{name:<16}" + "".join(f"{cell:>14}" for cell in cells)


def main(folder: Path, clients: int) -> int:
    arms = {"the model alone": rounds(folder, "alone"), "behind Sluice": rounds(folder, "batcher")}
    print(row("", *(title for title, _ in COLUMNS), *UNANSWERED))
    middle = {}
    for name, reports in arms.items():
        for report in reports:
            numbers = [f"{report[field]:.1f}" if report.get(field) is not None else "-" for _, field in COLUMNS]
            print(row(name, *numbers, *(str(report[field]) for field in UNANSWERED)))
        middle[name] = median(report["throughput_rps"] for report in reports)
    mean = mean_batch_rows((folder / "before.prom").read_text(), (folder / "after.prom").read_text())
    alone, batched = middle.values()
    print(
        f"median throughput: {alone:.0f} → {batched:.0f} req/s, {batched / alone:.2f} times; {mean:.1f} rows per batch"
    )
    curve = totals((folder / "after.prom").read_text())
    alpha_ms, beta_ms = (1e3 * curve[f"sluice_batcher_curve_{name}_seconds"] for name in ("alpha", "beta"))
    print(f"learned service time of a batch: {alpha_ms:.1f} ms + {beta_ms:.2f} ms per row")
    wrong = [name for name, reports in arms.items() for report in reports if any(report[field] for field in UNANSWERED)]
    for name in dict.fromkeys(wrong):
        print(f"FAILED: not every request was answered: {name}")
    merged = mean > 1 or clients == 1
    if not merged:
        print("FAILED: the batcher merged nothing")
    return 0 if merged and not wrong else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
