"""Times for people: in local time with its zone, and ages in words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from agent.wording.language import ENGLISH, Language
from agent.wording.message import Message
from models.times import unix_s

_UNITS = (("day", 86400.0), ("hours", 3600.0), ("minutes", 60.0))


class Moments(NamedTuple):
    """Writes times as they are ``now``, in local time or in UTC."""

    now: datetime  # with a zone
    utc: bool
    language: Language = ENGLISH

    @property
    def told(self) -> Language:
        """The reader's language, with times in full."""
        return self.language.timed(self.full)

    @property
    def soon(self) -> Language:
        """The reader's language, with times of the next days, to the minute."""
        return self.language.timed(self._to_the_minute)

    def _to_the_minute(self, text: str) -> str:
        moment = self.of(text)
        form = self.language.phrase("time.brief", "%d %b %H:%M")
        return "-" if moment is None else moment.strftime(form)

    def of(self, text: str | None) -> datetime | None:
        """Return a time of a document, in the reader's zone; None if it is not a time."""
        if text is None:
            return None
        try:
            moment = datetime.fromtimestamp(unix_s(text), UTC)
        except (ValueError, OverflowError):  # in a file that another program wrote
            return None
        return moment if self.utc else moment.astimezone()

    def between_s(self, begin: str | None, end: str | None) -> float | None:
        """Return the seconds between two times; without an end, until now; None if unknown."""
        first, last = self.of(begin), self.now if end is None else self.of(end)
        return None if first is None or last is None else (last - first).total_seconds()

    def brief(self, text: str | None) -> str:
        """Return day, hour and minute; for another year, the day and the year."""
        moment = self.of(text)
        if moment is None:
            return "-"
        here = self.now if self.utc else self.now.astimezone()
        form = "time.brief" if moment.year == here.year else "time.year"
        return moment.strftime(self.language.phrase(form, "%d %b %H:%M"))

    def full(self, text: str | None) -> str:
        """Return the whole time with its zone, to the second."""
        moment = self.of(text)
        form = self.language.phrase("time.full", "%d %b %Y %H:%M:%S %Z")
        return "-" if moment is None else moment.strftime(form)

    def zone(self) -> str:
        """Return the zone of the times."""
        here = self.now if self.utc else self.now.astimezone()
        offset = here.strftime("%z")
        name = here.tzname() or ""
        return "UTC" if name == "UTC" else f"{name} (UTC{offset[:3]}:{offset[3:5]})"

    def age(self, text: str | None) -> str:
        """Return how long ago a time was."""
        seconds = self.between_s(text, None)
        return "-" if seconds is None else lasting(seconds, self.language)


def lasting(seconds: float, told: Language = ENGLISH) -> str:
    """Return a duration in words, in the largest unit that it fills.

    >>> lasting(30), lasting(90), lasting(7300), lasting(86400), lasting(3 * 86400)
    ('under 1 min', '1 min', '2 h', '1 day', '3 days')
    """
    for name, size in _UNITS:
        if seconds >= size:
            count = int(seconds / size)
            key = "days" if name == "day" and count > 1 else name
            return told.text(Message(f"duration.{key}", {"count": str(count)}))
    return told.text(Message("age.under"))
