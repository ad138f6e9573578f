"""Attacks on a page that runs: a real server at a real socket, and a file of users."""

from __future__ import annotations

import math
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from agent.page.limits import BODY_BYTES_MAX, HEADER_BYTES_MAX
from agent.page.security import HEADERS
from tests.conftest import wait_until
from tests.kept_rig import Kept, alarm
from tests.page_rig import PASSWORD, RealPage, Visitor, read_all

HOST = b"Host: 127.0.0.1\r\n"
ALARM = "/alarms/pump/1"
ACT = f"{ALARM}/acknowledge"
DONE_NOTHING = 503  # there is no agent, so what passes every guard ends here


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    made = Kept(tmp_path_factory.mktemp("gateway"))
    made.take(alarm(1, severity="high"))
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def page(kept: Kept) -> Iterator[RealPage]:
    """A page with users of each role. Tests must not make it wait for wrong passwords."""
    made = RealPage(kept.config, 'users_file = "page-users"\nhost_names = ["gw-1.plant.example"]')
    made.add("tom", "reader")
    made.add("maria", "operator")
    made.add("jo", "maintainer")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def own_page(tmp_path: Path) -> Iterator[RealPage]:
    """A page of the test's own, which is not started."""
    kept = Kept(tmp_path)
    kept.take(alarm(1, severity="high"))
    kept.store.close()
    made = RealPage(kept.config, 'users_file = "page-users"')
    made.add("maria", "operator")
    yield made
    if made.process is not None:
        made.stop()


@pytest.fixture
def maria(page: RealPage) -> Visitor:
    """An operator who looks at an alarm."""
    visitor = Visitor(page)
    assert visitor.log_in("maria").status == 303
    assert visitor.get(ALARM).status == 200
    assert visitor.csrf
    return visitor


# ---- as it should be


def test_a_browser_may_load_the_address_of_a_refused_form_again(maria: Visitor) -> None:
    refused = maria.post(ACT, {"csrf": maria.csrf, "revision": "1"})
    assert refused.status == DONE_NOTHING
    assert ALARM in refused.body
    again = maria.get(ACT)
    assert (again.status, again.location) == (303, ALARM)
    again = maria.get("/alarms/pump/acknowledge-group")
    assert (again.status, again.location) == (303, "/alarms")


@pytest.mark.parametrize("digits", [16, 25, 5000])
def test_an_alarm_with_a_number_beyond_all_is_not_found(maria: Visitor, digits: int) -> None:
    for path in ("", "/window.json", "/acknowledge"):
        assert maria.get(f"/alarms/pump/{'9' * digits}{path}").status == 404


def test_a_form_with_too_many_fields_is_a_form_without_fields(maria: Visitor) -> None:
    many = {f"field-{number}": "1" for number in range(100)} | {"revision": "1"}
    answer = maria.post(f"{ALARM}/shelve", many, X_CSRF_Token=maria.csrf)
    assert answer.status == 400
    assert "is not a whole number" in answer.body


def test_a_user_logs_in_sees_an_alarm_and_logs_out(page: RealPage) -> None:
    visitor = Visitor(page)
    asked = visitor.get(f"{ALARM}?show=1")
    assert (asked.status, asked.location) == (303, f"/login?next={ALARM}%3Fshow%3D1")
    assert visitor.get("/login").status == 200
    began = visitor.log_in("maria", next=f"{ALARM}?show=1")
    assert (began.status, began.location) == (303, f"{ALARM}?show=1")
    shown = visitor.get(ALARM)
    assert "Logged in: maria" in shown.body
    assert f'action="{ACT}"' in shown.body
    assert "out-of-service" not in shown.body
    assert visitor.get("/login?next=/alarms").location == "/alarms"  # already logged in
    assert visitor.post(ACT, {"csrf": visitor.csrf, "revision": 1}).status == DONE_NOTHING
    token = dict(visitor.cookies)
    ended = visitor.post("/logout", {"csrf": visitor.csrf})
    assert (ended.status, ended.location) == (303, "/login")
    assert visitor.cookies == {}
    visitor.cookies = token  # whoever kept it has nothing
    assert visitor.get(ALARM).status == 303


