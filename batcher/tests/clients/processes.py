"""Servers that run for the time of a suite, and questions to them."""

import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

STOP_S = 15
# A check that hangs is ended.
CHECK_S = 240


def free_ports(count: int) -> list[int]:
    """So many free ports. All are held until all are known, so that they differ."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in held]
    for listener in held:
        listener.close()
    return ports


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def rows_per_batch(before: str, after: str) -> float:
    """Mean rows of the batches between two looks at the batcher's metrics."""

    def total(text: str, name: str) -> float:
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))

    name = "sluice_batcher_batch_rows"
    rows, batches = (total(after, f"{name}_{part}") - total(before, f"{name}_{part}") for part in ("sum", "count"))
    return rows / batches if batches else 0.0


class Server:
    def __init__(self, name: str, process: subprocess.Popen, log: Path) -> None:
        self.name, self.process, self.log = name, process, log

    def until_ready(self, url: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        last: Exception | None = None
        while time.monotonic() < deadline:
            try:
                fetch(url)
                return
            except (OSError, urllib.error.URLError) as error:
                last = error
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self.process.returncode}: {self.last_words()}")
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} was not ready within {seconds:g} s: {last}: {self.last_words()}")

    def last_words(self) -> str:
        return " / ".join(self.log.read_text(errors="replace").strip().splitlines()[-5:])


class Processes:
    """Ends in reverse order what was started in it, with whatever that has started."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.servers: list[Server] = []

    def __enter__(self) -> "Processes":
        return self

    def start(self, name: str, command: list) -> Server:
        log = self.work / f"{name}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [os.fspath(part) if isinstance(part, Path) else str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.work,
                # A group of its own, so that all of it can be ended.
                start_new_session=True,
                env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
            )
        server = Server(name, process, log)
        self.servers.append(server)
        return server

    def run(self, command: list) -> int:
        """Runs a check to its end; its output is the reader's."""
        command = [os.fspath(part) if isinstance(part, Path) else str(part) for part in command]
        try:
            environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
            return subprocess.run(command, stdin=subprocess.DEVNULL, timeout=CHECK_S, env=environment).returncode
        except subprocess.TimeoutExpired:
            print(f"  FAILED not finished within {CHECK_S} s")
            return 1

    def __exit__(self, *_exception) -> None:
        for server in reversed(self.servers):
            server.process.terminate()
            try:
                server.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                pass
            # What is left of its group, and the process itself if it has not ended.
            try:
                os.killpg(server.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            server.process.wait()
