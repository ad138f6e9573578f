"""The page as an ASGI application: which address shows which view."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from agent.commands.alarms.listed import NoSuchAlarm
from agent.commands.running import ask_running
from agent.control.protocol import ROLES
from agent.page import actions, alarms, events, health, overview, streams
from agent.page.access import Notice, Why, fields, inside
from agent.page.actions import Asked
from agent.page.charts import Charts
from agent.page.data import Data
from agent.page.described import Described
from agent.page.offsets import utc_offsets
from agent.page.sessions import Session
from agent.page.stored import Stored
from agent.page.watch import Watch
from agent.page.words import LANGUAGE_COOKIE, THEME_COOKIE, THEMES, Languages, Words
from agent.wording.english_page import TEXTS
from models import __version__
from models.errors import FieldwatchError, StoreError

ASSETS: Final = Path(__file__).parent / "assets"
_YEAR_S: Final = 366 * 86_400
_CHART_WORDS: Final = tuple(
    key.removeprefix("page.chart.") for key in TEXTS if key.startswith("page.chart.")
)


class _Number(Convertor[int]):
    """The number of an alarm in an address; Starlette's own takes any, also what SQLite cannot."""

    regex = "[0-9]{1,15}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("alarm", _Number())


class Page:
    """The views of one agent's store, and the actions through its control socket.

    Args:
        config_file: The agent's configuration.
        store: The directory of the agent's database.
        viewers_max: Browsers that are told of changes at the same time.

    """

    def __init__(self, config_file: Path, store: Path, viewers_max: int = 100) -> None:
        self._config_file, self._viewers_max = config_file, viewers_max
        self.stored = Stored(store)
        self.watch = Watch(self.stored)
        self._look = overview.Look()
        self._charts = Charts(config_file)
        self._data = Data(self._charts, self.stored, self._words)
        self._described = Described(self._charts)
        self._languages = Languages(config_file)
        self._templates = Environment(
            loader=PackageLoader("agent.page"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def app(self) -> Starlette:
        """Return the application."""
        return Starlette(
            routes=[
                Route("/", self._overview),
                Route("/alarms", self._alarms),
                Route("/alarms/{stream}/acknowledge-group", self._group, methods=["POST"]),
                Route("/alarms/{stream}/acknowledge-group", _to_list),
                Route("/alarms/{stream}/{number:alarm}", self._alarm),
                Route("/alarms/{stream}/{number:alarm}/window.json", self._data.window),
                Route("/alarms/{stream}/{number:alarm}/{verb}", self._act, methods=["POST"]),
                Route("/alarms/{stream}/{number:alarm}/{verb}", _to_alarm),
                Route("/streams/{stream}", self._stream),
                Route("/streams/{stream}/history.json", self._data.history),
                Route("/streams/{stream}/forecast.json", self._data.forecast),
                Route("/streams/{stream}/rivals.json", self._data.rivals),
                Route("/streams/{stream}/spark.svg", self._data.spark),
                Route("/health", self._health),
                Route("/about", self._about),
                Route("/preferences", self._preferences),
                Route("/events", self._events),
                Mount("/assets", StaticFiles(directory=ASSETS)),
            ],
            middleware=[Middleware(GZipMiddleware, minimum_size=500)],
            exception_handlers={
                404: self._not_found,
                NoSuchAlarm: self._not_found,
                streams.NoSuchStream: self._not_found,
                StoreError: self._no_store,
            },
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await self._described.close()
        await self._charts.close()
        await self.stored.close()

    # views

    async def _overview(self, request: Request) -> Response:
        words = self._words(request)
        found = await self.stored.read_together(self._look)
        watching = (await self.watch.now()).life.watching
        cards = list(overview.cards(found, words, self._described.known(), watching))
        return await self._render(request, "overview", words, cards=cards)

    async def _alarms(self, request: Request) -> Response:
        words, which = self._words(request), request.query_params.get("show", "open")
        if which not in alarms.FILTERS:
            which = "open"
        found = await self.stored.read_together(alarms.read_list)
        sections = list(alarms.sections(found, which, words))
        return await self._render(
            request, "alarms", words, sections=sections, which=which, filters=alarms.FILTERS
        )

    async def _alarm(self, request: Request) -> Response:
        return await self._show_alarm(request)

    async def _show_alarm(
        self,
        request: Request,
        error: str | None = None,
        given: Mapping[str, str] | None = None,
        status: int = 200,
    ) -> Response:
        """Show an alarm; ``error`` and ``given``: why a request was not done, and its fields."""
        stream, number = request.path_params["stream"], request.path_params["number"]
        found = await self.stored.read(lambda reader: alarms.read_one(reader, stream, number))
        words = self._words(request)
        detail = alarms.detail(found, words)
        return await self._render(
            request, "alarm", words, status, alarm=detail, error=error, given=given or {}
        )

    async def _stream(self, request: Request) -> Response:
        words, name = self._words(request), request.path_params["stream"]
        found = await self.stored.read(lambda reader: streams.read(reader, name, self._look))
        watching = (await self.watch.now()).life.watching
        detail = streams.detail(name, found, words, self._described.known(), watching)
        return await self._render(request, "stream", words, stream=detail)

    async def _health(self, request: Request) -> Response:
        words = self._words(request)
        found = await self.stored.read_together(self._look)
        seen = await self.watch.now()
        sections = list(health.sections(found.status, seen.life, words))
        return await self._render(request, "health", words, sections=sections)

    async def _about(self, request: Request) -> Response:
        words = self._words(request)
        now = words.moments.full(words.moments.now.isoformat())
        return await self._render(request, "about", words, gateway_now=now)

    # actions

    async def _act(self, request: Request) -> Response:
        path, form = request.path_params, await form_of(request)
        return await self._ask(
            request, lambda: actions.asked(path["stream"], path["number"], path["verb"], form), form
        )

    async def _group(self, request: Request) -> Response:
        form = await form_of(request)
        stream = request.path_params["stream"]
        try:
            asked = actions.asked_of_group(stream, form)
            await self._request(request, asked)
        except FieldwatchError as error:
            text = self._words(request).error(error)
            return await self._failed(request, text, actions.status_of(error))
        return RedirectResponse("/alarms", 303)

    async def _ask(
        self, request: Request, read: Callable[[], Asked], form: Mapping[str, str]
    ) -> Response:
        """Send a request to the agent, and show the alarm as it is then."""
        try:
            await self._request(request, read())
        except FieldwatchError as error:
            text = self._words(request).error(error)
            return await self._show_alarm(request, text, form, actions.status_of(error))
        return RedirectResponse(f"{_place(request)}?done=1", 303)

    async def _request(self, request: Request, asked: Asked) -> dict[str, Any]:
        """Ask the agent, for the person who is logged in."""
        session = _session(request)
        person = None if session is None else session.person
        return await asyncio.to_thread(
            ask_running, self._config_file, asked.verb, asked.arguments, person=person
        )

    # who may: see ``agent.page.access``

    async def log_in(
        self, request: Request, notice: Notice | None, wait_s: int, after: str
    ) -> Response:
        """Show the form to log in, and nothing of the store."""
        words = self._words(request)
        text = self._templates.get_template("login.html").render(
            t=words.text, words=words, notice=notice, wait_s=str(wait_s), after=after
        )
        return HTMLResponse(text)

    async def refused(self, request: Request, why: Why) -> Response:
        """Say why a request was not done."""
        return await self._failed(request, self._words(request).text(f"refused.{why}"), 403)

    # the rest

    async def _preferences(self, request: Request) -> Response:
        """Keep the language or the theme in a cookie, and go back."""
        wanted = request.query_params
        answer = RedirectResponse(inside(wanted.get("back", "/")), 303)
        if (name := wanted.get("language")) in self._languages.names:
            answer.set_cookie(LANGUAGE_COOKIE, str(name), max_age=_YEAR_S, samesite="lax")
        if (theme := wanted.get("theme")) in THEMES:
            answer.set_cookie(THEME_COOKIE, str(theme), max_age=_YEAR_S, samesite="lax")
        return answer

    async def _events(self, request: Request) -> Response:
        answer = events.response(request, self.watch, self._viewers_max)
        return answer or PlainTextResponse("too many viewers", 503)

    def _words(self, request: Request) -> Words:
        accepted = request.headers.get("accept-language", "")
        return self._languages.words(request.cookies, accepted)

    async def _render(
        self, request: Request, name: str, words: Words, status: int = 200, **context: Any
    ) -> Response:
        seen = await self.watch.now()
        session = _session(request)
        text = self._templates.get_template(f"{name}.html").render(
            t=words.text,
            words=words,
            seen=seen,
            view=name,
            path=request.url.path,
            done="done" in request.query_params,
            version=__version__,
            symbols=overview.SYMBOLS,
            session=session,
            may={role: session is not None and session.person.may(role) for role in ROLES},
            chart_words=chart_words(words),
            **context,
        )
        return HTMLResponse(text, status)

    async def _not_found(self, request: Request, error: Exception) -> Response:
        words, path = self._words(request), request.path_params
        if isinstance(error, NoSuchAlarm):
            number = str(path["number"])
            text = words.text("no_alarm", stream=path["stream"], number=number)
        elif isinstance(error, FieldwatchError):
            text = words.error(error)
        else:
            text = words.text("not_found")
        return await self._failed(request, text, 404)

    async def _no_store(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, StoreError)
        return await self._failed(request, self._words(request).error(error), 503)

    async def _failed(self, request: Request, text: str, status: int) -> Response:
        if "json" in request.headers.get("accept", ""):
            return JSONResponse({"error": text}, status)
        return await self._render(request, "error", self._words(request), status, text=text)


def chart_words(words: Words) -> str:
    """Return what the script of the charts needs to know of the reader, as JSON."""
    known = {name: words.text(f"chart.{name}") for name in _CHART_WORDS}
    now_s = words.moments.now.timestamp()
    return json.dumps(known | {"now_s": now_s, "offsets": utc_offsets(now_s)})


async def _to_list(_: Request) -> Response:
    """Go to the list: a refused form leaves its address in the browser, which may load it again."""
    return RedirectResponse("/alarms", 303)


async def _to_alarm(request: Request) -> Response:
    """Go to the alarm of a form; see ``_to_list``."""
    return RedirectResponse(_place(request), 303)


def _place(request: Request) -> str:
    return f"/alarms/{request.path_params['stream']}/{request.path_params['number']}"


def _session(request: Request) -> Session | None:
    """Return the log-in of a request; None also without the guard before the views."""
    found: Session | None = getattr(request.state, "session", None)
    return found


async def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form; of a field that comes twice, the last one."""
    return fields(request, await request.body())