def test_each_role_is_shown_and_may_do_its_own(page: RealPage) -> None:
    tom, jo = Visitor(page), Visitor(page)
    tom.log_in("tom")
    shown = tom.get(ALARM).body
    assert "You may read." in shown
    assert f'action="{ACT}"' not in shown
    assert tom.post(ACT, {"csrf": tom.csrf, "revision": 1}).status == 403
    jo.log_in("jo")
    assert f'action="{ALARM}/out-of-service"' in jo.get(ALARM).body
    sent = jo.post(f"{ALARM}/out-of-service", {"csrf": jo.csrf, "revision": 1, "reason": "motor"})
    assert sent.status == DONE_NOTHING


def test_a_script_may_name_the_token_in_a_header(maria: Visitor) -> None:
    assert maria.post(ACT, {"revision": 1}, X_CSRF_Token=maria.csrf).status == DONE_NOTHING


# ---- without a log-in


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/",
            "/alarms",
            ALARM,
            "/health",
            "/about",
            "/streams/pump",
            "/no-such",
            "//",
            "/%2e%2e/",
        ),
        *("/streams/pump/spark.svg", "//assets/page.js", "/Assets/page.js", "/login/", "/logout"),
    ],
)
def test_nothing_is_shown_without_a_log_in(page: RealPage, path: str) -> None:
    answer = Visitor(page).get(path)
    assert (answer.status, answer.body) == (303, "")
    assert answer.location.startswith("/login?next=")


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_a_script_without_a_log_in_is_told_so(page: RealPage, accept: str) -> None:
    for path in (f"{ALARM}/window.json", "/events"):
        answer = Visitor(page).get(path, Accept=accept)
        assert (answer.status, answer.body) == (401, "Log in first.\n")


def test_the_form_shows_nothing_of_the_plant(page: RealPage) -> None:
    body = Visitor(page).get("/login").body
    assert 'type="password"' in body
    assert "pump" not in body
    assert "unacknowledged" not in body


@pytest.mark.parametrize("path", [ACT, "/logout", "/alarms/pump/acknowledge-group", "/nowhere"])
def test_nothing_is_done_without_a_log_in(page: RealPage, path: str) -> None:
    answer = Visitor(page).post(path, {"csrf": "", "revision": 1})
    assert answer.status == 303
    assert answer.location.endswith("&ended")
    assert "Your log-in has ended" in Visitor(page).get(answer.location).body


def test_a_form_that_came_too_late_leads_back_to_its_view(page: RealPage) -> None:
    visitor = Visitor(page)
    answer = visitor.post(ACT, {}, Referer=f"{visitor.origin}{ALARM}?done=1")
    assert answer.location == f"/login?next={ALARM}&ended"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "FOO"])
def test_other_methods_are_refused_with_and_without_a_log_in(
    page: RealPage, maria: Visitor, method: str
) -> None:
    for headers in ({}, {"Cookie": f"fieldwatch={maria.cookies['fieldwatch']}"}):
        assert page.ask(method, ALARM, headers=headers).status == 405


@pytest.mark.parametrize("number", ["9223372036854775808", "9" * 400])
def test_a_number_that_no_alarm_can_have_is_not_found(maria: Visitor, number: str) -> None:
    for path in (f"/alarms/pump/{number}", f"/alarms/pump/{number}/window.json"):
        assert maria.get(path).status == 404
    sent = maria.post(f"/alarms/pump/{number}/note", {"csrf": maria.csrf, "reason": "x"})
    assert sent.status == 404


# ---- foreign sites


