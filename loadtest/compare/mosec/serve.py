"""The simulated model in MOSEC: one worker, batches of at most COMPARE_MAX_BATCH_ROWS, POST /inference."""

import os
import sys
import time

from mosec import Server, Worker

ALPHA_S = float(os.environ["COMPARE_ALPHA_MS"]) / 1e3
BETA_S = float(os.environ["COMPARE_BETA_MS"]) / 1e3
# The shortest wait that MOSEC accepts; 0 would mean 10 ms.
MAX_WAIT_MS = 1


class Reference(Worker):
    def forward(self, rows: list) -> list:
        time.sleep(ALPHA_S + BETA_S * len(rows))
        return [{"id": row["id"], "y": [3 * x + row["id"] % 1024 for x in row["x"]]} for row in rows]


if __name__ == "__main__":
    # A request that is not answered within this time gets 408; 3000 is MOSEC's default.
    timeout_ms = os.environ.get("COMPARE_OBJECTIVE_MS", "3000")
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", os.environ["COMPARE_PORT"], "--timeout", timeout_ms]
    server = Server()
    server.append_worker(
        Reference, num=1, max_batch_size=int(os.environ["COMPARE_MAX_BATCH_ROWS"]), max_wait_time=MAX_WAIT_MS
    )
    server.run()
