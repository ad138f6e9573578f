"""The summary of a run, as lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from models.shown import shown
from trainer.fleet.outcome import Outcome, f1
from trainer.fleet.overview import duration
from trainer.fleet.run import Run, log_path

_ROWS_MAX: Final = 60  # of streams without a fault; JSON has all
_COLUMNS: Final = f"{'':11}{'false/day':>10}{'F1':>7}{'network':>10}{'time':>9}"


def lines(run: Run) -> Iterator[str]:
    """Yield the table of the streams, the comparison of networks, and last what is bad."""
    yield from _table(run)
    for name, found in run.types.items():
        made = "trained" if found.trained else "kept"
        yield (
            f"type {name}: network {made}, of {len(found.members)} streams,"
            f" {duration(found.seconds)}"
        )
        for stream, why in found.left_out.items():
            yield f"  without {stream}: {why}".split("\n")[0]
    yield from _comparisons(run)
    for name, why in run.types_failed.items():
        yield f"FAILED: network of the type {name}: {why}"
    for name, outcome in run.own_failed.items():
        yield f"FAILED: {name}, with a network of its own: {outcome.message}"
    for name, outcome in run.bad.items():
        yield f"{outcome.state.upper()}: {name}: {outcome.message}"
        yield f"  log: {log_path(run.file, name)}"
    yield _closing(run)


def _table(run: Run) -> Iterator[str]:
    width = max((len(name) for name in run.outcomes), default=0) + 2
    yield f"{'stream':{width}}{_COLUMNS}"
    good = [name for name, outcome in sorted(run.outcomes.items()) if not outcome.is_bad]
    for name in [*good[:_ROWS_MAX], *run.bad]:
        yield f"{name:{width}}{_row(run.outcomes[name])}"
    if len(good) > _ROWS_MAX:
        yield f"… and {len(good) - _ROWS_MAX} more without a fault; --json has them all"


def _row(outcome: Outcome) -> str:
    figures = outcome.figures
    size = "–" if figures.network_bytes is None else f"{figures.network_bytes / 1024:.1f} KiB"
    return (
        f"{outcome.state:11}{shown(figures.events_per_day, '.2f', '–'):>10}"
        f"{shown(figures.f1, '.2f', '–'):>7}{size:>10}"
        f"{duration(sum(outcome.seconds.values())):>9}"
    )


def _closing(run: Run) -> str:
    counts: dict[str, int] = {}
    for outcome in run.outcomes.values():
        counts[outcome.state] = counts.get(outcome.state, 0) + 1
    said = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return f"{len(run.outcomes)} streams: {said or 'none'}"


class Compared(NamedTuple):
    """The streams of a type with networks of one kind, together."""

    streams: int
    f1: float | None
    events_per_day: float | None  # mean over the streams
    network_bytes: int  # of all networks that have to be kept
    seconds: float  # of training and calibration of all streams


def compared(outcomes: Sequence[Outcome], shared_seconds: float | None = None) -> Compared:
    """Return the figures of streams together.

    Args:
        outcomes: of the streams.
        shared_seconds: what the training of their one network took; None: each has its own.

    """
    figures = [outcome.figures for outcome in outcomes]
    rates = [one.events_per_day for one in figures if one.events_per_day is not None]
    sizes = [one.network_bytes or 0 for one in figures]
    seconds = sum(sum(outcome.seconds.values()) for outcome in outcomes)
    return Compared(
        len(outcomes),
        f1(*(_sum(getattr(one, key) for one in figures) for key in ("found", "missed", "false"))),
        sum(rates) / len(rates) if rates else None,
        sum(sizes) if shared_seconds is None else max(sizes, default=0),
        seconds + (shared_seconds or 0.0),
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def comparison(run: Run, of_type: str) -> dict[str, Compared]:
    """Return the streams of a type with networks of their own, and with their shared one.

    Only streams that have both count; empty: none has.
    """
    both = [
        stream.name
        for stream in run.file.of_type(of_type)
        if stream.name in run.own.keys() - run.own_failed.keys()
        and stream.name in run.outcomes
        and run.outcomes[stream.name].state != "failed"
    ]
    if not both:
        return {}
    shared_seconds = run.types[of_type].seconds
    return {
        "one network each": compared([run.own[stream] for stream in both]),
        "one shared network": compared([run.outcomes[stream] for stream in both], shared_seconds),
    }


def _comparisons(run: Run) -> Iterator[str]:
    """Yield the comparison of each type's network with those of the streams' own."""
    for name in run.types:
        if found := comparison(run, name):
            streams = next(iter(found.values())).streams
            yield f"type {name}, {streams} streams{_COLUMNS[11:]}"
            yield from (_compared_row(kind, each) for kind, each in found.items())


def _compared_row(what: str, found: Compared) -> str:
    return (
        f"  {what:20}{shown(found.events_per_day, '.2f', '–'):>10}{shown(found.f1, '.2f', '–'):>7}"
        f"{found.network_bytes / 1024:>6.1f} KiB{duration(found.seconds):>9}"
    )
