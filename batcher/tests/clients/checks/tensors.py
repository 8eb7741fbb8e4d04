"""Rows for the model `mirror`, all different, so that rows that are mixed up show."""

import numpy as np

INPUTS = {"number": "FP32", "count": "INT64", "text": "BYTES", "flag": "BOOL"}
# Beyond 2^53, where a double cannot tell neighbours apart.
LARGE = 2**53


def rows(first: int, count: int) -> dict[str, np.ndarray]:
    ids = np.arange(first, first + count)
    texts = [[f"row {i} ä".encode(), b"" if i % 2 else b"\x00\xff" * (i % 5)] for i in ids]
    return {
        "number": (ids[:, None] * 8 + np.arange(4)).astype(np.float32) / np.float32(3),
        "count": (LARGE + ids[:, None] * 2 + 1).astype(np.int64),
        "text": np.array(texts, dtype=object).reshape(count, 2),
        "flag": (ids[:, None] % 3 == 0),
    }


def readable_rows(first: int, count: int) -> dict[str, np.ndarray]:
    """The same with text that JSON can carry."""
    tensors = rows(first, count)
    tensors["text"] = np.array([[f"row {i} ä".encode(), b"\\\"" * (i % 3)] for i in range(first, first + count)], dtype=object)
    return tensors


def bits(array: np.ndarray | None) -> tuple:
    """An array as something to compare bit by bit."""
    assert array is not None, "an output without elements: two of them would be the same whatever they hold"
    return (str(array.dtype), array.shape, tuple(array.ravel().tolist()) if array.dtype == object else array.tobytes())
