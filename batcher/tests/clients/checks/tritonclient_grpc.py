"""tritonclient.grpc: raw tensors, BYTES, FP16, ids, parameters, what goes alone, compression, errors, together with REST clients.

Usage: tritonclient_grpc.py MODEL_HOST:PORT MODEL_GRPC_HOST:PORT BATCHER_HOST:PORT
"""

import numpy as np
import tritonclient.grpc as v2

import tritonclient_rest as rest
from checking import Checker, answer, main
from tensors import INPUTS, bits, rows


def comparable(result: v2.InferResult) -> dict:
    response = result.get_response()
    outputs = {
        output.name: (output.datatype, list(output.shape), str(output.parameters), bits(result.as_numpy(output.name)))
        for output in response.outputs
    }
    parameters = {name: str(value) for name, value in response.parameters.items()}
    rest = (response.model_name, response.model_version, response.id)
    return {"outputs": outputs, "parameters": parameters, "rest": rest}


def ask(client: v2.InferenceServerClient, model: str, tensors: dict[str, tuple[np.ndarray, str]], outputs=None, **options):
    inputs = []
    for name, (array, datatype) in tensors.items():
        tensor = v2.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    requested = None if outputs is None else [v2.InferRequestedOutput(name) for name in outputs]
    return comparable(client.infer(model, inputs, outputs=requested, **options))


def mirror(client: v2.InferenceServerClient, first: int, count: int = 1, outputs=None, **options):
    tensors = rows(first, count)
    return ask(client, "mirror", {name: (tensors[name], INPUTS[name]) for name in INPUTS}, outputs, **options)


def check(model: str, model_grpc: str, batcher: str) -> int:
    checker = Checker("tritonclient", "grpcio")
    with v2.InferenceServerClient(model_grpc) as direct, v2.InferenceServerClient(batcher) as through:

        def same(claim: str, asked: list, question) -> None:
            checker.same(claim, asked, lambda one: question(direct, *one), lambda one: question(through, *one))

        same(
            "raw tensors, one to three rows",
            [(index,) for index in range(64)],
            lambda client, first: mirror(client, first, 1 + first % 3, request_id=f"request {first}"),
        )
        same("no id", [(index,) for index in range(16)], lambda client, first: mirror(client, first))
        same(
            "each client its own choice of outputs",
            [(index, [f"{name}_out" for bit, name in enumerate(INPUTS) if index + 1 & 1 << bit]) for index in range(15)],
            lambda client, first, names: mirror(client, first, 2, names),
        )
        same(
            "priority and timeout",
            [(index, index % 3, 5_000_000 + index) for index in range(32)],
            lambda client, first, priority, timeout: mirror(client, first, priority=priority, timeout=timeout),
        )
        same(
            "a deadline of the call",
            [(index,) for index in range(16)],
            lambda client, first: mirror(client, first, client_timeout=10.0),
        )
        same(
            "parameters of a client's own",
            [(index, f"value {index % 2}") for index in range(16)],
            lambda client, first, value: mirror(client, first, parameters={"own": value}),
        )
        # What is never merged reaches the server as a call of its own, over gRPC.
        lone = {
            "a sequence": {"sequence_id": 7, "sequence_start": True, "sequence_end": True},
            "a named sequence": {"sequence_id": "seven", "sequence_start": True, "sequence_end": True},
            "temperature": {"parameters": {"temperature": 0.5}},
            "temperature as text": {"parameters": {"temperature": "0.5"}},
            "seed and top_k": {"parameters": {"seed": 1, "top_k": 3}},
            "stream": {"parameters": {"stream": True}},
            "a parameter of the server's own": {"parameters": {"triton_own": "1"}},
            "an output twice": {"outputs": ["count_out", "number_out", "count_out"]},
            "compressed": {"sequence_id": 7, "sequence_start": True, "compression_algorithm": "gzip"},
            "a deadline": {"parameters": {"temperature": 1}, "client_timeout": 10.0},
            "metadata": {"parameters": {"temperature": 1}, "headers": {"x-own": "1", "authorization": "Bearer own"}},
        }
        # The server reads them: no claim below holds because both sides fail alike.
        for name in ("a sequence", "temperature", "temperature as text", "seed and top_k", "metadata"):
            got = answer(lambda options: mirror(through, 5, 2, **options), lone[name])
            checker.expect(isinstance(got, dict), f"alone: {name} is answered" + ("" if isinstance(got, dict) else f": {got}"))
        same(
            "alone: each form that is never merged",
            [(name, 3 * index + 1) for name in lone for index in range(3)],
            lambda client, name, first: mirror(client, first, 2, **lone[name]),
        )
        odd = {
            "a scalar": {"number": (np.array(1, np.float32), "FP32")},
            "a scalar beside rows": {**{name: (rows(1, 1)[name], INPUTS[name]) for name in INPUTS}, "flag": (np.array(True), "BOOL")},
            "no rows": {"number": (np.zeros((0, 4), np.float32), "FP32")},
            "unequal rows": {name: (rows(1, 1 + bit)[name], INPUTS[name]) for bit, name in enumerate(INPUTS)},
            "no inputs": {},
        }
        same("alone: shapes without common rows", [(name,) for name in odd], lambda client, name: ask(client, "mirror", odd[name]))
        same(
            "messages compressed",
            [(index, algorithm) for index, algorithm in enumerate(("gzip", "deflate", None) * 4)],
            lambda client, first, algorithm: mirror(client, 64 * first, 8, compression_algorithm=algorithm),
        )
        same(
            "FP16",
            [(index,) for index in range(32)],
            lambda client, first: ask(
                client, "half", {"half": (np.arange(first, first + 6, dtype=np.float16).reshape(2, 3), "FP16")}
            ),
        )
        wrong = {
            "an unknown model": ("nobody", {"x": (np.zeros((1, 1), np.float32), "FP32")}),
            "another dtype": ("half", {"half": (np.zeros((1, 3), np.float32), "FP32")}),
            "another shape": ("half", {"half": (np.zeros((1, 4), np.float16), "FP16")}),
            "a missing input": ("mirror", {"count": (np.zeros((1, 1), np.int64), "INT64")}),
        }
        same("errors", [(name,) for name in wrong], lambda client, name: ask(client, *wrong[name]))
        same(
            "metadata, health, configuration",
            [
                ("get_server_metadata",),
                ("is_server_live",),
                ("is_server_ready",),
                ("get_model_metadata", "mirror"),
                ("is_model_ready", "mirror"),
                ("get_model_metadata", "nobody"),
            ],
            lambda client, method, *names: str(getattr(client, method)(*names)),
        )

        # gRPC, REST binary and REST JSON at once: they may share batches, and each keeps its own form.
        def mixed(grpc_client, rest_address):
            def question(first: int):
                if first % 3 == 0:
                    return mirror(grpc_client, first, 1 + first % 2, request_id=f"request {first}")
                binary = (first % 3 == 1,) * 4
                return rest.mirror(rest_address, first, 1 + first % 2, binary, binary, request_id=f"request {first}")

            return question

        checker.same("gRPC and REST clients at once", range(96), mixed(direct, model), mixed(through, batcher))
    return checker.exit_code()


if __name__ == "__main__":
    main(check)
