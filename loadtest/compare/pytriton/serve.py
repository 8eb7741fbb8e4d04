"""The simulated model in PyTriton (Triton's own server, Python backend): one instance, V2 REST."""

import os
import time

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.model_config.common import QueuePolicy, TimeoutAction
from pytriton.triton import Triton, TritonConfig

ALPHA_S = float(os.environ["COMPARE_ALPHA_MS"]) / 1e3
BETA_S = float(os.environ["COMPARE_BETA_MS"]) / 1e3


@batch
def infer(id: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    time.sleep(ALPHA_S + BETA_S * len(id))
    return {"id": id, "y": (3 * x + id % 1024).astype(np.float32)}


def batcher() -> DynamicBatcher:
    objective_ms = os.environ.get("COMPARE_OBJECTIVE_MS")
    if objective_ms is None:
        return DynamicBatcher(max_queue_delay_microseconds=0)
    # A request that has waited too long to be in time is rejected.
    batch_ms = 1e3 * (ALPHA_S + BETA_S * int(os.environ["COMPARE_MAX_BATCH_ROWS"]))
    policy = QueuePolicy(
        timeout_action=TimeoutAction.REJECT,
        default_timeout_microseconds=int(1e3 * (float(objective_ms) - batch_ms)),
    )
    return DynamicBatcher(max_queue_delay_microseconds=0, default_queue_policy=policy)


if __name__ == "__main__":
    port = int(os.environ["COMPARE_PORT"])
    # The two ports after it are for gRPC and metrics, which are not used here.
    config = TritonConfig(
        http_address="127.0.0.1", http_port=port, allow_grpc=False, allow_metrics=False, log_verbose=0
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="reference",
            infer_func=infer,
            inputs=[Tensor(name="id", dtype=np.int64, shape=(1,)), Tensor(name="x", dtype=np.float32, shape=(16,))],
            outputs=[Tensor(name="id", dtype=np.int64, shape=(1,)), Tensor(name="y", dtype=np.float32, shape=(16,))],
            config=ModelConfig(max_batch_size=int(os.environ["COMPARE_MAX_BATCH_ROWS"]), batcher=batcher()),
        )
        triton.serve()
