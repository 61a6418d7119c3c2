"""A small server of the OpenAI-compatible API, in this process: streams as vLLM or Transformers do, fails, dies."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = ["Once", " upon", " a", " time", "."]


class FakeServer(ThreadingHTTPServer):
    """Answers every chat with the same words.

    Attributes:
        words: of each answer.
        per_part: tokens in each part of a stream.
        traces: whether options of requests are understood and traces kept, as on vLLM.
        key: that is wanted.
        fails: "500", "in the midst" (an error in the stream), "dies" (the connection is cut) or "ends" (no last part).
        fails_after: parts after which it does.
        pause: seconds between parts.
        asked: bodies of the chats so far.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, **settings):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.words, self.per_part, self.traces, self.key = WORDS, 1, True, None
        self.fails, self.fails_after, self.pause, self.models = None, 2, 0, ["heads", "adapter"]
        self.asked, self.kept, self.streams_cut = [], {}, threading.Event()
        vars(self).update(settings)
        self.url = f"http://127.0.0.1:{self.server_port}"


@contextmanager
def fake_server(**settings) -> Iterator[FakeServer]:
    server = FakeServer(**settings)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except OSError:
            self.server.streams_cut.set()  # the client has gone

    def do_GET(self):
        if not self._may():
            return
        name = self.path.removeprefix("/v1/autodeco/traces/")
        if self.path == "/v1/models":
            self._json(200, {"data": [{"id": one} for one in self.server.models]})
        elif self.server.traces and name in self.server.kept:
            self._json(200, {"tokens": self.server.kept.pop(name)})
        elif self.server.traces and name != self.path:
            self._json(404, {"error": {"message": f"there is no trace '{name}': not sent"}})
        else:
            self._json(404, {"detail": "Not Found"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        if not self._may():
            return
        if self.server.fails == "500":
            self._json(500, {"error": {"message": "out of <memory>"}})
        elif body.get("stream"):
            self._stream(body)
        else:
            self._json(200, {"choices": [{"message": {"content": "".join(self.server.words)}}]})

    def _may(self):
        if self.server.key is None or self.headers.get("Authorization") == f"Bearer {self.server.key}":
            return True
        self._json(401, {"error": "Unauthorized"})
        return False

    def _json(self, status, value):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, body):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._part({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        words, step = self.server.words, self.server.per_part
        for number, first in enumerate(range(0, len(words), step)):
            time.sleep(self.server.pause)
            if number == self.server.fails_after and self.server.fails:
                self._fail()
                return
            self._tokens(body, first, words[first : first + step])
        self._part({"choices": [{"delta": {}, "finish_reason": "length"}]})
        if self.server.traces:
            self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _fail(self):
        if self.server.fails == "in the midst":
            self._chunk(b'data: {"error": "CUDA "out" of memory"}\n\n')  # Transformers' is no JSON where it has quotes
        if self.server.fails == "dies":
            self.close_connection = True
            self.connection.close()
        else:
            self._chunk(b"")

    def _tokens(self, body, first, words):
        choice = {"delta": {"content": "".join(words)}}
        if self.server.traces:
            choice["token_ids"] = list(range(first, first + len(words)))
            choice["logprobs"] = {"content": [{"token": word, "logprob": -1.0} for word in words]}
            self._keep(body["vllm_xargs"]["autodeco_trace"], first, len(words))
        self._part({"choices": [choice]})

    def _keep(self, name, first, count):
        values = [
            {"temperature": index % 10 / 5, "top_p": 0.5, "entropy": 1.25} for index in range(first, first + count)
        ]
        self.server.kept.setdefault(name, []).extend(values)

    def _part(self, value):
        self._chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def _chunk(self, content):
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()
