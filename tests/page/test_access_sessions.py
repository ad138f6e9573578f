"""Sessions and delays, by a clock that the test turns."""

from __future__ import annotations

import pytest

from agent.page.attempts import Attempts
from agent.page.sessions import SESSIONS_MAX, Sessions
from agent.users import Hashed, User

IDLE_S, AGE_S = 1800.0, 43_200.0
MARIA = User("maria", "operator", Hashed(b"salt", b"digest"))


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def users() -> dict[str, User]:
    return {"maria": MARIA}


@pytest.fixture
def sessions(clock: Clock, users: dict[str, User]) -> Sessions:
    return Sessions(lambda: users, clock, IDLE_S, AGE_S)


def test_a_token_is_new_and_long_each_time_and_so_is_that_of_the_forms(sessions: Sessions) -> None:
    made = [sessions.begin(MARIA) for _ in range(5)]
    secrets = {token for token, _ in made} | {session.csrf for _, session in made}
    assert len(secrets) == 10
    assert all(len(secret) >= 43 for secret in secrets)  # 256 bits in base64
    token, session = made[-1]
    assert sessions.use(token) is session
    assert (session.name, session.role) == ("maria", "operator")
    assert session.is_csrf(session.csrf)
    assert not any(session.is_csrf(other) for other in ("", token, made[0][1].csrf, "\ud800"))


def test_what_no_log_in_has_made_is_no_session(sessions: Sessions) -> None:
    sessions.begin(MARIA)
    assert [sessions.use(token) for token in ("", "x", "\ud800", "x" * 100_000)] == [None] * 4


def test_an_unused_session_ends_and_a_used_one_goes_on(sessions: Sessions, clock: Clock) -> None:
    token, session = sessions.begin(MARIA)
    for _ in range(3):
        clock.now_s += IDLE_S - 1
        assert sessions.use(token) is session
    clock.now_s += IDLE_S
    assert not sessions.goes_on(session)
    assert len(sessions) == 0
    assert sessions.use(token) is None


def test_no_session_lasts_for_ever(sessions: Sessions, clock: Clock) -> None:
    token, _ = sessions.begin(MARIA)
    end_s = clock.now_s + AGE_S
    while clock.now_s + 1000 < end_s:
        clock.now_s += 1000
        assert sessions.use(token) is not None
    clock.now_s = end_s
    assert sessions.use(token) is None


@pytest.mark.parametrize(
    "changed",
    [None, MARIA._replace(role="reader"), MARIA._replace(password=Hashed(b"salt", b"another"))],
)
def test_a_session_ends_when_its_user_is_changed(
    sessions: Sessions, users: dict[str, User], changed: User | None
) -> None:
    token, _ = sessions.begin(MARIA)
    if changed is None:
        del users["maria"]
    else:
        users["maria"] = changed
    assert sessions.use(token) is None
    users["maria"] = MARIA
    assert sessions.use(token) is None  # it does not come back


def test_a_log_out_ends_one_session(sessions: Sessions) -> None:
    (one, session), (other, _) = sessions.begin(MARIA), sessions.begin(MARIA)
    assert sessions.end(one) is session
    assert sessions.end(one) is None
    assert not sessions.goes_on(session)
    assert sessions.use(one) is None
    assert sessions.use(other) is not None


def test_their_number_is_limited_of_a_user_and_in_all(
    sessions: Sessions, users: dict[str, User]
) -> None:
    tokens = [sessions.begin(MARIA)[0] for _ in range(11)]
    assert [sessions.use(token) is None for token in tokens] == [True] + [False] * 10
    for number in range(SESSIONS_MAX + 5):
        users[f"u{number}"] = MARIA._replace(name=f"u{number}")
        sessions.begin(users[f"u{number}"])
    assert len(sessions) == SESSIONS_MAX


# ---- delays


def fail(attempts: Attempts, times: int, name: str = "maria", address: str = "192.0.2.1") -> None:
    for _ in range(times):
        attempts.failed(name, address)


def test_the_delay_grows_with_each_failure_up_to_a_limit(clock: Clock) -> None:
    attempts = Attempts(clock)
    delays = []
    for _ in range(12):
        fail(attempts, 1)
        delays.append(attempts.left_s("maria", "192.0.2.1"))
    assert delays == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    clock.now_s += 59.0
    assert attempts.left_s("maria", "192.0.2.1") == 1.0
    clock.now_s += 1.0
    assert attempts.left_s("maria", "192.0.2.1") == 0.0


def test_many_addresses_for_one_name_and_many_names_from_one_address_wait(clock: Clock) -> None:
    attempts = Attempts(clock)
    for number in range(20):
        fail(attempts, 1, address=f"192.0.2.{number}")
    assert attempts.left_s("maria", "198.51.100.1") == 10.0
    for number in range(20):
        fail(attempts, 1, f"u{number}", "203.0.113.1")
    assert attempts.left_s("jo", "203.0.113.1") == 60.0
    assert attempts.left_s("jo", "198.51.100.1") == 0.0


def test_one_network_of_ipv6_is_one_address(clock: Clock) -> None:
    attempts = Attempts(clock)
    for number in range(20):
        fail(attempts, 1, f"u{number}", f"2001:db8::{number:x}")
    assert attempts.left_s("jo", "2001:db8::ffff:1") == 60.0
    assert attempts.left_s("jo", "2001:db8:0:1::1") == 0.0
    fail(attempts, 10, "jo", "fe80::1%eth0")
    fail(attempts, 10, "jo", "no address")
    assert attempts.left_s("tom", "fe80::2") == attempts.left_s("tom", "no address") == 60.0


def test_who_has_logged_in_before_does_not_wait_for_what_others_do(clock: Clock) -> None:
    attempts = Attempts(clock)
    attempts.succeeded("maria", "192.0.2.9")
    for number in range(50):
        fail(attempts, 1, address=f"198.51.100.{number}")
    assert attempts.left_s("maria", "192.0.2.9") == 0.0
    assert attempts.left_s("maria", "192.0.2.10") == 10.0
    fail(attempts, 5, address="192.0.2.9")
    assert attempts.left_s("maria", "192.0.2.9") == 4.0


def test_a_success_is_the_end_of_the_delay_and_old_failures_are_forgotten(clock: Clock) -> None:
    attempts = Attempts(clock)
    fail(attempts, 5)
    attempts.succeeded("maria", "192.0.2.1")
    fail(attempts, 1)
    assert attempts.left_s("maria", "192.0.2.1") == 0.0
    fail(attempts, 5, "tom", "192.0.2.2")
    clock.now_s += 900.0
    fail(attempts, 1, "tom", "192.0.2.2")
    assert attempts.left_s("tom", "192.0.2.2") == 0.0


def test_a_flood_of_addresses_and_names_takes_bounded_memory_and_forgets_the_oldest(
    clock: Clock,
) -> None:
    attempts = Attempts(clock)
    fail(attempts, 5, "first", "192.0.2.1")
    for number in range(1000):
        fail(attempts, 1, f"u{number}", f"10.0.{number // 250}.{number % 250}")
    assert attempts.left_s("first", "192.0.2.1") == 0.0
    assert attempts.left_s("u999", "10.0.3.249") == 0.0
