"""The simulated model in LitServe: one worker, batches of at most COMPARE_MAX_BATCH_ROWS, POST /predict."""

import os
import time

import litserve

ALPHA_S = float(os.environ["COMPARE_ALPHA_MS"]) / 1e3
BETA_S = float(os.environ["COMPARE_BETA_MS"]) / 1e3
# With 0, LitServe's default, a batch hardly ever has more than one row.
BATCH_TIMEOUT_S = 0.001


class Reference(litserve.LitAPI):
    def setup(self, device: str) -> None:
        pass

    def decode_request(self, request: dict) -> dict:
        return request

    def batch(self, inputs: list) -> list:
        return inputs

    def predict(self, rows: list) -> list:
        # LitServe passes a batch of one row without a list.
        rows = rows if isinstance(rows, list) else [rows]
        time.sleep(ALPHA_S + BETA_S * len(rows))
        return [{"id": row["id"], "y": [3 * x + row["id"] % 1024 for x in row["x"]]} for row in rows]

    def unbatch(self, output: list) -> list:
        return output

    def encode_response(self, output: dict) -> dict:
        return output


if __name__ == "__main__":
    api = Reference(
        max_batch_size=int(os.environ["COMPARE_MAX_BATCH_ROWS"]), batch_timeout=BATCH_TIMEOUT_S
    )
    # A request that is not answered within this time gets 504; 30 s is LitServe's default.
    timeout_s = float(os.environ.get("COMPARE_OBJECTIVE_MS", "30000")) / 1e3
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=timeout_s)
    server.run(
        host="127.0.0.1", port=int(os.environ["COMPARE_PORT"]), generate_client_file=False, log_level="warning"
    )
