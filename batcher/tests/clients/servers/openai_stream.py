"""A server of OpenAI's chat API that streams, and that shows whether somebody on the way holds a stream back.

A streamed answer stops after its first word until POST /release/WORD comes, on another connection; a client
that never sees the first word never sends it. Usage: openai_stream.py PORT
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# A stream that is not released by then ends, so that a check fails instead of hanging.
RELEASE_S = 10

released: dict[str, threading.Event] = {}
lock = threading.Lock()


def gate(word: str) -> threading.Event:
    with lock:
        return released.setdefault(word, threading.Event())


def chunk(content: str | None, finish: str | None = None) -> dict:
    delta = {} if content is None else {"role": "assistant", "content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "chat-1", "object": "chat.completion.chunk", "created": 1, "model": "parrot", "choices": [choice]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.whole(200, {"object": "list", "data": [{"id": "parrot", "object": "model", "created": 1, "owned_by": "x"}]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path.startswith("/release/"):
            gate(self.path.rsplit("/", 1)[1]).set()
            self.whole(200, {})
            return
        request = json.loads(body)
        words = request["messages"][-1]["content"].split()
        if words[:1] == ["refuse"]:
            self.whole(400, {"error": {"message": "refused", "type": "invalid_request_error", "code": "no"}})
        elif request.get("stream"):
            self.stream(words)
        else:
            message = {"role": "assistant", "content": " ".join(words)}
            usage = {"prompt_tokens": len(words), "completion_tokens": len(words), "total_tokens": 2 * len(words)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            answer = {"id": "chat-1", "object": "chat.completion", "created": 1, "model": "parrot"}
            self.whole(200, answer | {"choices": [choice], "usage": usage})

    def stream(self, words: list[str]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for index, word in enumerate(words):
            self.event(json.dumps(chunk(word)))
            if index == 0 and not gate(word).wait(RELEASE_S):
                self.close_connection = True
                return
        self.event(json.dumps(chunk(None, "stop")))
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, data: str) -> None:
        payload = f"data: {data}\n\n".encode()
        self.wfile.write(f"{len(payload):x}\r\n".encode() + payload + b"\r\n")
        self.wfile.flush()

    def whole(self, status: int, answer: dict) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args) -> None:
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
