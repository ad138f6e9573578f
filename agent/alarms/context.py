"""What a stream's configuration and bundle add to each of its alarms: names, ranges, help.

It imports neither numpy nor pydantic, because commands load ``document``, which uses it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from agent.wording.sentence import plain_name
from models.errors import ConfigError
from models.shown import short

if TYPE_CHECKING:
    from agent.config.load import StreamTable
    from models.manifest import StreamRules
    from models.messages import Event

CHANNELS_MAX: Final = 6  # of an operating point
_FORESIGHT: Final = 100.0  # of ``models.score_tail``, which loads numpy
_AT_LEAST: Final = 1.000001  # rounding of the least probability

Range = tuple[float, float]


@dataclass(frozen=True)
class Context:
    """What the alarms of a stream have in common."""

    title: str | None = None  # of the machine; None: the stream's name
    titles: Mapping[str, str] = field(default_factory=dict)  # of channels
    point: tuple[str, ...] = ()  # channels that set the operating point
    trained: Mapping[str, Range] = field(default_factory=dict)  # in the channels' units
    period_s: float | None = None  # of the samples
    tail_samples: int | None = None  # samples from which probabilities were computed; None: unknown
    bundle: str | None = None  # name and version
    digest: str | None = None
    settings: StreamTable | None = None  # for the help

    def named(self, stream: str) -> str:
        """Return the display name of the stream."""
        return self.title or plain_name(stream)

    def channel(self, name: str) -> str:
        """Return the display name of a channel."""
        return self.titles.get(name) or plain_name(name)

    def rarity(self, probability: float | None) -> dict[str, Any] | None:
        """Return how often normal operation reaches a score of this probability; None: unknown.

        ``every_s`` is the mean time between two such samples, ``seen_s`` the time of normal
        operation that the probability comes from, and ``at_least`` says that no rarer score can be
        told apart.
        """
        if not probability or self.period_s is None:
            return None
        seen = self.tail_samples
        least = 0.0 if seen is None else 1.0 / (_FORESIGHT * seen)
        return {
            "every_s": short(self.period_s / probability),
            "seen_s": None if seen is None else short(seen * self.period_s),
            "at_least": probability <= least * _AT_LEAST,
        }

    def operating(
        self, event: Event, units: Mapping[str, str], values: Mapping[str, float | None]
    ) -> dict[str, Any]:
        """Return the operating point: its channels, their values, and whether training covered it.

        Without channels that set it, these are the first ones that do not contribute to the event.
        ``values``: of all channels, in the sample that opened the event.
        """
        contributing = {channel.channel for channel in event.channels}
        others = tuple(name for name in values if name not in contributing)
        names = [name for name in self.point or others if name in values][:CHANNELS_MAX]
        return {
            "named": bool(self.point) and bool(names),
            "covered": self._covered({name: values[name] for name in names}),
            "channels": [
                {
                    "channel": name,
                    "title": self.channel(name),
                    "unit": units[name],
                    "value": short(values[name]),
                    "low": short(self.trained[name][0]) if name in self.trained else None,
                    "high": short(self.trained[name][1]) if name in self.trained else None,
                }
                for name in names
            ],
        }

    def _covered(self, values: Mapping[str, float | None]) -> bool | None:
        """Return whether the training recordings had these values; None: unknown."""
        inside = [
            low <= value <= high
            for name, value in values.items()
            if value is not None and name in self.trained
            for low, high in [self.trained[name]]
        ]
        if not all(inside):
            return False
        return True if inside and len(inside) == len(values) else None

    def help(self, kind: str, channel: str | None) -> dict[str, str | None] | None:
        """Return the plant's own help for an alarm; None: there is none."""
        if self.settings is None or not self.settings.help:
            return None
        from agent.config.words import fitting

        found = fitting(self.settings.help, kind, channel)
        return None if found is None else {"text": found.text, "link": found.link}


def context_of(settings: StreamTable, rules: StreamRules, digest: str) -> Context:
    """Return the context of a stream's alarms."""
    unscored = [one.name for at, one in enumerate(rules.channels) if at not in rules.scored]
    return Context(
        title=settings.title,
        titles=settings.titles,
        point=tuple(settings.operating_point or unscored),
        trained=trained_ranges(rules),
        period_s=rules.sampling.period_s,
        tail_samples=None if rules.tail is None else rules.tail.samples,
        bundle=f"{rules.name} version {rules.version}",
        digest=digest,
        settings=settings,
    )


def check_names(settings: StreamTable, channels: Collection[str]) -> None:
    """Raise ConfigError if a title, a help text or the operating point names no channel."""
    helped = [one.channel for one in settings.help if one.channel is not None]
    named = {"titles": settings.titles, "operating_point": settings.operating_point, "help": helped}
    for key, names in named.items():
        for name in names:
            if name not in channels:
                from models.settings import nearest  # loads pydantic

                advice = nearest(name, channels) or f"; allowed are {', '.join(channels)}"
                raise ConfigError(
                    f"stream {settings.name}: {key}: {name!r}: no channel of the stream{advice}"
                )


def trained_ranges(rules: StreamRules) -> dict[str, Range]:
    """Return the ranges of the training recordings, of the channels whose range the bundle has."""
    level = getattr(rules, "level", None)  # only some families have it
    if level is None:
        return {}
    scored = (rules.channels[position] for position in rules.scored)
    return {
        one.name: (
            one.center + one.scale * (middle - half),
            one.center + one.scale * (middle + half),
        )
        for one, middle, half in zip(scored, level.middle, level.half, strict=True)
    }
