"""Promotion: which version of a stream becomes its champion, decided by rules and explained."""

from __future__ import annotations

import os
import pwd
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from models.bundle import Bundle
from models.errors import DataError
from models.shown import shown
from trainer.registry import records
from trainer.registry.errors import NotComparable, NotInRegistry, Overtaken
from trainer.registry.records import CHALLENGER, CHAMPION, Version
from trainer.registry.registry import Registry
from trainer.registry.settings import PromotionTable
from trainer.registry.window import Recorded, Result, Windows

_TEST_FALSE: Final = "test/normal.events_per_day"


class Trial(NamedTuple):
    """A version in the comparison."""

    version: Version
    result: Result | None  # None: it cannot be compared
    fault: str | None  # why it cannot be champion; None: it can


@dataclass(frozen=True, slots=True)
class Decision:
    """Which version is champion now, and why."""

    stream: str
    made: datetime  # UTC
    by: str  # user
    champion: int | None  # before
    chosen: int | None  # afterwards; None: there is none
    reason: str  # in a sentence, for people
    forced: bool
    rules: PromotionTable
    windows: Windows | None = None
    recordings: Sequence[str] = ()
    trials: Sequence[Trial] = ()
    final: dict[int, Result] = field(default_factory=dict)  # of champion and chosen, by number

    @property
    def promoted(self) -> bool:
        """Whether another version is champion now."""
        return self.chosen is not None and self.chosen != self.champion

    def document(self) -> dict[str, Any]:
        """Return the decision, ready for JSON."""
        windows = self.windows
        return {
            "stream": self.stream,
            "made": self.made.isoformat(timespec="seconds"),
            "by": self.by,
            "champion_before": self.champion,
            "champion": self.chosen,
            "promoted": self.promoted,
            "forced": self.forced,
            "reason": self.reason,
            "rules": self.rules.model_dump(mode="json") | {"direction": self.rules.better},
            "window": None if windows is None else windows.choice.text,
            "final_window": None if windows is None else windows.final.text,
            "recordings": list(self.recordings),
            "versions": [_trial_document(trial) for trial in self.trials],
            "final": {str(number): _figures(result) for number, result in self.final.items()},
        }

    def lines(self) -> Iterator[str]:
        """Yield the decision for people; the reason is the last line."""
        if self.windows is not None:
            yield f"compared from {self.windows.choice.text}, which no version has seen"
            yield f"{'version':>8}{self.rules.metric:>22}{'false events/day':>18}{'recall':>8}"
        for trial in self.trials:
            yield _row(trial, self.rules)
        for number, result in self.final.items():
            figure = shown(result.figures[self.rules.metric], ".4g", absent="none")
            false = shown(result.figures["false_events_per_day"], ".3g", absent="none")
            yield (
                f"version {number} afterwards, on what nothing was chosen on: {self.rules.metric}"
                f" {figure}, {false} false events per day"
            )
        yield self.reason


def promote(
    registry: Registry, stream: str, recorded: Recorded | None, candidate: int | None = None
) -> Decision:
    """Compare all versions of a stream, and make the best one champion if the rules say so.

    Args:
        registry: of the versions; its settings have the rules.
        stream: its name.
        recorded: recordings of the machine, with rows that no version has seen. None: only a
            stream with a single version can do without; the limits are those of its test part.
        candidate: the only version that may replace the champion; None: any.

    Raises:
        NotInRegistry: there is no such stream or version.
        Overtaken: somebody else changed the champion meanwhile; nothing is promoted.
        NotComparable: too little is left that no version has seen, or a version does not say what
            it has seen.
        DataError: a recording cannot be used.

    """
    versions = _versions(registry, stream, candidate)
    champion = _champion(versions)
    if recorded is None:
        decision = _alone(registry, versions, champion)
    else:
        decision = _compared(registry, versions, champion, recorded, candidate)
    _store(registry, decision, versions)
    return decision


def force(registry: Registry, stream: str, number: int, reason: str) -> Decision:
    """Make a version champion against the rules, because a person says so.

    Args:
        registry: of the version.
        stream: its name.
        number: of the version.
        reason: that the person gives; it is stored.

    Raises:
        NotInRegistry: there is no such stream or version.
        Overtaken: somebody else changed the champion meanwhile; nothing is promoted.

    """
    versions = _versions(registry, stream, number)
    decision = Decision(
        stream=stream,
        made=datetime.now(UTC),
        by=_user(),
        champion=_champion(versions),
        chosen=number,
        reason=f"version {number} is champion because {_user()} says so: {reason}",
        forced=True,
        rules=registry.settings.promotion,
    )
    _store(registry, decision, versions)
    return decision