@pytest.mark.parametrize("token", ["", "x", None, "maria"])
def test_a_form_without_the_token_does_nothing(maria: Visitor, token: str | None) -> None:
    form = {"revision": 1} | ({} if token is None else {"csrf": token})
    answer = maria.post(ACT, form)
    assert answer.status == 403
    assert "older than your log-in" in answer.body


def test_the_token_of_another_is_no_token(page: RealPage, maria: Visitor) -> None:
    other = Visitor(page)
    other.log_in("jo")
    other.get(ALARM)
    assert other.csrf not in ("", maria.csrf)
    assert maria.post(ACT, {"csrf": other.csrf, "revision": 1}).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1"},  # another port is another site
        {"Origin": "http://127.0.0.1:8377.evil.example"},
        {"Origin": "http://evil.example#127.0.0.1"},
        {"Origin": None},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
        {"Sec_Fetch_Site": "cross-site", "Origin": None},
    ],
)
def test_a_form_of_another_site_does_nothing_even_with_the_token(
    maria: Visitor, headers: dict[str, str | None]
) -> None:
    answer = maria.post(ACT, {"csrf": maria.csrf, "revision": 1}, **headers)
    assert (answer.status, answer.body) == (
        403,
        "This request came from another site, and was not done.\n",
    )
    assert maria.post("/logout", {"csrf": maria.csrf}, **headers).status == 403


def test_a_site_cannot_log_somebody_in_as_another(page: RealPage) -> None:
    visitor = Visitor(page)
    form = {"name": "maria", "password": PASSWORD}
    assert visitor.post("/login", form, Origin="http://evil.example").status == 403
    assert visitor.cookies == {}


def test_a_link_from_elsewhere_finds_the_session(page: RealPage) -> None:
    """A strict cookie is not sent with such a link, so the page asks itself once more."""
    answer = page.ask("GET", f"{ALARM}?a=%22%3E", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status == 200
    assert f'content="0;url={ALARM}?a=%22%3E">' in answer.body
    assert Visitor(page).get(ALARM, Sec_Fetch_Site="same-origin").status == 303


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8377", "127.0.0.1.evil.example", "localhost.evil.example"),
        *(
            "",
            "localhost@evil.example",
            "evil.example/localhost",
            "localhost:x",
            "127.0.0.2",
            "[::",
        ),
        *(
            "evil@localhost",
            "localhost/evil",
            "localhost?evil",
            "localhost#evil",
            "localhost\\evil",
        ),
        *("gw-1.plant.example.", "2130706433", "0x7f.1", "localhost evil.example"),
    ],
)
def test_another_name_is_refused(page: RealPage, host: str) -> None:
    for path in ("/", "/login", "/assets/page.css", ALARM):
        answer = page.ask("GET", path, headers={"Host": host})
        assert (answer.status, "host_names" in answer.body) == (421, True)
    assert page.ask("POST", "/login", b"name=maria", {"Host": host}).status == 421


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8377", "127.0.0.1:1", "[::1]:8377", "GW-1.plant.example:443"]
)
def test_its_own_names_are_answered(page: RealPage, host: str) -> None:
    assert page.ask("GET", "/login", headers={"Host": host}).status == 200


