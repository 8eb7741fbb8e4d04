"""The KServe SDK's clients: V1 and V2 over REST, gRPC with typed contents.

Usage: kserve_client.py MODEL_HOST:PORT MODEL_GRPC_HOST:PORT BATCHER_HOST:PORT
"""

import asyncio
import threading

import kserve
import numpy as np

from checking import Checker, main
from tensors import bits

# Where all of a thread's calls run: the SDK's clients are asynchronous.
loops = threading.local()


def wait(coroutine):
    if not hasattr(loops, "loop"):
        loops.loop = asyncio.new_event_loop()
        loops.clients = {}
    return loops.loop.run_until_complete(coroutine)


def rest(protocol: str) -> kserve.InferenceRESTClient:
    wait(asyncio.sleep(0))
    config = kserve.RESTConfig(protocol=protocol, retries=0, timeout=30)
    return loops.clients.setdefault(protocol, kserve.InferenceRESTClient(config))


def grpc(address: str) -> kserve.InferenceGRPCClient:
    async def make():
        return kserve.InferenceGRPCClient(url=address, timeout=30)

    if address not in getattr(loops, "clients", {}):
        made = wait(make())
        loops.clients[address] = made
    return loops.clients[address]


def request(first: int, count: int, binary: bool) -> kserve.InferRequest:
    ids = np.arange(first, first + count)[:, None]
    inputs = []
    for name, array, datatype in (
        ("number", (ids * 8 + np.arange(4)).astype(np.float32) / np.float32(3), "FP32"),
        ("count", (2**53 + 2 * ids + 1).astype(np.int64), "INT64"),
    ):
        tensor = kserve.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    return kserve.InferRequest("mirror", inputs, request_id=f"request {first}")


def comparable(response: kserve.InferResponse) -> dict:
    outputs = {output.name: (output.datatype, list(output.shape), bits(output.as_numpy())) for output in response.outputs}
    return {"outputs": outputs, "id": response.id, "model": response.model_name, "parameters": str(response.parameters)}


def v1(address: str, first: int):
    data = {"instances": [[first + column / 8 for column in range(4)]]}
    return wait(rest("v1").infer(f"http://{address}", data, model_name="mirror"))


def v2(address: str, first: int, binary: bool):
    asked = request(first, 1 + first % 3, binary)
    return comparable(wait(rest("v2").infer(f"http://{address}", asked, model_name="mirror")))


def typed(address: str, first: int, binary: bool):
    return comparable(wait(grpc(address).infer(request(first, 1 + first % 3, binary))))


def check(model: str, model_grpc: str, batcher: str) -> int:
    checker = Checker("kserve", "grpcio")
    checker.same("V1 over REST", range(32), lambda one: v1(model, one), lambda one: v1(batcher, one))
    for binary in (False, True):
        form = "binary" if binary else "JSON"
        checker.same(
            f"V2 over REST, {form}",
            range(32),
            lambda one, binary=binary: v2(model, one, binary),
            lambda one, binary=binary: v2(batcher, one, binary),
        )
    for binary in (False, True):
        form = "raw" if binary else "typed"
        checker.same(
            f"gRPC, {form} contents",
            range(32),
            lambda one, binary=binary: typed(model_grpc, one, binary),
            lambda one, binary=binary: typed(batcher, one, binary),
        )
    return checker.exit_code()


if __name__ == "__main__":
    main(check)
