"""Trains a bundle again from its own configuration, and compares the two.

    bundle ─> configuration, lineage ─> the same data? ─> train ─> compare

The data must have the digests of the lineage; otherwise nothing is trained. A training on another
processor or with another TensorFlow may give a slightly different network: then the known answers
of the bundle say by how much its scores differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from models import bundle as bundles
from models import known_answers
from models.bundle import Bundle
from models.errors import BundleCorrupt, ConfigError, DataError
from models.families import detector_of
from models.known_answers import Difference
from models.manifest import EVALUATED, KNOWN_ANSWERS, TRAINING, Code, DataUsed, Lineage
from models.settings import explain
from models.shown import shown
from trainer import lineage, seal, train
from trainer.code_version import code_version
from trainer.config import Config, ConfigFile
from trainer.prepared import Say, prepare_data

_MEASURED_ANEW = (
    "step_us",
    "window_ms",
    EVALUATED,
)  # figures that differ with each training: times and names
_APART = ("verdict", "data")  # compared by the digests, or follows from the other figures
_FIGURES_SHOWN_MAX = 20


class Figure(NamedTuple):
    """A figure of the metrics that is not the same."""

    name: str
    then: Any
    now: Any

    @property
    def change(self) -> float | None:
        """The relative difference; None: one of them is no number, or it was zero."""
        numbers = isinstance(self.then, int | float) and isinstance(self.now, int | float)
        return abs(self.now - self.then) / abs(self.then) if numbers and self.then else None


class Reproduced(NamedTuple):
    """The comparison of a bundle with a second training."""

    networks: dict[str, bool]  # by part: whether its bytes are equal
    answers: Difference
    figures: list[Figure]  # those of the metrics that are not the same
    figures_equal: int
    other: list[str]  # what is not as it was: versions of the code and of packages
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether each score and forecast of the known answers is the same, to the tolerance."""
        largest = max(self.answers.score, self.answers.forecast)
        return self.answers.same_events and largest <= self.tolerance

    def document(self) -> dict[str, Any]:
        """Return the comparison, ready for JSON; infinite differences are null."""
        largest = {"score": self.answers.score, "forecast": self.answers.forecast}
        return {
            "agrees": self.agrees,
            "tolerance": self.tolerance,
            "networks_equal": self.networks,
            "known_answers": {
                name: value if value < float("inf") else None for name, value in largest.items()
            }
            | {"same_events": self.answers.same_events},
            "figures_equal": self.figures_equal,
            "figures": [one._asdict() | {"change": one.change} for one in self.figures],
            "other": self.other,
        }

    def lines(self) -> Iterator[str]:
        """Yield the comparison for people; the verdict is the first line."""
        yield f"the result {'agrees' if self.agrees else 'DIFFERS'}"
        for name, equal in self.networks.items():
            yield f"{name}: {'the same bytes' if equal else 'other bytes'}"
        score, forecast, same_events = self.answers
        yield (
            f"known answers: scores differ by at most {shown(score, '.2g')}, forecasts by"
            f" {shown(forecast, '.2g')} (tolerance {self.tolerance:g}), the events are"
            f" {'the same' if same_events else 'others'}"
        )
        yield f"metrics: {self.figures_equal} figures are the same, {len(self.figures)} are not"
        if self.figures:
            yield f"{'figure':44}{'then':>12}{'now':>12}{'change':>9}"
        for one in self.figures[:_FIGURES_SHOWN_MAX]:
            yield f"{one.name:44}{_brief(one.then):>12}{_brief(one.now):>12}{_share(one.change):>9}"
        if (more := len(self.figures) - _FIGURES_SHOWN_MAX) > 0:
            yield f"… and {more} more; --json has them all"
        yield from self.other


def reproduce(
    path: Path,
    data: Path,
    tflite_python: Path | None,
    tolerance: float | None,
    say: Say,
) -> Reproduced:
    """Train a bundle again and compare.

    Args:
        path: of the bundle.
        data: directory that the paths of the configuration are relative to.
        tflite_python: as in the training; it may decide how the network is stored.
        tolerance: of the known answers; None: that of the bundle.
        say: called with each line of progress.

    Raises:
        BundleError: the bundle cannot be read.
        DataError: it does not say how it was trained, or the data are not the same.
        ConfigError: there are no recordings, or the configuration is one of another version.
        ExtraMissing: a package that the family needs is not installed.

    """
    bundle = bundles.read(path)
    _check_own_network(bundle)
    file = ConfigFile(
        data / TRAINING, _configuration(bundle), bundle.manifest.lineage.config_digest
    )
    family = train.ready(file.config)
    prepared = prepare_data(file, say)
    _check_data(prepared.used, _recorded(bundle))
    say(f"the data are the same: {prepared.used.digest}")
    learnt = train.learn(family, train.job_of(file, prepared, tflite_python, say), prepared)
    figures, equal = _compared(bundle.manifest.metrics, learnt.metrics)
    return Reproduced(
        _networks(bundle, learnt.sealed),
        _answers(learnt.sealed, bundle),
        figures,
        equal,
        list(_other(bundle.manifest.lineage)),
        bundle.manifest.known_answers.tolerance if tolerance is None else tolerance,
    )