def _versions(registry: Registry, stream: str, wanted: int | None) -> list[Version]:
    versions = registry.versions(stream)
    if not versions:
        raise NotInRegistry(f"{registry.store.where}: there is no stream {stream}")
    if wanted is not None:
        registry.version(stream, wanted)
    return versions


def _champion(versions: Sequence[Version]) -> int | None:
    return next((each.number for each in versions if CHAMPION in each.aliases), None)


def _alone(registry: Registry, versions: Sequence[Version], champion: int | None) -> Decision:
    """Decide without a comparison: a stream's only version is champion if it is within limits."""
    rules, version = registry.settings.promotion, versions[0]
    if len(versions) > 1 or champion is not None:
        raise NotComparable(
            f"{version.stream} has {len(versions)} versions, to be compared on recordings that"
            " none has seen: name recordings"
        )
    found = version.metrics.get(_TEST_FALSE)
    good = found is not None and found <= rules.false_events_per_day_max
    told = f"{shown(found, '.3g', absent='unknown')} false events per day on its test part"
    limit = f"at most {rules.false_events_per_day_max:g}"
    return Decision(
        stream=version.stream,
        made=datetime.now(UTC),
        by=_user(),
        champion=None,
        chosen=version.number if good else None,
        reason=f"version {version.number} is the only one, and has {told} ({limit}):"
        f" it is {'champion' if good else 'not promoted'}",
        forced=False,
        rules=rules,
    )


def _compared(
    registry: Registry,
    versions: Sequence[Version],
    champion: int | None,
    recorded: Recorded,
    candidate: int | None,
) -> Decision:
    rules = registry.settings.promotion
    loaded = {each.number: registry.bundle(each) for each in versions}
    windows = recorded.windows(list(loaded.values()), rules)
    against = loaded[versions[0].number if champion is None else champion]
    trials = [_tried(each, loaded, against, recorded, windows, rules) for each in versions]
    chosen, reason = _decided(trials, champion, candidate, rules)
    final = {
        number: recorded.judged(loaded[number], windows.final)
        for number in dict.fromkeys([champion, chosen])
        if number is not None
    }
    return Decision(
        stream=versions[0].stream,
        made=datetime.now(UTC),
        by=_user(),
        champion=champion,
        chosen=chosen,
        reason=reason,
        forced=False,
        rules=rules,
        windows=windows,
        recordings=[path.name for path in recorded.paths],
        trials=trials,
        final=final,
    )


def _tried(
    version: Version,
    loaded: dict[int, Bundle],
    against: Bundle,
    recorded: Recorded,
    windows: Windows,
    rules: PromotionTable,
) -> Trial:
    """Score a version, and say what keeps it from being champion."""
    bundle = loaded[version.number]
    try:
        result = recorded.judged(bundle, windows.choice)
    except DataError as error:
        return Trial(version, None, str(error))
    if rules.metric == "relative_mae" and (other := _other_grid(bundle, against)):
        return Trial(version, result, other)
    return Trial(version, result, _over_limit(result, rules))


def _other_grid(bundle: Bundle, against: Bundle) -> str | None:
    """Return why the errors of two bundles are not comparable; None: they are."""
    one, other = bundle.manifest, against.manifest
    names = [[each.channels[at].name for at in each.scored] for each in (one, other)]
    if names[0] != names[1]:
        return "it scores other channels: set promotion.metric to false_events_per_day or f1"
    if one.sampling.period_s != other.sampling.period_s:
        return "it has another sampling period: set promotion.metric to false_events_per_day or f1"
    return None


def _over_limit(result: Result, rules: PromotionTable) -> str | None:
    if result.figures[rules.metric] is None:
        return f"{rules.metric} cannot be measured: the window has no labels, or nothing changes"
    false, recall = result.figures["false_events_per_day"], result.figures["recall"]
    if false is not None and false > rules.false_events_per_day_max:
        return f"{false:.3g} false events per day (at most {rules.false_events_per_day_max:g})"
    if recall is not None and recall < rules.recall_min:
        return f"a recall of {recall:.3g} (at least {rules.recall_min:g})"
    return None


