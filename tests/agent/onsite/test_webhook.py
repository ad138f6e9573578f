"""A web server as a hook: the request, what each answer means, limits, TLS and secrets."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from agent.config.onsite import HookTable
from agent.onsite.outcome import Done, Failed, Outcome, Refused
from agent.onsite.webhook import Webhook
from tests.certificates import Authority
from tests.web_receiver import Answer, Receiver

CHANGE: dict[str, Any] = {}


@contextlib.contextmanager
def receiving(*answers: Answer) -> Iterator[Receiver]:
    receiver = Receiver(lambda number: answers[number - 1])
    yield receiver
    receiver.close()


def post(port: int, path: str = "/a?b=c", **more: Any) -> Outcome:
    hook = HookTable(name="ops", url=f"http://127.0.0.1:{port}{path}", **more)
    return Webhook(hook).deliver("id-1", json.dumps({"a": "ü"}).encode(), CHANGE, threading.Event())


def test_the_request_has_the_document_an_id_and_the_headers_of_a_file(tmp_path: Path) -> None:
    headers = tmp_path / "headers"
    headers.write_text("Authorization: Bearer secret\n\nX-Plant: A: B\n")
    with receiving((204, {})) as receiver:
        assert post(receiver.port, headers_file=headers) == Done()
    (got,) = receiver.got
    assert (got.path, got.body) == ("/a?b=c", {"a": "ü"})
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["Idempotency-Key"] == "id-1"
    assert (got.headers["Authorization"], got.headers["X-Plant"]) == ("Bearer secret", "A: B")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, Done), (202, Done), (400, Refused), (404, Refused), (410, Refused)]
    + [(status, Failed) for status in (301, 307, 408, 429, 500, 503)],
)
def test_the_status_says_what_becomes_of_the_notice(status: int, kind: type[Outcome]) -> None:
    with receiving((status, {})) as receiver:
        found = post(receiver.port)
    assert isinstance(found, kind)
    if not isinstance(found, Done):
        assert f"answers {status}: said\\x1b[2J" in found.reason


def test_no_redirection_is_followed() -> None:
    with receiving() as other:
        address = f"http://127.0.0.1:{other.port}/"
        with receiving((307, {"Location": address})) as receiver:
            found = post(receiver.port)
    assert isinstance(found, Failed)
    assert "follows no redirection" in found.reason
    assert other.got == []


def later(hours: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)


@pytest.mark.parametrize(
    ("said", "least_s", "most_s"),
    [
        ("7", 7, 7),
        ("999999999", 20, 20),  # backoff_max_s
        (later(1), 20, 20),
        (later(-1), 0, 0),
    ],
)
def test_a_server_may_ask_for_a_wait(said: str, least_s: float, most_s: float) -> None:
    with receiving((503, {"Retry-After": said})) as receiver:
        found = post(receiver.port, backoff_max_s=20)
    assert isinstance(found, Failed)
    assert found.after_s is not None
    assert least_s <= found.after_s <= most_s


@pytest.mark.parametrize("said", ["soon", "-3", "٣", "1e9"])
def test_a_wait_that_is_none_is_ignored(said: str) -> None:
    with receiving((503, {"Retry-After": said.encode().decode("latin-1")})) as receiver:
        assert isinstance(found := post(receiver.port), Failed)
    assert found.after_s is None


def test_a_server_that_drips_its_answer_is_given_up() -> None:
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            peer, _ = server.accept()
            with contextlib.suppress(OSError), peer:
                while not over.wait(0.05):  # each read succeeds, so that no timeout of one helps
                    peer.sendall(b"H")

        thread = threading.Thread(target=drip)
        thread.start()
        found = post(server.getsockname()[1], timeout_s=0.4)
        over.set()
        thread.join()
    assert isinstance(found, Failed)
    assert "no whole answer within timeout_s" in found.reason


def test_one_that_is_not_there_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    found = post(port)
    assert isinstance(found, Failed)
    assert "Connection refused" in found.reason


@pytest.mark.parametrize(
    "text",
    ["no header", "Bad Name: a", "Host: other", "content-length: 3", "A: b\x00c"],
)
def test_a_wrong_header_is_told_and_nothing_is_sent(tmp_path: Path, text: str) -> None:
    (tmp_path / "headers").write_text(f"Good: 1\n{text}\n")
    with receiving() as receiver:
        found = post(receiver.port, headers_file=tmp_path / "headers")
    assert isinstance(found, Failed)
    assert "headers: line 2" in found.reason
    assert receiver.got == []


def test_an_address_may_be_in_a_file_and_is_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "url"
    hook = HookTable(name="chat", url_file=file)
    file.write_text("ftp://example.org/secret\n")
    found = Webhook(hook).deliver("1", b"{}", CHANGE, threading.Event())
    assert isinstance(found, Failed)
    assert "has no valid address" in found.reason
    assert "secret" not in found.reason
    with receiving((200, {})) as receiver:
        file.write_text(f"http://127.0.0.1:{receiver.port}/secret\n")
        assert Webhook(hook).deliver("1", b"{}", CHANGE, threading.Event()) == Done()
    assert receiver.got[0].path == "/secret"


def test_a_file_that_is_not_there_is_named_without_the_number_of_the_error(tmp_path: Path) -> None:
    hook = HookTable(name="chat", url_file=tmp_path / "url")
    found = Webhook(hook).deliver("1", b"{}", CHANGE, threading.Event())
    assert found == Failed(f"{tmp_path}/url: No such file or directory")


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "ftp://example.org"},
        {"url": "http://user:word@example.org"},
        {"url": "http://example.org:99999"},
        {"url": "http://"},
        {"url": "http://example.org/a b"},
        {"url": "http://example.org/\r\nHost: other"},
        {"command": ["relative"]},
        {"command": []},
        {"command": ["/bin/true"], "url": "http://example.org"},
        {"command": ["/bin/true"], "tls_ca_file": "ca.pem"},
        {},
    ],
)
def test_a_wrong_hook_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HookTable(name="a", **wrong)


def test_a_server_is_verified_by_the_ca_file(tmp_path: Path) -> None:
    ours, foreign = Authority(tmp_path / "ours"), Authority(tmp_path / "foreign")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*ours.issue("server"))
    receiver = Receiver(tls=context)
    found = {}
    for authority in (foreign, ours):
        hook = HookTable(
            name="ops", url=f"https://127.0.0.1:{receiver.port}/", tls_ca_file=authority.file
        )
        found[authority] = Webhook(hook).deliver("1", b"{}", CHANGE, threading.Event())
    receiver.close()
    assert found[ours] == Done()
    assert isinstance(refused := found[foreign], Failed)
    assert "certificate verify failed" in refused.reason
    assert len(receiver.got) == 1


def test_a_server_that_drips_its_handshake_is_given_up() -> None:
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            peer, _ = server.accept()
            with contextlib.suppress(OSError), peer:
                peer.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16384 bytes begins
                for _ in range(1200):
                    if over.wait(0.05):
                        break
                    peer.sendall(b"\x02")

        thread = threading.Thread(target=drip)
        thread.start()
        hook = HookTable(
            name="ops", url=f"https://127.0.0.1:{server.getsockname()[1]}/", timeout_s=0.4
        )
        found = Webhook(hook).deliver("1", b"{}", CHANGE, threading.Event())
        over.set()
        thread.join()
    assert isinstance(found, Failed)
    assert "timed out" in found.reason  # the server would have gone on for a minute
