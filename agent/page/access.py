"""Who may see and do what on the page: between the server and the views.

    request ─> name of the host ─> session ─┬─ GET ──────────────────────────> views
                                            └─ POST ─> origin ─> token ─> role ─> views

Without a file of users everybody who reaches the page may read it, and nobody may do anything.
With one, all but the log-in and the assets needs a session.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from html import escape
from typing import Final, Literal, NamedTuple, Protocol
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.control.protocol import is_person_name
from agent.page.attempts import Attempts
from agent.page.limits import BODY_BYTES_MAX, Gone, TooLarge, given_back, read_body
from agent.page.security import ASSETS, is_same_origin
from agent.page.sessions import Session, Sessions
from agent.users import Accounts, User, verified

_LOG = logging.getLogger(__name__)

LOG_IN: Final = "/login"
LOG_OUT: Final = "/logout"
_PREFERENCES: Final = "/preferences"  # language and theme, for the log-in too
CSRF_FIELD: Final = "csrf"
CSRF_HEADER: Final = "x-csrf-token"
_WAITING_MAX: Final = 8  # attempts to log in: each takes memory and time
_FIELDS_MAX: Final = 50  # of a form
_PATH_CHARS_MAX: Final = 2000
_LOOK_S: Final = 5.0  # at whether a session goes on, while an answer is being sent
_FORM: Final = "application/x-www-form-urlencoded"

Notice = Literal["wrong", "wait", "busy", "ended", "no_users", "trouble"]
Why = Literal["read_only", "reader", "token"]


class Views(Protocol):
    """What the page shows of this, in the reader's language."""

    async def log_in(
        self, request: Request, notice: Notice | None, wait_s: int, after: str
    ) -> Response:
        """Show the form; ``after`` is the path to go to then."""
        ...

    async def refused(self, request: Request, why: Why) -> Response:
        """Say why a request was not done, to somebody who may see the page."""
        ...


class Passed(NamedTuple):
    """A request that goes on to the views, with what receives its body."""

    receive: Receive


