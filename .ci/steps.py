"""Lists the steps of .ci/run, in lanes, and runs them.

First the programs are built, with both cores. Then there are lanes that mostly wait, clusters and demos, and beside
them one that computes and gives way. While clusters run it only builds: what has deadlines of its own comes after them,
beside the demos, which leave it a core. Cargo is always asked for the whole workspace: with `--package` it would select
other features of shared dependencies, and build those again.

Usage: steps.py [STEP...]   (only these)
"""

import fcntl
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from lanes import Run, Step, report
from tests import summary

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "target" / "ci"
# Time after which everything is stopped, so that there is still a report.
LIMIT_S = 5100
# With less free space on the disk, the build folder of earlier runs is deleted.
LEAST_FREE_BYTES = 15 << 30

# A scenario that fails once on a busy machine is tried again, and shown ("FLAKE?").
E2E = '"$BIN/sluice-testbed" --bin-dir "$BIN" all --flake-attempts 2'
DEMO = '"$BIN/sluice-loadtest" demo --bin-dir "$BIN"'
CLUSTERS = ("e2e-newest-light", "e2e-newest-heavy")


def lanes() -> list[list[Step]]:
    is_root = os.geteuid() == 0
    no_cluster = "" if is_root else "a cluster needs root"
    # As root no test may be skipped.
    strict = "--strict" if is_root else ""
    first = [
        Step("tools", ".ci/tools"),
        Step("fmt", "cargo fmt --all --check"),
        # Neither the driver nor what is installed with it may know that its library can be a simulated one. A missing
        # folder fails too.
        Step("driver-knows-no-simulator", nothing_in("nvml.sim|simulat", "driver/src")),
        Step(
            "manifests-know-no-simulator",
            nothing_in("nvml.sim|simulat", "config/{default,driver,rbac,crd,preloader,autoscaler,batcher}"),
        ),
        Step("imports", "python3 .ci/check_imports.py"),
        Step("dependencies", "python3 .ci/check_dependencies.py Cargo.toml batcher/fuzz/Cargo.toml"),
        # Uses the README's commands, which build everything in one call. Later steps start the programs themselves:
        # cargo would wait for the builds of other lanes.
        Step("programs", 'cargo demo --help && cargo e2e -- scenarios --list | tee "$LOGS/scenarios.txt"'),
    ]
    clusters = [
        [
            # Every scenario on the newest Kubernetes, on two clusters. Programs of Kubernetes that are not in the
            # user's cache are built first.
            Step(
                "e2e-newest-light",
                f"{E2E} --name ci-light --load light --prometheus --model-server",
                after=("programs",),
                skip=no_cluster,
            ),
        ],
        [
            Step(
                "e2e-newest-heavy",
                f"{E2E} --name ci-heavy --load heavy --prometheus --network-policies",
                after=("programs",),
                skip=no_cluster,
            ),
            # Claim, gate and sample on the oldest supported Kubernetes.
            Step("e2e-oldest", f"{E2E} --name ci-oldest --kubernetes 1.34 --core", skip=no_cluster),
            # The README's first command: its exit code covers lost requests, scaling, and leftovers. Not --strict:
            # whether the objective was met depends on how busy the machine is.
            Step(
                "demo",
                f'{DEMO} --json "$LOGS/demo.json" --report "$LOGS/demo.html"\n'
                'python3 .ci/check_demo.py "$LOGS/demo.json"',
                after=CLUSTERS,
            ),
        ],
        [
            # The same with crashes of every program that may crash.
            Step(
                "demo-with-crashes",
                f"{DEMO} --alone --kill autoscaler@40 --kill driver@70 --kill model@100"
                ' --json "$LOGS/crashes.json" --report "$LOGS/crashes.html"',
                after=("programs", *CLUSTERS),
            )
        ],
    ]
    builds = [
        Step(
            "clippy",
            "cargo clippy --locked --workspace --all-targets --all-features -- -D warnings",
            after=("programs",),
        ),
        Step("docs", "cargo doc --locked --workspace --no-deps --all-features"),
        Step("test-build", "cargo test --locked --tests --no-run"),
        # An unmodified independent client must see through the simulated library what another process made.
        Step("nvml-client", '.ci/nvml_client "$BUILT/nvml-client"'),
        # Containers that NVIDIA's container runtime starts with the driver's CDI files, for images that request all GPUs.
        Step(
            "container-runtime",
            "cargo test --locked --test container_runtime -- --ignored",
            skip="" if shutil.which("go") else "NVIDIA's runtime is built with Go",
        ),
        Step("fuzz-build", "batcher/fuzz/run 0"),
        # Counts of instructions, which are the same on a busy machine.
        Step("instructions", "batcher/protocol/benches/instructions"),
        # The inventory must find the same fits as the scheduler's own code.
        Step(
            "oracle",
            'driver/inventory/oracle/run --states 500 --differences "$LOGS/differences"',
            skip="" if shutil.which("go") else "the scheduler's code is built with Go",
        ),
    ]
    # Python packages that tests need; mostly downloads.
    environments = [
        Step(
            "environments",
            "batcher/tests/clients/run --setup-only\nloadtest/minilm/run --setup-only",
            after=("programs",),
        )
    ]
    tests = [
        # libtest prints the time of each test where its unstable options are allowed. They are allowed for the tests
        # alone, because they would make another build.
        Step(
            "test",
            "cargo test --locked --no-fail-fast --tests"
            " --config \"target.'cfg(all())'.runner=['env','RUSTC_BOOTSTRAP=1']\""
            " -- -Z unstable-options --report-time",
            after=CLUSTERS,
        ),
        Step("doctest", "cargo test --locked --no-fail-fast --doc"),
        # Unmodified clients and servers with the batcher between them. The batcher is that of the tests, which stops
        # where a number overflows.
        Step(
            "clients-and-servers",
            f'batcher/tests/clients/run {strict} --bin-dir "$BUILT/debug"',
            after=("environments",),
        ),
        # Every peer of the comparison that needs nothing but Debian must start, answer correctly and be measured; no
        # speed is judged. The other peers take minutes to install.
        Step(
            "compare",
            "peers=direct,nginx,haproxy,sluice,sluice-off\n"
            '"$BIN/sluice-loadtest" compare --bin-dir "$BIN" --rounds 1 --duration-ms 500 --peers $peers'
            ' --json "$LOGS/compare.json"\n'
            'python3 .ci/check_compare.py "$LOGS/compare.json" $peers',
        ),
        # A real model behind the batcher.
        Step("real-model", "loadtest/minilm/run --rounds 1 --seconds 2"),
        Step("fuzz", "batcher/fuzz/run 10"),
    ]
    # Checks in all logs what was skipped, and whether that is allowed.
    last = [
        Step(
            "nothing-is-skipped",
            f'python3 .ci/tests.py "$LOGS" {strict}',
            after=("fuzz", "e2e-oldest", "demo", "demo-with-crashes"),
            shown=True,
        )
    ]
    polite = [[replace(step, polite=True) for step in lane] for lane in (builds + tests, environments)]
    return [first, *clusters, *polite, last]


