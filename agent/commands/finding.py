"""The findings of ``check``."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

UNAVAILABLE: Final = 69  # sysexits: an external resource is absent; the agent would wait for it


class Finding(NamedTuple):
    """The result of one test."""

    ok: bool
    what: str
    detail: str
    exit_code: int = 0
    mark: Literal["ok", "warn", "unknown"] = "ok"  # if it is not a failure