class Access:
    """The page's application, guarded.

    A view finds the ``Session`` or None in ``request.state.session``.

    Args:
        app: The views.
        views: What they show of this.
        accounts: The users; None: everybody may read.
        tls: Whether browsers must send the page's cookie by TLS only.
        idle_s: A session ends after this time without use.
        age_s: A session ends after this time in any case.
        now_s: Steady time.

    """

    def __init__(
        self,
        app: ASGIApp,
        views: Views,
        accounts: Accounts | None,
        tls: bool,
        idle_s: float,
        age_s: float,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._views, self._accounts, self._tls = app, views, accounts, tls
        users = accounts.users if accounts is not None else dict[str, User]
        self._sessions = Sessions(users, now_s, idle_s, age_s)
        self._attempts = Attempts(now_s)
        # with the prefix, browsers take the cookie from this host alone, and by TLS only
        self._cookie = "__Host-fieldwatch" if tls else "fieldwatch"
        self._verifier = ThreadPoolExecutor(1, "log-in")
        self._turn, self._waiting = asyncio.Lock(), 0

    @property
    def in_use(self) -> bool:
        """Whether somebody is logged in."""
        return len(self._sessions) > 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the views answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        session = self._sessions.use(request.cookies.get(self._cookie, ""))
        scope.setdefault("state", {})["session"] = session
        outcome = await self._outcome(request, session)
        if isinstance(outcome, Passed):
            await self._pass_on(scope, outcome.receive, send, session)
        else:
            await outcome(scope, receive, send)

    async def _outcome(self, request: Request, session: Session | None) -> Response | Passed:
        if request.method in ("GET", "HEAD"):
            return await self._get(request, session)
        if request.method == "POST":
            return await self._post(request, session)
        return _plain("This page knows GET, HEAD and POST.", 405)

    # ---- reading

    async def _get(self, request: Request, session: Session | None) -> Response | Passed:
        path = request.scope["path"]
        if path == LOG_IN:
            return await self._show_log_in(request, session)
        public = path == _PREFERENCES or path.startswith(ASSETS)
        if session is not None or self._accounts is None or public:
            return Passed(request.receive)
        if request.headers.get("sec-fetch-site") == "cross-site":
            return _once_more(request)
        if _is_program(request):
            return _plain("Log in first.", 401)
        return _to_log_in(_asked_for(request))

    async def _show_log_in(self, request: Request, session: Session | None) -> Response:
        after = inside(request.query_params.get("next", "/"))
        if session is not None or self._accounts is None:
            return RedirectResponse(after, 303)
        notice: Notice | None = "ended" if "ended" in request.query_params else None
        return await self._form(request, self._accounts, notice, after)

    async def _form(
        self,
        request: Request,
        accounts: Accounts,
        notice: Notice | None,
        after: str,
        wait_s: float = 0.0,
        status: int = 200,
    ) -> Response:
        if not accounts.users():
            notice = "no_users" if accounts.trouble is None else "trouble"
        answer = await self._views.log_in(request, notice, math.ceil(wait_s), after)
        answer.status_code = status
        return answer

    # ---- doing

    async def _post(self, request: Request, session: Session | None) -> Response | Passed:
        try:
            body = await read_body(request.receive)
        except TooLarge:
            return _closing(f"A request has at most {BODY_BYTES_MAX} bytes.", 413)
        except Gone:
            return _closing("The request is not complete.", 400)
        if not is_same_origin(request.headers):
            return _plain("This request came from another site, and was not done.", 403)
        path, form = request.scope["path"], fields(request, body)
        if path == LOG_IN and self._accounts is not None:
            return await self._log_in(request, self._accounts, form)
        if session is None:
            return await self._without_session(request)
        if not session.is_csrf(request.headers.get(CSRF_HEADER) or form.get(CSRF_FIELD, "")):
            return await self._views.refused(request, "token")
        if path == LOG_OUT:
            return self._log_out(request)
        if not session.person.may("operator"):
            return await self._views.refused(request, "reader")
        return Passed(given_back(body, request.receive))

    async def _without_session(self, request: Request) -> Response:
        if self._accounts is None:
            return await self._views.refused(request, "read_only")
        return _to_log_in(_shown_before(request), ended=True)

    def _log_out(self, request: Request) -> Response:
        session = self._sessions.end(request.cookies.get(self._cookie, ""))
        if session is not None:
            _LOG.info("log-out of %s at %s", session.name, _address(request))
        answer = RedirectResponse(LOG_IN, 303)
        answer.delete_cookie(self._cookie, secure=self._tls, httponly=True, samesite="strict")
        return answer

    # ---- the log-in

    async def _log_in(
        self, request: Request, accounts: Accounts, form: Mapping[str, str]
    ) -> Response:
        after = inside(form.get("next", "/"))
        if self._waiting >= _WAITING_MAX:
            return await self._form(request, accounts, "busy", after, status=503)
        self._waiting += 1
        try:
            async with self._turn:  # so that attempts at the same time do not share one delay
                return await self._attempt(request, accounts, form, after)
        finally:
            self._waiting -= 1

    async def _attempt(
        self, request: Request, accounts: Accounts, form: Mapping[str, str], after: str
    ) -> Response:
        name, address = form.get("name", "").strip(), _address(request)
        counted = name if is_person_name(name) else ""  # not what somebody typed in by mistake
        if (wait_s := self._attempts.left_s(counted, address)) > 0:
            answer = await self._form(request, accounts, "wait", after, wait_s, 429)
            answer.headers["Retry-After"] = str(math.ceil(wait_s))
            return answer
        user = await self._verified(accounts, name, form.get("password", ""))
        if user is None:
            self._attempts.failed(counted, address)
            known = name if name in accounts.users() else "an unknown name"
            _LOG.warning("log-in refused: wrong password of %s from %s", known, address)
            return await self._form(request, accounts, "wrong", after, status=403)
        self._attempts.succeeded(counted, address)
        _LOG.info("log-in of %s (%s) from %s", user.name, user.role, address)
        return self._begun(request, user, after)

    async def _verified(self, accounts: Accounts, name: str, password: str) -> User | None:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._verifier, verified, accounts.users(), name, password
        )

    def _begun(self, request: Request, user: User, after: str) -> Response:
        """Begin a session; its token is new, whatever cookie the browser had."""
        self._sessions.end(request.cookies.get(self._cookie, ""))
        token, _ = self._sessions.begin(user)
        answer = RedirectResponse(after, 303)
        answer.set_cookie(
            self._cookie, token, path="/", secure=self._tls, httponly=True, samesite="strict"
        )
        return answer

    # ---- what the views answer

    async def _pass_on(
        self, scope: Scope, receive: Receive, send: Send, session: Session | None
    ) -> None:
        """Let the views answer; the answer ends when the session does, such as one of events."""
        if session is None:
            await self._app(scope, receive, send)
            return
        begun, complete = False, False

        async def sending(message: Message) -> None:
            nonlocal begun, complete
            begun = True
            complete = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        await self._app(scope, self._until_the_end(session, receive), sending)
        if begun and not complete:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _until_the_end(self, session: Session, receive: Receive) -> Receive:
        """Return a ``receive`` that says that the client has gone once the session has ended."""

        async def receiving() -> Message:
            message = asyncio.ensure_future(receive())
            try:
                while not message.done() and self._sessions.goes_on(session):
                    await asyncio.wait({message}, timeout=_LOOK_S)
                return message.result() if message.done() else {"type": "http.disconnect"}
            finally:
                message.cancel()

        return receiving


