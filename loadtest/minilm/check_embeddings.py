"""Compares embeddings that come through the batcher, many at once, with those of the model alone, one at a time.

The clients are tritonclient's, unmodified: REST with JSON, REST with binary tensors, gRPC. The exit code is 1 where an
embedding differs or belongs to another sentence, where similar sentences are not similar, or where nothing was merged.

Usage: check_embeddings.py MODEL_HOST:PORT BATCHER_HOST:PORT BATCHER_ADMIN_HOST:PORT
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable

import numpy as np
import tritonclient.grpc.aio as v2_grpc
import tritonclient.http.aio as v2_http
from tokenizers import Tokenizer

from probe import fetch
from report import mean_batch_rows
from tokens import encode, load_tokenizer

MODEL = "minilm"
# Tokens of every sentence: with equal lengths all of them may share a batch.
TOKENS = 12
REPEATS = 8
MIN_COSINE = 0.9999
MAX_DIFFERENCE = 1e-4
# Deadline of requests through the batcher: long, because answers are judged here, not how busy the machine is.
PATIENCE_US = 60_000_000
TIMEOUT_SECONDS = 60

SENTENCES = (
    "A man is eating food",
    "A man eats a meal",
    "The stock market fell sharply on Monday",
    "A monkey is playing drums",
    "The girl is carrying a baby",
    "Someone rides a white horse in a field",
    "Rust checks ownership at compile time",
    "The kettle boils",
    "Snow fell on the mountains all night",
    "Two cheetahs run behind their prey",
    "He paid the invoice in euros",
    "Graphics cards can be cut into slices",
    "The orchestra tunes before the concert",
    "Bread needs flour, water and salt",
    "The ferry leaves the harbour at noon",
    "Nobody answered the telephone",
)
SIMILAR = (0, 1, 0.85)
UNRELATED = (0, 2, 0.3)

Embed = Callable[[str], Awaitable[np.ndarray]]


def tensors(module, tokenizer: Tokenizer, sentence: str, **options) -> list:
    """Returns the sentence as inputs of either of tritonclient's modules."""
    inputs = []
    for name, values in zip(("input_ids", "attention_mask"), encode(tokenizer, sentence), strict=True):
        array = np.array([values], dtype=np.int64)
        tensor = module.InferInput(name, list(array.shape), "INT64")
        tensor.set_data_from_numpy(array, **options)
        inputs.append(tensor)
    return inputs


def rest(client, tokenizer: Tokenizer, binary: bool, **options) -> Embed:
    async def embed(sentence: str) -> np.ndarray:
        inputs = tensors(v2_http, tokenizer, sentence, binary_data=binary)
        outputs = [v2_http.InferRequestedOutput("embedding", binary_data=binary)]
        return (await client.infer(MODEL, inputs, outputs=outputs, **options)).as_numpy("embedding")

    return embed


def grpc(client, tokenizer: Tokenizer, **options) -> Embed:
    async def embed(sentence: str) -> np.ndarray:
        return (await client.infer(MODEL, tensors(v2_grpc, tokenizer, sentence), **options)).as_numpy("embedding")

    return embed


def one_row(embedding: np.ndarray) -> np.ndarray:
    if embedding.shape != (1, 384):
        sys.exit(f"an embedding of one sentence has shape {embedding.shape}, expected (1, 384)")
    return embedding[0]


def expect(holds: bool, claim: str) -> bool:
    print(f"  {'ok    ' if holds else 'FAILED'} {claim}")
    return holds


def check_form(form: str, alone: np.ndarray, got: np.ndarray, asked: list[int]) -> bool:
    """Returns whether each embedding in `got` is that of the sentence it was requested for."""
    wanted = alone[asked]
    cosine = (got * wanted).sum(axis=1)
    difference = np.abs(got - wanted).max()
    nearest = (got @ alone.T).argmax(axis=1)
    mixed_up = int((nearest != asked).sum())
    claim = (
        f"{form}: {len(asked)} at once, {mixed_up} mixed up, smallest cosine {cosine.min():.6f} "
        f"(limit {MIN_COSINE}), largest difference {difference:.1e} (limit {MAX_DIFFERENCE:.0e})"
    )
    return expect(mixed_up == 0 and cosine.min() >= MIN_COSINE and difference <= MAX_DIFFERENCE, claim)


async def check(model: str, batcher: str, admin: str) -> bool:
    padded, exact = load_tokenizer(pad_to=TOKENS), load_tokenizer()
    asked = [index for _ in range(REPEATS) for index in range(len(SENTENCES))]
    passed = True
    async with (
        v2_http.InferenceServerClient(model) as direct,
        v2_http.InferenceServerClient(batcher, conn_limit=len(asked)) as through_rest,
        v2_grpc.InferenceServerClient(batcher) as through_grpc,
    ):
        # MLServer reads a body as JSON only with this content type, which the client does not set by itself.
        ask_alone = rest(direct, padded, binary=False, headers={"Content-Type": "application/json"})
        alone = np.stack([one_row(await ask_alone(sentence)) for sentence in SENTENCES])
        for (first, second, bound), above in ((SIMILAR, True), (UNRELATED, False)):
            cosine = float(alone[first] @ alone[second])
            holds = cosine > bound if above else cosine < bound
            claim = f"cos({SENTENCES[first]!r}, {SENTENCES[second]!r}) = {cosine:.3f} {'>' if above else '<'} {bound}"
            passed &= expect(holds, claim)
        forms = {
            "REST JSON": rest(through_rest, padded, binary=False, timeout=PATIENCE_US),
            "REST binary": rest(through_rest, padded, binary=True, timeout=PATIENCE_US),
            "gRPC": grpc(through_grpc, padded, timeout=PATIENCE_US),
            "REST JSON, mixed lengths": rest(through_rest, exact, binary=False, timeout=PATIENCE_US),
        }
        for form, embed in forms.items():
            before = fetch(f"http://{admin}/metrics")
            try:
                rows = await asyncio.gather(*(embed(SENTENCES[index]) for index in asked))
            except Exception as error:  # any error of the client about a response that it cannot use
                passed = expect(False, f"{form}: {type(error).__name__}: {error}")
                continue
            passed &= check_form(form, alone, np.stack([one_row(row) for row in rows]), asked)
            mean = mean_batch_rows(before, fetch(f"http://{admin}/metrics"))
            passed &= expect(mean > 1, f"{form}: merged, {mean:.1f} rows per batch")
    return passed


async def main(model: str, batcher: str, admin: str) -> int:
    print("embeddings through the batcher against the model alone:")
    async with asyncio.timeout(TIMEOUT_SECONDS):
        return 0 if await check(model, batcher, admin) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
