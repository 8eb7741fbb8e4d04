"""curl: HTTP/1.1 and HTTP/2 without upgrade, chunked bodies, `Expect: 100-continue`, HEAD, unknown paths.

Usage: curl.py MODEL_HOST:PORT BATCHER_HOST:PORT
"""

import json
import subprocess
import sys

from checking import Checker, main


def body(first: int) -> str:
    inputs = [
        {"name": "number", "shape": [1, 4], "datatype": "FP32", "data": [first, first + 0.125, -0.0, 1e-7]},
        {"name": "count", "shape": [1, 1], "datatype": "INT64", "data": [2**53 + 1 + first]},
        {"name": "text", "shape": [1, 2], "datatype": "BYTES", "data": [f"row {first} ä", "\\\"\n"]},
        {"name": "flag", "shape": [1, 1], "datatype": "BOOL", "data": [first % 2 == 0]},
    ]
    return json.dumps({"id": f"request {first}", "inputs": inputs})


def curl(address: str, path: str, *options: str, data: str | None = None) -> tuple:
    command = ["curl", "--silent", "--show-error", "--max-time", "30", "--write-out", "\n%{http_code} %{content_type}"]
    if data is not None:
        command += ["--data-binary", "@-", "--header", "Content-Type: application/json"]
    done = subprocess.run([*command, *options, f"http://{address}{path}"], input=(data or "").encode(), capture_output=True)
    answer, _, status = done.stdout.decode().rpartition("\n")
    try:
        answer = json.loads(answer)
    except ValueError:
        pass
    return done.returncode, status, answer


def check(model: str, batcher: str) -> int:
    try:
        said = subprocess.run(["curl", "--version"], capture_output=True, check=True).stdout.decode()
    except OSError as error:
        sys.exit(f"curl: {error}")
    print("  client:", " ".join(said.split()[:2]), flush=True)
    checker = Checker()

    def same(claim: str, asked, question, other=None) -> None:
        checker.same(claim, asked, lambda one: question(model, one), lambda one: (other or question)(batcher, one))

    infer = "/v2/models/mirror/infer"
    same("HTTP/1.1", range(32), lambda address, one: curl(address, infer, data=body(one)))
    same(
        "HTTP/2 without upgrade, to a server that has only HTTP/1.1",
        range(32),
        lambda address, one: curl(address, infer, data=body(one)),
        lambda address, one: curl(address, infer, "--http2-prior-knowledge", data=body(one)),
    )
    same(
        "chunked bodies",
        range(16),
        lambda address, one: curl(address, infer, "--header", "Transfer-Encoding: chunked", data=body(one)),
    )
    same(
        "Expect: 100-continue",
        range(16),
        lambda address, one: curl(address, infer, "--header", "Expect: 100-continue", data=body(one)),
    )
    broken = ["", "{", "[]", '{"inputs": []}', '{"inputs": 7}', body(1)[:-1], body(1).replace("FP32", "FP64")]
    same("bodies that are no requests", broken, lambda address, one: curl(address, infer, data=one))
    paths = ["/v2", "/v2/models/mirror", "/v2/models/nobody", "/nothing", "/v2/models/mirror/versions/1"]
    same("other paths", paths, lambda address, one: curl(address, one))
    same("HEAD", ["/v2"], lambda address, one: curl(address, one, "--head")[:2])
    return checker.exit_code()


if __name__ == "__main__":
    main(check)
