"""The state of a fleet: of each stream its bundle, its age and figures, and the last run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from models import bundle as bundles
from models.bundle import Bundle
from models.errors import BundleError, BundleMissing
from models.shown import shown
from trainer.fleet import records
from trainer.fleet.config import FleetFile, Stream
from trainer.fleet.outcome import Figures
from trainer.fleet.overview import duration
from trainer.fleet.stream import bundle_path, registry_of

_DAY_S = 86400.0


class Champion(NamedTuple):
    """The bundle that a stream uses: the registry's champion, or else that in the output folder."""

    promoted: bool
    version: int  # of the bundle
    digest: str
    created: datetime
    figures: Figures


class StreamStatus(NamedTuple):
    """The state of one stream."""

    name: str
    champion: Champion | None
    trouble: str  # why there is none, if its file is damaged
    age_s: float | None  # of the champion
    last_run: dict[str, Any] | None  # its record
    last_validation: dict[str, Any] | None

    def document(self) -> dict[str, Any]:
        """Return the state, ready for JSON."""
        champion = self.champion
        return {
            "stream": self.name,
            "champion": None
            if champion is None
            else {
                "promoted": champion.promoted,
                "version": champion.version,
                "digest": champion.digest,
                "created": champion.created.isoformat().replace("+00:00", "Z"),
                "age_s": self.age_s,
                "events_per_day": champion.figures.events_per_day,
                "f1": champion.figures.f1,
                "network_bytes": champion.figures.network_bytes,
            },
            "trouble": self.trouble,
            "last_run": self.last_run,
            "last_validation": self.last_validation,
        }


def of(file: FleetFile, now: datetime | None = None) -> list[StreamStatus]:
    """Return the state of each stream.

    Args:
        file: of the fleet.
        now: the time that ages are counted to; None: this moment.

    Raises:
        DataError: a record is damaged.
        RegistryError: the registry cannot be reached.

    """
    at = now or datetime.now(UTC)
    return [_of_stream(file, stream, at) for stream in file.streams.values()]


def _of_stream(file: FleetFile, stream: Stream, now: datetime) -> StreamStatus:
    champion, trouble = _registered(stream), ""
    try:
        if champion is None:
            champion = _champion(bundles.read(bundle_path(file.output, stream.bundle)))
    except BundleMissing:
        pass
    except BundleError as error:
        trouble = str(error)
    return StreamStatus(
        stream.name,
        champion,
        trouble,
        None if champion is None else (now - champion.created).total_seconds(),
        records.last(file.output, stream.name, "train"),
        records.last(file.output, stream.name, "validate"),
    )


def _registered(stream: Stream) -> Champion | None:
    """Return the champion of the registry, if there is one."""
    registry = registry_of(stream)
    found = None if registry is None else registry.champion(stream.bundle)
    if found is None:
        return None
    hits, missed, false, size = (_whole(found.metrics.get(name)) for name in _COUNTS)
    rate = found.metrics.get("test/normal.events_per_day")
    return Champion(
        True,
        found.bundle_version,
        found.digest,
        datetime.fromisoformat(found.trained),
        Figures(rate, hits, missed, false, size),
    )


_COUNTS: Final = (
    "evaluate/labelled.true_positives",
    "evaluate/labelled.false_negatives",
    "evaluate/labelled.false_positives",
    "bundle/network.size_bytes",
)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _champion(bundle: Bundle) -> Champion:
    manifest = bundle.manifest
    created = datetime.fromisoformat(manifest.created)
    return Champion(False, manifest.version, bundle.digest, created, Figures.of(bundle))


def lines(found: Iterable[StreamStatus]) -> Iterator[str]:
    """Yield a table for people."""
    rows = list(found)
    width = max((len(row.name) for row in rows), default=0) + 2
    yield f"{'stream':{width}}{'version':>8}{'age':>9}{'false/day':>11}{'F1':>7}  last run"
    for row in rows:
        yield f"{row.name:{width}}{_champion_cells(row)}  {_last(row.last_run)}"
        if row.trouble:
            yield f"  {row.trouble}"
        if row.last_validation is not None:
            yield f"  validation: {_last(row.last_validation)}"


def _champion_cells(row: StreamStatus) -> str:
    champion = row.champion
    if champion is None or row.age_s is None:
        return f"{'none':>8}{'–':>9}{'–':>11}{'–':>7}"
    figures = champion.figures
    return (
        f"{champion.version:>8}{_age(row.age_s):>9}"
        f"{shown(figures.events_per_day, '.2f', '–'):>11}{shown(figures.f1, '.2f', '–'):>7}"
    )


def _age(seconds: float) -> str:
    return f"{seconds / _DAY_S:.0f} d" if seconds >= 2 * _DAY_S else duration(seconds)


def _last(record: dict[str, Any] | None) -> str:
    if record is None:
        return "none"
    why = f": {record['message']}".split("\n")[0] if record["message"] else ""
    return f"{record['state']} {record['time']}{why}"