def inside(path: str) -> str:
    """Return a path of this page to go to; what would lead elsewhere becomes the first view."""
    elsewhere = path[:1] != "/" or path[1:2] in ("/", "\\") or not path.isprintable()
    own = path.partition("?")[0] in (LOG_IN, LOG_OUT)
    return "/" if elsewhere or own or len(path) > _PATH_CHARS_MAX else path


def _asked_for(request: Request) -> str:
    query = request.url.query
    return inside(request.scope["path"] + (f"?{query}" if query else ""))


def _shown_before(request: Request) -> str:
    """Return the path of the view with the form that was sent: a browser names it."""
    return inside(urlsplit(request.headers.get("referer", "")).path or "/")


def _to_log_in(after: str, ended: bool = False) -> Response:
    return RedirectResponse(f"{LOG_IN}?next={quote(after)}{'&ended' if ended else ''}", 303)


def _once_more(request: Request) -> Response:
    """Let the page ask itself: with a link from elsewhere, a strict cookie is not sent."""
    path = escape(quote(_asked_for(request), safe="/?=&%"))
    text = '<!doctype html><meta charset="utf-8"><title>Fieldwatch</title>'
    return HTMLResponse(f'{text}<meta http-equiv="refresh" content="0;url={path}">')


def _is_program(request: Request) -> bool:
    """Whether a script asks for data, which cannot use the form of the log-in."""
    accepted = request.headers.get("accept", "")
    return accepted.startswith(("application/json", "text/event-stream"))


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else "an unknown address"


def fields(request: Request, body: bytes) -> dict[str, str]:
    """Return the fields of a form, of one that comes twice the last; {} if it is no such form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM:
        return {}
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=_FIELDS_MAX))
    except ValueError:  # too many
        return {}


def _plain(text: str, status: int) -> Response:
    return PlainTextResponse(f"{text}\n", status)


def _closing(text: str, status: int) -> Response:
    """Return an answer to a request that was not read to its end."""
    return PlainTextResponse(f"{text}\n", status, {"Connection": "close"})
