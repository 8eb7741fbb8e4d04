"""Triton's own server (by PyTriton) with models whose answers depend on each row alone.

Usage: triton.py HTTP_PORT GRPC_PORT METRICS_PORT
"""

import sys
import time

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

# Long enough that requests that come meanwhile wait, so that the batcher has something to merge.
CALL_S = 0.02
CONFIG = ModelConfig(max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=0))


@batch
def mirror(number: np.ndarray, count: np.ndarray, text: np.ndarray, flag: np.ndarray) -> dict[str, np.ndarray]:
    time.sleep(CALL_S)
    return {
        "number_out": number * np.float32(2),
        "count_out": count,
        "text_out": np.char.add(text.astype(np.bytes_), b"!").astype(object),
        "flag_out": ~flag,
    }


@batch
def half(half: np.ndarray) -> dict[str, np.ndarray]:
    time.sleep(CALL_S)
    return {"half_out": half * np.float16(2)}


def tensors(suffix: str) -> list[Tensor]:
    return [
        Tensor(name=f"number{suffix}", dtype=np.float32, shape=(4,)),
        Tensor(name=f"count{suffix}", dtype=np.int64, shape=(1,)),
        Tensor(name=f"text{suffix}", dtype=bytes, shape=(2,)),
        Tensor(name=f"flag{suffix}", dtype=np.bool_, shape=(1,)),
    ]


def main(http_port: str, grpc_port: str, metrics_port: str) -> None:
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=int(http_port),
        grpc_address="127.0.0.1",
        grpc_port=int(grpc_port),
        metrics_address="127.0.0.1",
        metrics_port=int(metrics_port),
    )
    with Triton(config=config) as triton:
        triton.bind(model_name="mirror", infer_func=mirror, inputs=tensors(""), outputs=tensors("_out"), config=CONFIG)
        triton.bind(
            model_name="half",
            infer_func=half,
            inputs=[Tensor(name="half", dtype=np.float16, shape=(3,))],
            outputs=[Tensor(name="half_out", dtype=np.float16, shape=(3,))],
            config=CONFIG,
        )
        triton.serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
