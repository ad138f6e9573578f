"""The numbers that the scripts of the page draw: JSON from the chart worker, and sparklines."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agent.page.chart_protocol import POINTS_MAX, SPARK_S, ChartError, Code
from agent.page.charts import Charts
from agent.page.rivals import in_words
from agent.page.stored import Stored
from agent.page.words import Words
from agent.store.windows import window

_STATUSES: Final[Mapping[Code, int]] = {
    "unknown": 404,
    "impossible": 409,
    "store": 503,
    "busy": 503,
    "too_long": 504,
    "ended": 503,
}
_CHANNELS_MAX: Final = 100  # named in a request
_RIVALS_KEPT_S: Final = 60.0  # an answer costs a second of the worker or more
_SPARK_KEPT_S: Final = 15.0  # many viewers see the same
_SPARKS_MAX: Final = 1000
_WIDTH, _HEIGHT = 240, 40
_SCORE_TOP: Final = 2.0  # of a sparkline, if no score is higher


class Data:
    """Answers the requests of the scripts."""

    def __init__(self, charts: Charts, stored: Stored, words: Callable[[Request], Words]) -> None:
        self._charts, self._stored, self._words = charts, stored, words
        self._rivals: dict[str, tuple[float, bytes | ChartError]] = {}  # like the sparks
        self._rivals_turn = asyncio.Lock()
        self._sparks: dict[str, tuple[float, str]] = {}  # by stream: when it was made, picture

    async def history(self, request: Request) -> Response:
        """Answer with a part of a stream's past."""
        wanted = request.query_params
        try:
            begin, end = _number(wanted, "from"), _number(wanted, "to")
            points = min(int(_number(wanted, "points", 500)), POINTS_MAX)
            channels = wanted.getlist("channel")[:_CHANNELS_MAX]
            stream = request.path_params["stream"]
            return _json(await self._charts.history(stream, begin, end, points, channels))
        except ChartError as error:
            return self._refusal(request, error)

    async def forecast(self, request: Request) -> Response:
        """Answer with a stream's forecast, and with another one for planned values."""
        plans = request.query_params.getlist("plan")[:_CHANNELS_MAX]
        try:
            return _json(await self._charts.forecast(request.path_params["stream"], plans=plans))
        except ChartError as error:
            return self._refusal(request, error)

    def _refusal(self, request: Request, error: ChartError) -> Response:
        """Return the answer to a request that could not be answered, in the viewer's words."""
        why = _why(error, self._words(request))
        return JSONResponse({"error": why}, _STATUSES.get(error.code, 400))

    async def rivals(self, request: Request) -> Response:
        """Answer with the rivals of a stream's forecast, in the viewer's words."""
        stream = request.path_params["stream"]
        async with self._rivals_turn:  # viewers who come at once wait for one answer
            made_s, answer = self._rivals.get(stream, (-math.inf, b""))
            if time.monotonic() - made_s > _RIVALS_KEPT_S:
                answer = await self._compared(stream)
        if isinstance(answer, ChartError):
            return self._refusal(request, answer)
        return JSONResponse(in_words(json.loads(answer), self._words(request)))

    async def _compared(self, stream: str) -> bytes | ChartError:
        """Ask the worker; keep its answer, and also that the history does not suffice."""
        try:
            answer: bytes | ChartError = await self._charts.rivals(stream)
        except ChartError as error:
            answer = error
            if error.code != "impossible":
                return error
        self._rivals[stream] = time.monotonic(), answer
        return answer

    async def window(self, request: Request) -> Response:
        """Answer with what the detector saw and expected around an alarm; null if it is gone."""
        stream, number = request.path_params["stream"], request.path_params["number"]
        seen = await self._stored.read(lambda reader: window(reader.query_records, stream, number))
        return JSONResponse(None if seen is None else seen.document())

    async def spark(self, request: Request) -> Response:
        """Answer with the score of the last hour as a small picture."""
        stream, now_s = request.path_params["stream"], time.time()
        made_s, picture = self._sparks.get(stream, (0.0, ""))
        if now_s - made_s > _SPARK_KEPT_S:
            try:
                found = json.loads(await self._charts.spark(stream))
            except ChartError as error:
                return self._refusal(request, error)
            picture = sparkline(found["times"], found["score_max"], now_s)
            if len(self._sparks) >= _SPARKS_MAX:  # as a stream may have any name
                self._sparks.clear()
            self._sparks[stream] = now_s, picture
        # else a browser would ask for all pictures with each refresh
        kept = {"Cache-Control": f"private, max-age={_SPARK_KEPT_S:.0f}"}
        return Response(picture, media_type="image/svg+xml", headers=kept)


def _number(wanted: QueryParams, name: str, default: float | None = None) -> float:
    """Return a number of a query.

    Raises:
        ChartError: it is absent, or no finite number.

    """
    text = wanted.get(name)
    if text is None and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError as error:
        raise ChartError("request", f"{name} must be a number") from error
    if not abs(value) < 1e15:  # also of NaN
        raise ChartError("request", f"{name} must be a number below 1e15")
    return value


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _why(error: ChartError, words: Words) -> str:
    if error.message is not None:
        return words.told.text(error.message)
    return words.text(f"undrawn.{error.code}", why=str(error))


def sparkline(times: Sequence[float], scores: Sequence[float | None], end_s: float) -> str:
    """Return an SVG picture of scores over the last hour, with a line at the threshold, 1.

    Its grays are visible on dark and on light ground, because a picture does not know its ground.
    """
    top = max([_SCORE_TOP, *(one for one in scores if one is not None)])
    parts: list[list[str]] = [[]]
    for time_s, score in zip(times, scores, strict=True):
        if score is None:
            parts.append([])
            continue
        left = _WIDTH * (1 - (end_s - time_s) / SPARK_S)
        parts[-1].append(f"{left:.1f},{_HEIGHT - 2 - (_HEIGHT - 4) * score / top:.1f}")
    limit = _HEIGHT - 2 - (_HEIGHT - 4) / top
    lines = "".join(_line(points) for points in parts if points)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        ' preserveAspectRatio="none">'
        f'<path d="M0 {limit:.1f}H{_WIDTH}" stroke="#c0504d" stroke-dasharray="4 4"/>{lines}</svg>'
    )


def _line(points: Sequence[str]) -> str:
    joined = " ".join(points if len(points) > 1 else [*points, *points])
    return f'<polyline points="{joined}" fill="none" stroke="#808890" stroke-width="2"/>'
