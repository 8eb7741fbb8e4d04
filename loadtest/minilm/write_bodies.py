"""Writes the request of the load, and the batcher's warm-up requests of 1 to N rows.

Usage: write_bodies.py FOLDER ROWS SENTENCE
"""

import json
import sys
from pathlib import Path

from tokens import encode, load_tokenizer


def body(ids: list[int], mask: list[int], rows: int) -> str:
    """Returns a V2 JSON request with `rows` copies of one row."""

    def tensor(name: str, row: list[int]) -> dict:
        return {"name": name, "datatype": "INT64", "shape": [rows, len(row)], "data": row * rows}

    return json.dumps({"inputs": [tensor("input_ids", ids), tensor("attention_mask", mask)]})


def main(folder: Path, rows: int, sentence: str) -> None:
    ids, mask = encode(load_tokenizer(), sentence)
    warmup = folder / "warmup"
    warmup.mkdir(parents=True, exist_ok=True)
    (folder / "body.json").write_text(body(ids, mask, 1))
    for size in range(1, rows + 1):
        (warmup / f"minilm.{size}.json").write_text(body(ids, mask, size))
    print(f"load: {sentence!r}, {len(ids)} tokens per row")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