def _decided(
    trials: Sequence[Trial], champion: int | None, candidate: int | None, rules: PromotionTable
) -> tuple[int | None, str]:
    """Return the number of the champion, and the reason."""
    now = next((trial for trial in trials if trial.version.number == champion), None)
    allowed = [
        trial
        for trial in trials
        if trial.fault is None
        and trial.version.number != champion
        and candidate in (None, trial.version.number)
    ]
    if not allowed:
        stays = "there is no champion" if now is None else f"version {champion} stays champion"
        return champion, f"{stays}: no other version is within the limits"
    best = max(allowed, key=lambda trial: _rank(trial, rules))
    number, figure = best.version.number, _figure(best, rules)
    if now is None:
        told = f"version {number} has the best {rules.metric}, {figure:.4g}"
        return number, f"{told}, and there was no champion: it is champion now"
    told = f"version {number} is the best of the others, with {rules.metric} {figure:.4g}"
    if now.fault is not None:
        return number, f"{told}, and champion {champion} is not within the limits: {now.fault}"
    gain = _gain(_figure(now, rules), figure, rules)
    told = f"{told}, against {_figure(now, rules):.4g} of champion {champion}"
    limit = f"at least {rules.gain_min:.1%}"
    if gain < rules.gain_min or gain <= 0:
        return champion, f"{told}: a gain of {gain:.1%} ({limit}), so version {champion} stays"
    return number, f"{told}: a gain of {gain:.1%} ({limit}), so it is champion now"


def _rank(trial: Trial, rules: PromotionTable) -> tuple[float, int]:
    figure = _figure(trial, rules)
    return (figure if rules.better == "higher" else -figure), trial.version.number


def _figure(trial: Trial, rules: PromotionTable) -> float:
    assert trial.result is not None
    found = trial.result.figures[rules.metric]
    assert found is not None
    return found


def _gain(before: float, after: float, rules: PromotionTable) -> float:
    """Return by which share of its value a figure is better; infinite, if it was zero."""
    better = after - before if rules.better == "higher" else before - after
    if before == 0:
        return 0.0 if better <= 0 else float("inf")
    return better / abs(before)


def _store(registry: Registry, decision: Decision, versions: Sequence[Version]) -> None:
    """Keep the decision with the versions that it is about, then move the aliases.

    Raises:
        Overtaken: the champion changed since it was looked up; the aliases are not moved. If that
            was after the decision was kept, another one is kept that says so.

    """
    registry.check_champion(decision.stream, decision.champion, decision.chosen)
    kept = next(
        each
        for number in (decision.chosen, versions[0].number)
        for each in versions
        if each.number == number
    )
    numbers = (decision.chosen, decision.champion, versions[0].number)
    about = [each for each in versions if each.number in numbers]
    _keep(registry, decision, kept, about)
    if not decision.promoted or decision.chosen is None:
        return
    try:
        registry.replace_champion(decision.stream, decision.champion, decision.chosen)
    except Overtaken as error:
        undone = replace(
            decision, made=datetime.now(UTC), chosen=decision.champion, reason=str(error)
        )
        _keep(registry, undone, kept, about)
        raise
    if CHALLENGER in kept.aliases:
        registry.remove_alias(decision.stream, CHALLENGER)


def _keep(registry: Registry, decision: Decision, kept: Version, about: Sequence[Version]) -> None:
    """Keep a decision with the files of one version; its reason is a tag of all it is about."""
    # in order of time; two people may decide in the same second
    name = f"decisions/{decision.made.strftime('%Y%m%dT%H%M%SZ')}-{uuid.uuid4().hex[:8]}.json"
    registry.keep(kept, name, decision.document())
    for each in about:
        registry.tag(each, records.DECISION, decision.reason)


def _trial_document(trial: Trial) -> dict[str, Any]:
    return {
        "version": trial.version.number,
        "digest": trial.version.digest,
        "fault": trial.fault,
    } | ({} if trial.result is None else _figures(trial.result))


def _figures(result: Result) -> dict[str, Any]:
    return {"hours": result.hours, "figures": dict(result.figures)}


def _row(trial: Trial, rules: PromotionTable) -> str:
    figures = {} if trial.result is None else trial.result.figures
    cells = [
        shown(figures.get(name), form, absent="–")
        for name, form in (
            (rules.metric, ".4g"),
            ("false_events_per_day", ".3g"),
            ("recall", ".3g"),
        )
    ]
    aliases = f"  {', '.join(trial.version.aliases)}" if trial.version.aliases else ""
    fault = f"  {trial.fault}" if trial.fault else ""
    return f"{trial.version.number:>8}{cells[0]:>22}{cells[1]:>18}{cells[2]:>8}{aliases}{fault}"


def _user() -> str:
    """Return the name of the user, for the record."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