def test_without_or_with_two_names_it_is_no_request(page: RealPage) -> None:
    assert page.raw(b"GET /login HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert page.raw(b"GET /login HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 421 ")
    two = b"GET /login HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    assert page.raw(two).startswith(b"HTTP/1.1 400 ")


def test_a_proxy_is_not_believed(page: RealPage) -> None:
    forged = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Host": "evil.example"}
    Visitor(page).get("/login", **forged)
    form = f"name=tom&password={quote(PASSWORD)}".encode()
    headers = forged | {
        "Origin": f"http://127.0.0.1:{page.port}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    assert page.ask("POST", "/login", form, headers).status == 303
    assert "log-in of tom (reader) from 127.0.0.1" in page.log()


# ---- what browsers are told


@pytest.mark.parametrize(
    "path", ["/login", "/", ALARM, "/assets/page.js", "/assets/no-such", "/no-such", "/events-not"]
)
def test_every_answer_forbids_what_the_page_does_not_need(maria: Visitor, path: str) -> None:
    for visitor in (maria, Visitor(maria.page)):
        answer = visitor.get(path)
        assert {name: answer.headers[name.lower()] for name in HEADERS} == HEADERS
        cached = "no-cache" if path.startswith("/assets/") else "no-store"
        assert answer.headers["cache-control"] == cached
        assert "server" not in answer.headers
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy and "*" not in policy and "http" not in policy


def test_the_cookie_is_for_this_page_alone_and_no_script_reads_it(page: RealPage) -> None:
    began = Visitor(page).log_in("maria").headers["set-cookie"]
    name, *flags = began.split("; ")
    assert re.fullmatch(r"fieldwatch=[A-Za-z0-9_-]{43}", name)
    assert sorted(flags) == ["HttpOnly", "Path=/", "SameSite=strict"]


# ---- sessions


def test_a_log_in_has_a_new_token_whatever_the_browser_had(page: RealPage) -> None:
    visitor = Visitor(page)
    visitor.cookies["fieldwatch"] = "chosen-by-somebody-else"
    visitor.log_in("maria")
    first = visitor.cookies["fieldwatch"]
    assert first != "chosen-by-somebody-else"
    visitor.log_in("maria")
    second = dict(visitor.cookies)
    assert second["fieldwatch"] != first
    visitor.cookies["fieldwatch"] = first
    assert visitor.get("/alarms").status == 303  # it ended with the second log-in
    visitor.cookies = second
    assert visitor.get("/alarms").status == 200


@pytest.mark.parametrize("token", ["", "x", "x" * 5000, "a; fieldwatch=b", "\xff", "%00"])
def test_an_invented_token_is_no_log_in(page: RealPage, token: str) -> None:
    visitor = Visitor(page)
    visitor.cookies["fieldwatch"] = token
    assert visitor.get("/alarms").status == 303


def test_a_removed_user_is_out_at_once_and_so_is_an_open_stream(own_page: RealPage) -> None:
    own_page.start()
    visitor = Visitor(own_page)
    visitor.log_in("maria")
    with own_page.connect() as stream:
        cookie = (
            f"Connection: close\r\nCookie: fieldwatch={visitor.cookies['fieldwatch']}\r\n".encode()
        )
        stream.sendall(b"GET /events HTTP/1.1\r\n" + HOST + cookie + b"\r\n")
        assert b" 200 OK" in stream.recv(65536)
        own_page.remove("maria")
        assert visitor.get("/alarms").status == 303
        assert read_all(stream).endswith(b"0\r\n\r\n")  # its end
    assert "ASGI" not in own_page.log()
    assert "There are no users yet" in visitor.get("/login").body
    own_page.users_file.write_text("nonsense")
    assert "The file of the users cannot be read." in visitor.get("/login").body
    assert "nobody can log in at the page: " in own_page.log()


def test_a_session_ends_if_it_is_not_used(own_page: RealPage) -> None:
    text = own_page.config.read_text()
    own_page.config.write_text(text.replace("[page]", "[page]\nsession_idle_minutes = 0.0001"))
    own_page.start()
    visitor = Visitor(own_page)
    visitor.log_in("maria")
    wait_until(lambda: visitor.get("/alarms").status == 303, "the end of the session")


# ---- passwords


def test_wrong_passwords_are_slowed_down_and_the_right_one_is_not_kept_out(
    own_page: RealPage,
) -> None:
    own_page.start()
    visitor = Visitor(own_page)
    guesses = [visitor.log_in("maria", f"guess number {n}").status for n in range(3)]
    assert guesses == [403] * 3
    for _ in range(3):  # after 1, 2 and 4 s
        wait_until(lambda: visitor.log_in("maria", "wrong guess").status == 403, "the delay")
    waits = visitor.log_in("maria")  # the right one, but before 8 s have passed
    assert (waits.status, 1 <= int(waits.headers["retry-after"]) <= 8) == (429, True)
    assert f"Try again in {waits.headers['retry-after']} s." in waits.body
    assert visitor.log_in("tom", "another guess").status == 429  # the address waits, too
    wait_until(lambda: visitor.log_in("maria").status == 303, "the end of the delay")
    assert visitor.get("/alarms").status == 200


def test_guesses_at_the_same_time_share_no_delay(own_page: RealPage) -> None:
    own_page.start()
    begun_s = time.monotonic()
    with ThreadPoolExecutor(30) as pool:
        guesses = [
            pool.submit(Visitor(own_page).log_in, "maria", f"guess {n:09}") for n in range(30)
        ]
        statuses = [one.result().status for one in guesses]
    assert set(statuses) <= {403, 429, 503}
    doublings = math.log2(time.monotonic() - begun_s + 1)  # of the delay, while they were made
    assert statuses.count(403) <= 4 + doublings


@pytest.mark.parametrize(
    "name",
    ["", "nobody", "root", "agent", "maria ", "MARIA", "maria\x00", "../maria", "' or 1=1 --", "ä"],
)
def test_a_wrong_name_is_not_told_from_a_wrong_password(own_page: RealPage, name: str) -> None:
    own_page.start()
    answer = Visitor(own_page).log_in(name, "guess of a name")
    assert answer.status == 403
    assert "The name or the password is wrong." in answer.body


def test_what_is_typed_as_a_name_is_not_logged(own_page: RealPage) -> None:
    own_page.start()
    Visitor(own_page).log_in("my secret\x1b[2J\nforged", "x")
    wait_until(lambda: "wrong password of an unknown name from" in own_page.log(), "the log")
    assert "secret" not in own_page.log()
    assert "forged" not in own_page.log()


def test_a_password_comes_only_in_a_form(own_page: RealPage) -> None:
    own_page.start()
    form = f"name=maria&password={quote(PASSWORD)}"
    json = f'{{"name": "maria", "password": "{PASSWORD}"}}'
    kind, origin = "application/x-www-form-urlencoded", f"http://127.0.0.1:{own_page.port}"

    def status(path: str, body: str, kind: str) -> int:
        headers = {"Origin": origin, "Content-Type": kind}
        return own_page.ask("POST", path, body, headers).status

    assert status("/login", form, f"{kind}; charset=utf-8") == 303
    assert status("/login", json, "application/json") == 403
    assert status("/login", form, "text/plain") == 403  # which another site can send, too
    assert status(f"/login?{form}", "", kind) == 403


@pytest.mark.parametrize(
    "after",
    [
        *(
            "//evil.example",
            "/\\evil.example",
            "http://evil.example",
            "evil",
            "",
            "/\t/evil.example",
        ),
        *("/\n/evil.example", "javascript:alert(1)", "/login", "/logout", "/a\r\nSet-Cookie: a=b"),
        "/" + "a" * 3000,
    ],
)
def test_a_log_in_leads_to_this_page_only(page: RealPage, after: str) -> None:
    answer = Visitor(page).log_in("maria", next=after)
    assert (answer.status, answer.location) == (303, "/")
    shown = Visitor(page).get(f"/login?next={quote(after)}").body
    assert 'name="next" value="/"' in shown


def test_a_path_is_shown_as_text(page: RealPage) -> None:
    shown = Visitor(page).get("/login?next=/%22%3E%3Cscript%3E").body
    assert "<script" not in shown
    assert 'value="/&#34;&gt;&lt;script&gt;"' in shown


# ---- traversal


@pytest.mark.parametrize(
    "path",
    [
        *("../../etc/passwd", "..%2f..%2fetc/passwd", "%2e%2e/%2e%2e/etc/passwd", "../app.py"),
        *("..%2fapp.py", "....//app.py", "..\\app.py", "%5c..%5capp.py", "%00", "page.js%00.css"),
        *(
            "%252e%252e/app.py",
            "/etc/passwd",
            "%2fetc%2fpasswd",
            "vendor/../../app.py",
            ".",
            "vendor",
        ),
        *("../templates/base.html", "..;/app.py", "~root", "%c0%ae%c0%ae/app.py", "a" * 5000),
    ],
)
def test_only_assets_are_served_as_assets(page: RealPage, path: str) -> None:
    said = page.raw(
        b"GET /assets/" + path.encode() + b" HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    )
    assert said.split(b" ", 2)[1] == b"404", said[:200]
    assert b"root:" not in said and b"import" not in said
    assert b"Traceback" not in said


def test_the_log_in_has_its_style(page: RealPage) -> None:
    assert page.ask("GET", "/assets/page.css").status == 200


def test_an_address_of_another_server_is_no_path_here(page: RealPage) -> None:
    said = page.raw(
        b"GET http://evil.example/assets/page.js HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    )
    assert said.split(b" ", 2)[1] == b"303"


# ---- too much, and too slow


def test_a_body_is_limited_with_and_without_its_length(page: RealPage) -> None:
    visitor = Visitor(page)
    assert visitor.post("/login", {"name": "x" * BODY_BYTES_MAX}).status == 413
    begin = b"POST /login HTTP/1.1\r\n" + HOST
    length = begin + b"Content-Length: 99999999999\r\n\r\n" + b"x" * 2 * BODY_BYTES_MAX
    assert page.raw(length).startswith(b"HTTP/1.1 413 ")
    piece = b"%x\r\n%b\r\n" % (BODY_BYTES_MAX, b"x" * BODY_BYTES_MAX)
    chunked = begin + b"Transfer-Encoding: chunked\r\n\r\n" + 2 * piece
    assert page.raw(chunked).startswith(b"HTTP/1.1 413 ")


def test_a_form_of_many_fields_is_no_form(page: RealPage) -> None:
    visitor = Visitor(page)
    form = {f"f{n}": n for n in range(100)} | {"name": "maria", "password": PASSWORD}
    assert visitor.post("/login", form).status == 403


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * HEADER_BYTES_MAX + b" HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * HEADER_BYTES_MAX + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * HEADER_BYTES_MAX,
    ],
)
def test_headers_are_limited(page: RealPage, head: bytes) -> None:
    assert page.raw(head).startswith(b"HTTP/1.1 400 ")  # before they are complete


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"\x00" * 100 + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /login HTTP/1.1\r\n"
        + HOST
        + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
        b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    ],
)
def test_what_is_no_request_ends_the_connection(page: RealPage, garbage: bytes) -> None:
    with page.connect() as connection:
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        said = read_all(connection)
    assert said == b"" or said.split(b" ", 2)[1] in (b"400", b"403", b"421"), said[:200]
    assert Visitor(page).get("/login").status == 200


def test_requests_that_never_complete_end_however_they_drip(page: RealPage) -> None:
    begun = {
        b"": b"",
        b"GET /login HTTP/1.1\r\n" + HOST: b"X-A: b\r\n",
        b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\nname=": b"a",
    }
    slow = {page.connect(): drip for drip in begun.values()}
    for connection, head in zip(slow, begun, strict=True):
        connection.sendall(head)
        connection.settimeout(0.2)

    def ended(connection: socket.socket) -> bool:
        try:
            connection.sendall(slow[connection])
            return connection.recv(65536) == b""
        except TimeoutError:
            return False
        except (ConnectionResetError, BrokenPipeError):
            return True

    for connection in slow:
        wait_until(lambda one=connection: ended(one), "the page to hang up")
        connection.close()
    assert Visitor(page).get("/login").status == 200
