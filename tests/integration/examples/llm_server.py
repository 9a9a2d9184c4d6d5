"""A stand-in for the APIs of OpenAI and Anthropic, over real HTTP: it behaves as a test says."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.kit.waiting import WAIT

USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
WORDS = ("a ", "red ", "shoe")


class Llm:
    """What was asked, and how the next questions are answered.

    `behave` is called with the number of a request, from 1, and its path. It returns "well", "cut"
    (a stream breaks after its first word), "stall" (it says no more then), or a status and headers.
    """

    def __init__(self) -> None:
        self.behave: Callable[[int, str], Any] = lambda number, path: "well"
        self.asked: list[str] = []
        self.url = ""
        self.over = threading.Event()

    def clear(self, behave: Callable[[int, str], Any]) -> None:
        """Forget what was asked, and behave so from now on."""
        self.asked.clear()
        self.behave = behave


def _answer(path: str, model: str) -> dict[str, Any]:
    if path.endswith("/messages"):
        return {
            "id": "m", "type": "message", "role": "assistant", "model": model,
            "content": [{"type": "text", "text": f"{model}: a red shoe"}],
            "stop_reason": "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }  # fmt: skip
    message = {"role": "assistant", "content": f"{model}: a red shoe"}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": model,
            "choices": [choice], "usage": USAGE}  # fmt: skip


def _chunk(word: str) -> bytes:
    choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
    said = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "big",
            "choices": [choice]}  # fmt: skip
    return f"data: {json.dumps(said)}\n\n".encode()


@contextmanager
def llm_server() -> Iterator[Llm]:
    """Give a model that is well."""
    told = Llm()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            told.asked.append(self.path)
            how = told.behave(len(told.asked), self.path)
            if isinstance(how, tuple):
                self.whole(how[0], {"error": {"type": "x", "message": "as told"}}, how[1])
            elif body.get("stream"):
                self.stream(how)
            else:
                self.whole(200, _answer(self.path, body["model"]), {})

        def whole(self, status: int, said: object, headers: dict[str, str]) -> None:
            data = json.dumps(said).encode()
            self.send_response(status)
            kept = {"content-type": "application/json", "content-length": str(len(data))}
            for name, value in {**kept, **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def stream(self, how: str) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            pieces = [*map(_chunk, WORDS), b"data: [DONE]\n\n", b""]
            for piece in pieces if how == "well" else pieces[:1]:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if how == "stall":
                told.over.wait(WAIT)
            self.close_connection = how != "well"

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield told
    finally:
        told.over.set()
        server.shutdown()
        server.server_close()
        thread.join(WAIT)
