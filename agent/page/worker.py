"""Answers requests for charts, in a process of its own: ``python -m agent.page.worker CONFIG``.

It loads numpy, pydantic and the interpreter, which the page's process does without. It answers one
request at a time until its input ends. A defect ends it, with its trace on the error output.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from agent.page import drawn
from agent.page.chart_protocol import (
    ANSWER_BYTES_MAX,
    OK,
    POINTS_MAX,
    ChartError,
    Code,
    answer,
)
from agent.wording.worded import message_in
from models import console
from models.errors import BundleError, ConfigError, DataError, FieldwatchError, StoreError
from models.printable import json_text, printable_lines
from models.settings import Table, explain
from models.validation import Field, ValidationError

_NICENESS: Final = 5  # a chart can wait, the agent cannot
_TIME_S_MAX: Final = 1e11  # the year 5138
_CODES: Final[Mapping[type[FieldwatchError], Code]] = {
    ConfigError: "configuration",
    DataError: "impossible",
    StoreError: "store",
    BundleError: "bundle",
}

_Time = Annotated[float, Field(ge=0, le=_TIME_S_MAX, allow_inf_nan=False)]


class _Request(Table):
    def document(self, config_file: Path) -> dict[str, Any] | None:
        """Return what is asked for, ready for JSON."""
        raise NotImplementedError


class _History(_Request):
    stream: str
    from_s: _Time
    to_s: _Time
    points_max: int = Field(ge=1, le=POINTS_MAX)
    channels: list[str]

    def document(self, config_file: Path) -> dict[str, Any]:
        if self.from_s >= self.to_s:
            raise ChartError("request", "the end of a history must be after its beginning")
        return drawn.history(
            config_file, self.stream, self.from_s, self.to_s, self.points_max, self.channels
        )


class _Forecast(_Request):
    stream: str
    settings: list[str]
    plans: list[str]
    horizon_steps: Annotated[int, Field(ge=1)] | None

    def document(self, config_file: Path) -> dict[str, Any]:
        return drawn.forecast(
            config_file, self.stream, self.settings, self.plans, self.horizon_steps
        )


class _Rivals(_Request):
    stream: str

    def document(self, config_file: Path) -> dict[str, Any]:
        return drawn.rivals(config_file, self.stream)


class _Spark(_Request):
    stream: str

    def document(self, config_file: Path) -> dict[str, Any]:
        return drawn.spark(config_file, self.stream, time.time())


class _Describe(_Request):
    def document(self, config_file: Path) -> dict[str, Any]:
        return drawn.describe(config_file)


# another kind of request is a line here, its class, and a function of ``drawn``
_KINDS: Final[Mapping[str, type[_Request]]] = {
    "history": _History,
    "forecast": _Forecast,
    "rivals": _Rivals,
    "spark": _Spark,
    "describe": _Describe,
}


def answered(config_file: Path, line: bytes) -> bytes:
    """Return the answer to a request, head and body; what cannot be done is an answer, too."""
    try:
        body = json_text(_request(line).document(config_file)).encode()
        if len(body) > ANSWER_BYTES_MAX:
            raise ChartError(
                "too_large",
                f"the chart has {len(body)} bytes, {ANSWER_BYTES_MAX} are allowed: ask for fewer"
                " channels or points",
            )
    except FieldwatchError as error:
        code = _code(error)
        told = ChartError(code, printable_lines(str(error)), message_in(error))
        return answer(code, told.body())
    return answer(OK, body)


def _request(line: bytes) -> _Request:
    try:
        document = json.loads(line)
        kind = _KINDS[document.pop("what")]
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise ChartError("request", f"this is no request for a chart: {error!r}") from error
    try:
        return kind.model_validate(document, strict=True)
    except ValidationError as error:
        raise ChartError("request", "; ".join(explain(kind, error))) from error


def _code(error: FieldwatchError) -> Code:
    if isinstance(error, ChartError):
        return error.code
    codes = (code for kind, code in _CODES.items() if isinstance(error, kind))
    return next(codes, "bundle")  # no interpreter, for example


def main() -> None:
    """Answer until the page closes the pipe."""
    console.begin()
    os.nice(_NICENESS)
    config_file = Path(sys.argv[1])
    with contextlib.suppress(BrokenPipeError), os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # for whatever a library prints
        while line := sys.stdin.buffer.readline():
            answers.write(answered(config_file, line))
            answers.flush()


if __name__ == "__main__":
    main()