def _check_own_network(bundle: Bundle) -> None:
    shared = bundle.manifest.lineage.shared
    if shared is not None:
        raise DataError(
            f"{bundle.source}: its network was trained on {len(shared.streams)} streams of the type"
            f" {shared.type!r}, and their data are not in it: train the fleet again with"
            " `fieldwatch-trainer batch --again`"
        )


def _configuration(bundle: Bundle) -> Config:
    if TRAINING not in bundle.parts:
        raise DataError(
            f"{bundle.source}: it does not have the configuration of its training, as an older"
            " version of this software made it: train it again with `fieldwatch-trainer train`"
        )
    try:
        return Config.model_validate_json(bundle.parts[TRAINING])
    except ValidationError as error:
        problems = "; ".join(explain(Config, error))
        raise ConfigError(
            f"{bundle.source}: {TRAINING}: another version of this software wrote it: {problems}"
        ) from error


def _recorded(bundle: Bundle) -> DataUsed:
    found = bundle.manifest.lineage.data
    if found is None:
        raise DataError(f"{bundle.source}: it does not have the digests of its data")
    return found


def _check_data(found: DataUsed, expected: DataUsed) -> None:
    """Refuse other data; the text says what differs."""
    differs = [
        *lineage.differences(found.parts, expected.parts, "part"),
        *lineage.differences(found.channels, expected.channels, "channel"),
    ]
    if differs:
        told = "\n".join(f"  {line}" for line in differs)
        raise DataError(f"the data are not those of the training:\n{told}")


def _networks(then: Bundle, now: Bundle) -> dict[str, bool]:
    names = sorted((then.parts.keys() | now.parts.keys()) - {KNOWN_ANSWERS, TRAINING})
    return {name: then.parts.get(name) == now.parts.get(name) for name in names}


def _answers(now: Bundle, then: Bundle) -> Difference:
    try:
        return known_answers.difference(detector_of(now), then)
    except BundleCorrupt:  # the second training has chosen another form of forecaster
        return Difference(float("inf"), float("inf"), same_events=False)


def _compared(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[Figure], int]:
    """Return the figures that are not the same, and the number of those that are."""
    before = dict(_flat({key: value for key, value in then.items() if key not in _APART}))
    after = dict(_flat({key: value for key, value in now.items() if key not in _APART}))
    pairs = [Figure(name, before.get(name), after.get(name)) for name in {**before, **after}]
    changed = [pair for pair in pairs if pair.then != pair.now]
    return changed, len(pairs) - len(changed)


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of each figure."""
    if name.rpartition(".")[2] in _MEASURED_ANEW:
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}".removeprefix("."))
    elif isinstance(value, list | tuple):
        for at, inner in enumerate(value):
            yield from _flat(inner, f"{name}[{at}]")
    else:
        yield name, value


def _other(then: Lineage) -> Iterator[str]:
    """Yield a line for each version that is not the training's."""
    here = seal.software()
    for name in dict.fromkeys([*then.software, *here]):
        if (before := then.software.get(name)) != (now := here.get(name)):
            here_and_then = f"{now or 'not installed'} here, {before or 'not recorded'}"
            yield f"{name}: {here_and_then} in the training"
    code = code_version()
    if then.code is not None and then.code != code:
        yield f"code: {_told(code)} here, {_told(then.code)} in the training"
    elif code.dirty:
        yield "code: it has changes that its commit lacks, so it may not be that of the training"


def _told(code: Code) -> str:
    commit = "" if code.commit is None else f", commit {code.commit[:12]}"
    return f"version {code.version}{commit}{' with changes' if code.dirty else ''}"


def _brief(value: Any) -> str:
    return shown(value, ".5g") if isinstance(value, float) else str(value)[:11]


def _share(change: float | None) -> str:
    return "–" if change is None else f"{change:.1%}"
