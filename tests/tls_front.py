"""A front that speaks TLS and asks for a password, as one before a server of MLflow does."""

from __future__ import annotations

import base64
import contextlib
import http.client
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

USER, PASSWORD = "trainer", "geheim"
_ALLOWED = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
_OF_THE_HOP = ("connection", "transfer-encoding", "content-length", "date", "server")


@contextlib.contextmanager
def running(certificate: tuple[Path, Path], port: int | None = None) -> Iterator[str]:
    """Serve what the server at ``port`` of this machine serves; None: refuse all.

    Args:
        certificate: file of it, and file of its key.
        port: of the server behind.

    Yields:
        the URL.

    """

    class Front(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            with contextlib.suppress(ConnectionError):  # the other side has gone
                super().handle_one_request()

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if port is None or self.headers.get("Authorization") != _ALLOWED:
                self.answer(401, [("WWW-Authenticate", "Basic")], b"who asks?")
                return
            behind = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            with contextlib.closing(behind):
                behind.request(self.command, self.path, body, dict(self.headers))
                got = behind.getresponse()
                self.answer(got.status, got.getheaders(), got.read())

        def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in _OF_THE_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Front)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
