"""The simulated model in BentoML: one worker, batches of at most COMPARE_MAX_BATCH_ROWS, POST /predict.

Started by `bentoml serve serve:Reference`.
"""

import os
import time

import bentoml

ALPHA_S = float(os.environ["COMPARE_ALPHA_MS"]) / 1e3
BETA_S = float(os.environ["COMPARE_BETA_MS"]) / 1e3


@bentoml.service(workers=1)
class Reference:
    # BentoML's own objective: it rejects requests that it predicts to be later; 60 s is its default.
    @bentoml.api(
        batchable=True,
        max_batch_size=int(os.environ["COMPARE_MAX_BATCH_ROWS"]),
        max_latency_ms=int(os.environ.get("COMPARE_OBJECTIVE_MS", "60000")),
    )
    def predict(self, rows: list[dict]) -> list[dict]:
        time.sleep(ALPHA_S + BETA_S * len(rows))
        return [{"id": row["id"], "y": [3 * x + row["id"] % 1024 for x in row["x"]]} for row in rows]
