"""How the page is reached: TLS, the socket of systemd, and what it refuses to do."""

from __future__ import annotations

import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.page.limits import CONNECTIONS_MAX
from tests.certificates import Authority
from tests.conftest import WAIT_S_MAX, wait_until
from tests.kept_rig import Kept, alarm
from tests.page_rig import RealPage, Visitor

StartPage = Callable[..., RealPage]
# what systemd does: the listening socket is descriptor 3 of the process that it starts
ACTIVATION = """
import os, socket, sys
host, port, *words = sys.argv[1:]
listener = socket.create_server((host, int(port)))
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.executable, [sys.executable, "-P", "-m", "agent", *words])
"""


@pytest.fixture
def make_page(tmp_path: Path) -> Iterator[StartPage]:
    """Make pages of a store with an alarm; they are not started."""
    kept = Kept(tmp_path)
    kept.take(alarm(1, severity="high"))
    kept.store.close()
    made: list[RealPage] = []

    def make(table: str = 'users_file = "page-users"', activated: str | None = None) -> RealPage:
        page = RealPage(kept.config, table)
        if activated is not None:
            page.program = (sys.executable, "-c", ACTIVATION, activated, str(page.port))
        made.append(page)
        return page

    yield make
    for page in made:
        if page.process is not None:
            page.stop()


def refusal(page: RealPage) -> str:
    """Return what a page says that does not start."""
    page.launch()
    assert page.process is not None
    assert page.process.wait(WAIT_S_MAX) == 78
    return page.log()


def test_without_users_everybody_on_the_machine_reads_and_nobody_acts(
    make_page: StartPage,
) -> None:
    page = make_page("")
    page.start()
    visitor = Visitor(page)
    shown = visitor.get("/alarms/pump/1")
    assert shown.status == 200
    assert "<form method" not in shown.body
    assert "page user add NAME" in shown.body
    for form in ({}, {"csrf": ""}, {"csrf": "x"}):
        answer = visitor.post("/alarms/pump/1/acknowledge", form | {"revision": 1})
        assert (answer.status, "page user add NAME" in answer.body) == (403, True)
    assert visitor.log_in("maria").status == 403
    assert visitor.get("/login?next=/alarms").location == "/alarms"
    assert "every user of this machine can read the page" in page.log()


def test_users_of_a_file_that_vanishes_are_not_everybody(make_page: StartPage) -> None:
    page = make_page()
    page.add("maria")
    page.start()
    visitor = Visitor(page)
    visitor.log_in("maria")
    page.users_file.unlink()
    assert visitor.get("/alarms").status == 303
    assert Visitor(page).get("/alarms/pump/1").status == 303


def test_a_page_of_the_network_is_refused_without_users(make_page: StartPage) -> None:
    said = refusal(make_page('listen = "0.0.0.0:8377"\nhost_names = ["gw"]'))
    assert "other machines can reach this address" in said


def test_a_socket_of_systemd_that_others_reach_is_refused_without_users(
    make_page: StartPage,
) -> None:
    assert "the page got a socket at 0.0.0.0" in refusal(make_page("", activated="0.0.0.0"))


def test_a_socket_of_systemd_is_served_and_a_missing_certificate_is_told(
    make_page: StartPage,
) -> None:
    page = make_page(activated="0.0.0.0")
    page.add("maria")
    page.start()
    assert Visitor(page).log_in("maria").status == 303
    assert "the page has no certificate" in page.log()


def test_a_page_of_systemd_ends_when_nobody_needs_it(make_page: StartPage) -> None:
    page = make_page('users_file = "page-users"\nidle_exit_s = 1.0', activated="127.0.0.1")
    page.add("maria")
    page.start()
    visitor = Visitor(page)
    visitor.log_in("maria")
    visitor.get("/alarms")
    assert page.process is not None
    later_s = time.monotonic() + 20.0  # the connection stays for 15 s
    wait_until(lambda: time.monotonic() > later_s, "the time after which it would have ended")
    assert page.process.poll() is None
    visitor.post("/logout", {"csrf": visitor.csrf})
    assert page.process.wait(WAIT_S_MAX) == 0


def test_a_page_that_a_person_starts_does_not_end(make_page: StartPage) -> None:
    page = make_page("idle_exit_s = 0.1")
    page.start()
    later_s = time.monotonic() + 4.0
    wait_until(lambda: time.monotonic() > later_s, "the time after which it would have ended")
    assert Visitor(page).get("/alarms").status == 200


# ---- TLS


@pytest.fixture
def tls_page(make_page: StartPage, tmp_path: Path) -> RealPage:
    authority = Authority(tmp_path / "certificates")
    certificate, key = authority.issue("gateway")
    page = make_page(
        f'users_file = "page-users"\ncertificate_file = "{certificate}"\nkey_file = "{key}"'
    )
    page.tls = ssl.create_default_context(cafile=authority.file)
    page.add("maria")
    return page


def test_with_a_certificate_the_cookie_never_leaves_by_plain_http(tls_page: RealPage) -> None:
    tls_page.start()
    visitor = Visitor(tls_page)
    answer = visitor.log_in("maria")
    name, *flags = answer.headers["set-cookie"].split("; ")
    assert name.startswith("__Host-fieldwatch=")
    assert sorted(flags) == ["HttpOnly", "Path=/", "SameSite=strict", "Secure"]
    assert visitor.get("/alarms").status == 200
    visitor.cookies = {"fieldwatch": visitor.cookies["__Host-fieldwatch"]}
    assert visitor.get("/alarms").status == 303  # which another page of this host could set
    assert "https://127.0.0.1:" in tls_page.log()
    with tls_page.connect() as plain:
        plain.sendall(b"GET /login HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert not plain.recv(100).startswith(b"HTTP")


def test_old_versions_of_tls_are_refused(tls_page: RealPage) -> None:
    tls_page.start()
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with tls_page.connect() as connection, pytest.raises(ssl.SSLError):
        old.wrap_socket(connection)


@pytest.mark.parametrize("broken", ["absent", "empty"])
def test_a_certificate_that_cannot_be_used_is_told(make_page: StartPage, broken: str) -> None:
    page = make_page(f'users_file = "page-users"\ncertificate_file = "{broken}.pem"')
    (page.config.parent / "empty.pem").touch()
    said = refusal(page)
    assert "the page's certificate cannot be used" in said
    assert f"{broken}.pem" in said
    assert "Traceback" not in said


# ---- connections


def test_who_opens_too_many_connections_loses_the_newest_and_the_page_goes_on(
    make_page: StartPage,
) -> None:
    page = make_page("")
    page.start()
    opened = [page.connect() for _ in range(CONNECTIONS_MAX)]
    head = b"GET /assets/page.css HTTP/1.1\r\nHost: localhost\r\n\r\n"
    opened[0].sendall(head)
    assert opened[0].recv(15) == b"HTTP/1.1 200 OK"

    def is_refused() -> bool:
        with page.connect() as another:
            try:
                another.sendall(head)
                return another.recv(1) == b""
            except (ConnectionResetError, BrokenPipeError):
                return True

    assert is_refused()
    for connection in opened:
        connection.close()
    wait_until(lambda: not is_refused(), "a free connection")
