"""A web server that a test scripts, and that a webhook talks to."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, NamedTuple

Answer = tuple[int, Mapping[str, str]]


class Got(NamedTuple):
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


class Receiver:
    """Answers each request with what ``answer`` returns; None: with nothing, slowly."""

    def __init__(
        self,
        answer: Callable[[int], Answer] = lambda _: (200, {}),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.got: list[Got] = []
        self._answer = answer
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append(Got(self.path, dict(self.headers), json.loads(body)))
                status, headers = outer.answer(len(outer.got))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"said\x1b[2J")

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def answer(self, number: int) -> Answer:
        return self._answer(number)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
