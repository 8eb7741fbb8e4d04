"""Finds free ports, waits for a server to be ready, prints a page.

Usage: probe.py ports COUNT | probe.py ready URL PID SECONDS | probe.py fetch URL
"""

import os
import socket
import sys
import time
import urllib.error
import urllib.request


def ports(count: int) -> None:
    """Prints `count` free ports. All are held until all are known, so that they differ."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    print(*(listener.getsockname()[1] for listener in held))


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def ready(url: str, pid: int, seconds: float) -> None:
    """Returns once `url` answers 200; ends the program when process `pid` is gone or time is up."""
    deadline = time.monotonic() + seconds
    last: Exception | None = None
    while time.monotonic() < deadline:
        try:
            fetch(url)
            return
        except (OSError, urllib.error.URLError) as error:
            last = error
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            sys.exit(f"{url}: process {pid} ended before it was ready")
        time.sleep(0.1)
    sys.exit(f"{url}: not ready within {seconds:g} s: {last}")


def main(command: str, *rest: str) -> None:
    if command == "ports":
        ports(int(rest[0]))
    elif command == "ready":
        ready(rest[0], int(rest[1]), float(rest[2]))
    elif command == "fetch":
        print(fetch(rest[0]), end="")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
