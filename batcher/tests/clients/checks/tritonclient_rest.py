"""tritonclient.http: every combination of JSON and binary tensors, BYTES, FP16, ids, parameters, compression, errors.

Usage: tritonclient_rest.py MODEL_HOST:PORT BATCHER_HOST:PORT
"""

import itertools

import numpy as np
import tritonclient.http as v2

from checking import Checker, main
from tensors import INPUTS, bits, readable_rows, rows



def call(address: str, method: str, *arguments, **options):
    """One call of a client of its own: a client's greenlets belong to the thread that made it."""
    with v2.InferenceServerClient(address, network_timeout=30) as client:
        return getattr(client, method)(*arguments, **options)


def comparable(result: v2.InferResult) -> dict:
    response = result.get_response()
    outputs = {}
    for output in response["outputs"]:
        described = {key: value for key, value in output.items() if key != "data"}
        outputs[output["name"]] = (described, bits(result.as_numpy(output["name"])))
    return {"outputs": outputs, "rest": {key: value for key, value in response.items() if key != "outputs"}}


def ask(address: str, model: str, tensors: dict[str, tuple[np.ndarray, str, bool]], outputs: dict[str, bool] | None, **options):
    inputs = []
    for name, (array, datatype, binary) in tensors.items():
        tensor = v2.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    requested = None
    if outputs is not None:
        requested = [v2.InferRequestedOutput(name, binary_data=binary) for name, binary in outputs.items()]
    return comparable(call(address, "infer", model, inputs, outputs=requested, **options))


def mirror(address: str, first: int, count: int = 1, binary_in=(True,) * 4, binary_out=(True,) * 4, outputs=INPUTS, **options):
    source = rows if binary_in[2] and (binary_out is None or binary_out[2]) else readable_rows
    tensors = source(first, count)
    asked = {name: (tensors[name], INPUTS[name], binary) for name, binary in zip(INPUTS, binary_in, strict=True)}
    requested = None
    if binary_out is not None:
        requested = {f"{name}_out": binary for name, binary in zip(INPUTS, binary_out, strict=True) if name in outputs}
    return ask(address, "mirror", asked, requested, **options)


def check(model: str, batcher: str) -> int:
    checker = Checker("tritonclient")

    def same(claim: str, asked: list, question) -> None:
        checker.same(claim, asked, lambda one: question(model, *one), lambda one: question(batcher, *one))

    combinations = list(itertools.product((False, True), repeat=4))
    both = [(index, *pair) for index, pair in enumerate(itertools.product(combinations, combinations))]
    same(
        "binary or JSON, each input and each output on its own",
        both,
        lambda address, first, binary_in, binary_out: mirror(
            address, first, 1 + first % 3, binary_in, binary_out, request_id=f"request {first}"
        ),
    )
    same(
        "no outputs named, no id",
        [(index,) for index in range(32)],
        lambda address, first: mirror(address, first, 1, binary_out=None),
    )
    same(
        "each client its own choice of outputs",
        [(index, [name for bit, name in enumerate(INPUTS) if index + 1 & 1 << bit]) for index in range(15)],
        lambda address, first, names: mirror(address, first, 2, outputs=names),
    )
    same(
        "priority and timeout",
        [(index, index % 3, 5_000_000 + index) for index in range(32)],
        lambda address, first, priority, timeout: mirror(address, first, priority=priority, timeout=timeout),
    )
    same(
        "parameters of a client's own",
        [(index, f"value {index % 2}") for index in range(16)],
        lambda address, first, value: mirror(address, first, parameters={"own": value}),
    )
    algorithms = (None, "gzip", "deflate")
    same(
        "bodies compressed both ways",
        [(index, *pair) for index, pair in enumerate(itertools.product(algorithms, algorithms, (True, False)))],
        lambda address, first, request, response, binary: mirror(
            address,
            first,
            binary_in=(binary,) * 4,
            binary_out=(binary,) * 4,
            request_compression_algorithm=request,
            response_compression_algorithm=response,
        ),
    )
    same(
        "FP16",
        [(index,) for index in range(32)],
        lambda address, first: ask(
            address, "half", {"half": (np.arange(first, first + 6, dtype=np.float16).reshape(2, 3), "FP16", True)}, None
        ),
    )

    wrong = {
        "an unknown model": lambda address: ask(address, "nobody", {"x": (np.zeros((1, 1), np.float32), "FP32", True)}, None),
        "another dtype": lambda address: ask(
            address, "half", {"half": (np.zeros((1, 3), np.float32), "FP32", True)}, None
        ),
        "another shape": lambda address: ask(
            address, "half", {"half": (np.zeros((1, 4), np.float16), "FP16", True)}, None
        ),
        "a missing input": lambda address: ask(
            address, "mirror", {"count": (np.zeros((1, 1), np.int64), "INT64", True)}, None
        ),
        "an unknown output": lambda address: ask(
            address, "half", {"half": (np.zeros((1, 3), np.float16), "FP16", True)}, {"nothing": True}
        ),
        "more rows than a batch may have": lambda address: mirror(address, 1, 65),
    }
    same("errors", [(name,) for name in wrong], lambda address, name: wrong[name](address))
    same(
        "metadata and health",
        [("get_server_metadata",), ("is_server_live",), ("is_server_ready",)],
        call,
    )
    same(
        "metadata of models",
        [("get_model_metadata", "mirror"), ("is_model_ready", "mirror"), ("get_model_metadata", "nobody")],
        call,
    )
    return checker.exit_code()


if __name__ == "__main__":
    main(check)
