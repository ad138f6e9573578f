"""Who is logged in at the page: sessions in memory, and nothing on the disk.

A session ends with the page's process. The page does not end by itself while somebody is logged
in, so this happens at a restart only. A secret that signs cookies would survive that, but then a
stolen cookie could not be ended by a log-out, and the secret would have to be kept somewhere.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.control.protocol import Person, Role
from agent.users import User, Users

SESSIONS_MAX: Final = 200
_OF_ONE_USER_MAX: Final = 10  # browsers
_TOKEN_BYTES: Final = 32

Key = bytes  # the digest of a token: to look one up takes no time that would tell the token


@dataclass
class Session:
    """A log-in of a user, for the views."""

    user: User
    csrf: str  # each form must send it back
    begun_s: float  # steady time
    used_s: float

    @property
    def name(self) -> str:
        """The user's name."""
        return self.user.name

    @property
    def role(self) -> Role:
        """The user's role."""
        return self.user.role

    @property
    def person(self) -> Person:
        """Who this is to the agent."""
        return self.user.person

    def is_csrf(self, token: str) -> bool:
        """Whether this is the token of the session's forms."""
        return hmac.compare_digest(self.csrf.encode(), token.encode(errors="replace"))


class Sessions:
    """All sessions; all calls come from one thread.

    Args:
        users: Returns the users as they are now: a session ends when its user is changed.
        now_s: Steady time.
        idle_s: A session ends after this time without use.
        age_s: A session ends after this time in any case.

    """

    def __init__(
        self, users: Callable[[], Users], now_s: Callable[[], float], idle_s: float, age_s: float
    ) -> None:
        self._users, self._now_s = users, now_s
        self._idle_s, self._age_s = idle_s, age_s
        self._sessions: dict[Key, Session] = {}  # the one that was used last is the last

    def begin(self, user: User) -> tuple[str, Session]:
        """Return the token of a new session, for a cookie, and the session."""
        self._drop_ended()
        own = [key for key, one in self._sessions.items() if one.name == user.name]
        for key in own[: max(0, len(own) + 1 - _OF_ONE_USER_MAX)]:
            del self._sessions[key]
        if len(self._sessions) >= SESSIONS_MAX:
            del self._sessions[next(iter(self._sessions))]
        token, now_s = secrets.token_urlsafe(_TOKEN_BYTES), self._now_s()
        session = Session(user, secrets.token_urlsafe(_TOKEN_BYTES), now_s, now_s)
        self._sessions[_key(token)] = session
        return token, session

    def use(self, token: str) -> Session | None:
        """Return the session of a token, which is used now; None: it has ended, or never began."""
        session = self._sessions.pop(_key(token), None)
        if session is None or not self.goes_on(session):
            return None
        session.used_s = self._now_s()
        self._sessions[_key(token)] = session
        return session

    def goes_on(self, session: Session) -> bool:
        """Whether a session has not expired, and its user is still as at the log-in."""
        now_s = self._now_s()
        fresh = now_s - session.used_s < self._idle_s and now_s - session.begun_s < self._age_s
        return fresh and self._users().get(session.name) == session.user

    def end(self, token: str) -> Session | None:
        """End the session of a token; return it."""
        session = self._sessions.pop(_key(token), None)
        if session is not None:
            session.used_s = -float("inf")  # an answer that is still being sent sees the end
        return session

    def __len__(self) -> int:
        """Return the number of sessions that have not ended."""
        self._drop_ended()
        return len(self._sessions)

    def _drop_ended(self) -> None:
        for key in [key for key, one in self._sessions.items() if not self.goes_on(one)]:
            del self._sessions[key]


def _key(token: str) -> Key:
    return hashlib.sha256(token.encode(errors="replace")).digest()