def nothing_in(pattern: str, places: str) -> str:
    return f"found=0\ngrep -riE '{pattern}' {places} || found=$?\n[ $found = 1 ]"


def target() -> tuple[Path, object]:
    """Returns the build folder, and the lock that keeps other runs out of it."""
    own = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
    if os.environ.get("CI") != "true" or "CARGO_TARGET_DIR" in os.environ:
        return own, None
    # CI starts with a new clone each time; builds of third-party crates are kept in the user's cache.
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sluice" / "ci"
    cache.mkdir(parents=True, exist_ok=True)
    lock = (cache / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("another run builds in the cache: this one builds everything", flush=True)
        return own, None
    kept = cache / "target"
    if kept.exists() and shutil.disk_usage(kept).free < LEAST_FREE_BYTES:
        shutil.rmtree(kept)
    # Cargo recognizes a changed file by its time. Files of this clone that are older than an earlier run's build of other
    # sources would count as built.
    for folder, names, files in os.walk(ROOT):
        names[:] = set(names) - {".git", "target"}
        for file in files:
            os.utime(os.path.join(folder, file), follow_symlinks=False)
    return kept, lock


def main() -> int:
    os.chdir(ROOT)
    chosen, all_lanes = set(sys.argv[1:]), lanes()
    if not chosen:
        shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    built, _lock = target()
    os.environ |= {
        "CARGO_TARGET_DIR": os.fspath(built),
        "CARGO_TERM_COLOR": "never",
        "RUSTDOCFLAGS": "-D warnings",
        "BUILT": os.fspath(built),
        "BIN": os.fspath(built / "release"),
        "SLUICE_BIN_DIR": os.fspath(built / "release"),
        "LOGS": os.fspath(LOGS),
    }
    if os.environ.get("CI") == "true":
        # Each file is compiled only once in such a run.
        os.environ["CARGO_INCREMENTAL"] = "0"
    known = {step.name for lane in all_lanes for step in lane}
    if chosen - known:
        print(f"no step {', '.join(sorted(chosen - known))}; there are {', '.join(sorted(known))}")
        return 64
    if chosen:
        kept = [[step for step in lane if step.name in chosen] for lane in all_lanes]
        all_lanes = [
            [replace(step, after=tuple(name for name in step.after if name in chosen)) for step in lane]
            for lane in kept
            if lane
        ]
    run = Run(all_lanes, LOGS, LIMIT_S)
    ok = run.run()
    report(run, lambda: summary(LOGS))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
