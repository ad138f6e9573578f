"""The view of all streams: the state of each as word, symbol and color."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from agent.commands.alarms import listed
from agent.commands.alarms.listed import Alarm, priority_of, section
from agent.commands.life import STALE_S
from agent.onsite.view import soonest
from agent.page import described
from agent.page.described import Known
from agent.page.words import Words
from agent.store.reader import Reader
from agent.wording.sentence import first_sentence
from models.errors import StoreError

VALUES_MAX: Final = 3  # shown of a stream
_ALARMS_READ: Final = 200
_SAMPLES_SEARCHED: Final = 50_000  # of all streams, for the newest values of one
# the state of a stream, the most urgent first; each has a word, a symbol and a color
STATES: Final = (
    "high",
    "medium",
    "low",
    "returned",
    "unwatched",
    "refused",
    "acknowledged",
    "aside",
    "advisory",
    "nothing",
    "warming",
    "normal",
)
SYMBOLS: Final[Mapping[str, str]] = {
    "high": "▲",
    "medium": "◆",
    "low": "▼",
    "returned": "△",
    "unwatched": "?",
    "refused": "✕",
    "acknowledged": "◇",
    "aside": "‖",
    "advisory": "i",
    "nothing": "?",
    "warming": "…",
    "normal": "✓",
}


class Overview(NamedTuple):
    """What was read at once."""

    status: Mapping[str, Any]  # empty: the agent has not stored one yet
    alarms: Sequence[Alarm]  # those that are not normal
    newest: Mapping[str, Mapping[str, float | None]]  # stream -> channel -> value


class Look:
    """Reads what the view shows; the thread that reads the store uses it.

    The database has no index by stream, so the newest values of a stream that is silent take long
    to find. They are looked for again only once the status names a newer sample.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[str | None, Mapping[str, float | None]]] = {}

    def __call__(self, reader: Reader) -> Overview:
        """Read it.

        Raises:
            StoreError: there is no database.

        """
        alarms = listed.alarms(reader, _ALARMS_READ, open_only=True)
        try:
            status = reader.status()
        except StoreError:  # none yet
            return Overview({}, alarms, {})
        since = max(0, reader.next_sample() - _SAMPLES_SEARCHED)
        self._known = {
            name: self._newest(reader, name, stream.get("last_sample"), since)
            for name, stream in status["streams"].items()
        }
        return Overview(status, alarms, {name: found for name, (_, found) in self._known.items()})

    def _newest(
        self, reader: Reader, stream: str, sampled: str | None, since: int
    ) -> tuple[str | None, Mapping[str, float | None]]:
        before = self._known.get(stream)
        if before is not None and before[0] == sampled:
            return before
        return sampled, newest(reader, stream, since)


def newest(reader: Reader, stream: str, since: int = 0) -> dict[str, float | None]:
    """Return the newest values of a stream's channels, as they were measured; None: no value.

    Samples with a number below ``since`` are too old.
    """
    layout = reader.layout(stream)
    chunks = reader.newest_samples(stream, 1, since)
    if layout is None or not chunks:
        return {}
    names, _ = layout
    values = array("f", chunks[-1].values)[-len(names) :]
    return {
        name: None if value != value else value for name, value in zip(names, values, strict=False)
    }


def cards(found: Overview, words: Words, known: Known, watching: bool) -> Iterator[dict[str, Any]]:
    """Yield a card for each stream, the most urgent first.

    If no agent is ``watching``, no stream is watched, whatever the last status says.
    """
    of: dict[str, list[Alarm]] = {name: [] for name in found.status.get("streams", {})}
    for alarm in found.alarms:
        of.setdefault(alarm["stream"], []).append(alarm)
    rows = [_card(name, alarms, found, words, known, watching) for name, alarms in of.items()]
    yield from sorted(rows, key=lambda row: STATES.index(row["state"]))


def _card(
    name: str,
    alarms: Sequence[Alarm],
    found: Overview,
    words: Words,
    known: Known,
    watching: bool,
) -> dict[str, Any]:
    stream = found.status.get("streams", {}).get(name, {})
    if not watching:
        stream = stream | {"watched": False}
    first = alarms[0] if alarms else None
    score, sampled = stream.get("last_score"), stream.get("last_sample")
    age_s = words.moments.between_s(sampled, None)
    left_s = soonest(stream.get("forecast"))
    return {
        "name": name,
        "title": described.title(known, name),
        "state": state_of(stream, alarms),
        "score": None if score is None else words.told.number(score, ".2f"),
        "alarming": score is not None and score >= 1,
        "sampled": words.moments.full(sampled),
        "age": words.moments.age(sampled),
        "stale": age_s is None or age_s > STALE_S,
        "left": None if left_s is None else words.told.duration(left_s),
        "values": list(_values(name, found.newest.get(name, {}), first, words, known)),
        "alarm": first and _brief(first, words),
        "more": max(0, len(alarms) - 1),
    }


def state_of(stream: Mapping[str, Any], alarms: Sequence[Alarm]) -> str:
    """Return the state of a stream, one of ``STATES``; ``alarms``: its own, in order."""
    sections = {section(one) for one in alarms}
    calling = [one for one in alarms if section(one) == "unacknowledged"]
    for one in calling:
        if is_active(one):
            return priority_of(one)
    if calling:
        return "returned"
    if not stream.get("watched", False):
        return "unwatched"
    if stream.get("refused"):
        return "refused"
    for which, state in (
        ("acknowledged", "acknowledged"),
        ("suppressed", "aside"),
        ("advisories", "advisory"),
    ):
        if which in sections:
            return state
    if stream.get("last_sample") is None:
        return "nothing"
    return "warming" if stream.get("last_score") is None else "normal"


def is_active(alarm: Mapping[str, Any]) -> bool:
    """Whether the condition of an alarm is active, as far as it is known."""
    handling = alarm["handling"]
    return bool(handling["condition"] == "active" if handling else alarm["state"] == "opened")


def _values(
    stream: str,
    newest: Mapping[str, float | None],
    alarm: Alarm | None,
    words: Words,
    known: Known,
) -> Iterator[tuple[str, str]]:
    """Yield name and value of the first channels, those of the alarm before the others."""
    alarming = [one["channel"] for one in (alarm or {}).get("channels", ())]
    for name in [name for name in dict.fromkeys([*alarming, *newest]) if name in newest][
        :VALUES_MAX
    ]:
        title, unit = described.channel(known, stream, name)
        yield title, words.told.measure(newest[name], unit)


def _brief(alarm: Alarm, words: Words) -> dict[str, Any]:
    return {
        "number": alarm["number"],
        "sentence": first_sentence(alarm, words.told, words.moments.now.timestamp()),
    }
