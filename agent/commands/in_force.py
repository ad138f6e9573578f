"""The detector that scores a stream: its own, or the one that stands in for a refused bundle.

A command that reads the stored history loads its own detector. The agent's status says which one
scores, because a copy of the bundle that ran last, or the baseline, may run in the bundle's place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from agent.bundles.ledger import copy_of
from agent.bundles.load import baseline, load
from agent.config.load import AgentConfig, StreamTable
from agent.scoring.origin import BASELINE, StandIn
from agent.store.reader import Reader
from agent.wording.message import Message, Value
from agent.wording.worded import Worded
from models.detector import Detector
from models.errors import ConfigError, DataError, StoreError
from models.messages import NoForecast


class NotForecast(Worded, ConfigError):
    """The detector of a stream has no forecaster."""


class Unforeseen(Worded, DataError):
    """No forecast is possible from this history."""


def no_forecast(key: str, made: NoForecast, **facts: Value) -> Unforeseen:
    """Return the error with this text that says why a forecast was not made."""
    reason = Message(f"forecast.{made.reason}").document()
    return Unforeseen(
        Message(f"forecast.{key}", {"reason": reason, "detail": made.detail, **facts})
    )


class InForce(NamedTuple):
    """The detector of a stream, which has a forecaster."""

    detector: Detector
    sealed: bool  # whether it is of a bundle, and not the baseline
    stands_in: StandIn | None  # what it is in place of the configured bundle; None: that bundle
    refused: str | None  # why the configured bundle is refused

    def document(self) -> dict[str, Any]:
        """Return whether it stands in for another one, ready for JSON."""
        return {"stands_in": self.stands_in, "refused": self.refused}


def in_force(config: AgentConfig, table: StreamTable, reader: Reader) -> InForce:
    """Return what scores a stream, by the agent's last status; without one, what is configured.

    Raises:
        ConfigError: it has no forecaster.
        BundleError: the bundle is refused, and nothing stands in for it.
        StoreError: the record of bundles cannot be read.

    """
    told = _told(reader, table.name)
    stands_in, why = told.get("stands_in"), (told.get("refused") or {}).get("why")
    if table.bundle is None:
        return _baseline(table, None, None)
    if stands_in == BASELINE and table.baseline is not None:
        return _baseline(table, BASELINE, why)
    if stands_in == "previous_bundle":
        copy = copy_of(config.store.directory, str(told["bundle_digest"]))
        if copy is not None:
            return _bundle(config, copy, "previous_bundle", why)
    return _bundle(config, table.bundle, None, None)


def _told(reader: Reader, stream: str) -> Mapping[str, Any]:
    """Return what the status says of a stream; nothing before the first status."""
    try:
        status = reader.status()
    except StoreError:
        return {}
    found: Mapping[str, Any] = status.get("streams", {}).get(stream, {})
    return found


def _baseline(table: StreamTable, stands_in: StandIn | None, why: str | None) -> InForce:
    assert table.baseline is not None
    detector = baseline(table.baseline)
    if detector.forecaster is None:
        raise NotForecast(Message("forecast.not_from_median", {"stream": table.name}))
    return InForce(detector, False, stands_in, why)


def _bundle(config: AgentConfig, path: Path, stands_in: StandIn | None, why: str | None) -> InForce:
    keys, signature = config.keys.directory, config.bundles.require_signature
    _, detector = load(path, config.runtime.interpreter, keys, signature)
    if detector.forecaster is None:
        raise NotForecast(Message("forecast.no_forecaster", {"bundle": str(path)}))
    return InForce(detector, True, stands_in, why)
