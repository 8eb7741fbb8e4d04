"""The `openai` client: chat, streamed and whole, many at once; no stream is held back.

Usage: openai_client.py MODEL_HOST:PORT BATCHER_HOST:PORT
"""

import urllib.request

import openai

from checking import Checker, main


def client(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0, timeout=20)


def check(model: str, batcher: str) -> int:
    checker = Checker("openai")

    def whole(client: openai.OpenAI, text: str):
        messages = [{"role": "user", "content": text}]
        return client.chat.completions.create(model="parrot", messages=messages).model_dump()

    def streamed(client: openai.OpenAI, text: str):
        messages = [{"role": "user", "content": text}]
        chunks = []
        for chunk in client.chat.completions.create(model="parrot", messages=messages, stream=True):
            if not chunks:
                # The server goes on only now: whoever holds the first word back waits for ever.
                word = chunk.choices[0].delta.content
                request = urllib.request.Request(f"http://{model}/release/{word}", data=b"", method="POST")
                urllib.request.urlopen(request, timeout=10).close()
            chunks.append(chunk.model_dump())
        return chunks

    direct, through = client(model), client(batcher)

    def same(claim: str, asked: list, question) -> None:
        checker.same(claim, asked, lambda one: question(direct, one), lambda one: question(through, one))

    texts = [f"word{index} two three {index}" for index in range(16)]
    same("whole answers", texts, whole)
    same("streamed answers, the first word before the second is written", texts, streamed)
    same("errors", ["refuse this"], whole)
    same("errors of streams", ["refuse this"], streamed)
    same("models", [""], lambda client, _text: client.models.list().model_dump())
    return checker.exit_code()


if __name__ == "__main__":
    main(check)
