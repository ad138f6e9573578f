"""The champion is chosen on data that no version has seen, by rules, and with a reason."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from models.times import iso_time
from tests.bundle_rig import FAR, NORMAL, noisy
from tests.conftest import ROOT
from tests.registry_rig import SEEN_S, good_bundle, write_flow
from trainer.registry import upkeep
from trainer.registry.errors import NotComparable, NotInRegistry, Overtaken
from trainer.registry.promotion import force, promote
from trainer.registry.records import Version
from trainer.registry.registry import Registry
from trainer.registry.window import Recorded

Open = Callable[..., Registry]
HOUR_S = 3600
RULES = {"metric": "f1", "window_hours_min": 0.5, "false_events_per_day_max": 1000.0}
NERVOUS, CALM = 6.0, 60.0  # deviations that are outside


@pytest.fixture
def rival(open_registry: Open, tmp_path: Path) -> Callable[..., Registry]:
    """A registry with version 1, nervous, and version 2, calm, and some rules."""

    def opened(**rules: object) -> Registry:
        registry = open_registry(promotion=RULES | rules)
        for number, deviations in ((1, NERVOUS), (2, CALM)):
            path = tmp_path / str(number) / "flow.fieldwatch"
            good_bundle(path, number, deviations, seen_s=SEEN_S + number)
            registry.register(path)
        return registry

    return opened


def recording(path: Path, begin_s: float = SEEN_S + 3, hours: int = 2) -> Recorded:
    """A recording with a short rise every 10 minutes, which is normal, and a labelled fault."""
    values = noisy(hours * HOUR_S)
    for second in range(300, len(values), 600):
        values[second : second + 3] = [NORMAL + 0.4] * 3
    faults = []
    for begin in range(1000, len(values), HOUR_S):
        values[begin : begin + 60] = [FAR] * 60
        faults.append(f"{begin_s + begin:.3f},{begin_s + begin + 60:.3f},leak")
    write_flow(path, begin_s, values)
    path.with_name(f"{path.stem}.labels.csv").write_text("\n".join(["start,end,kind", *faults]))
    return Recorded([path])


def test_the_better_one_becomes_champion_and_the_reason_is_stored(
    rival: Callable[..., Registry], tmp_path: Path
) -> None:
    registry = rival()
    registry.set_alias("flow", "champion", 1)
    made = promote(registry, "flow", recording(tmp_path / "new.csv"))
    assert made.promoted
    assert (made.champion, made.chosen) == (1, 2)
    calm, nervous = made.trials
    assert calm.result is not None
    assert nervous.result is not None
    assert calm.result.figures["f1"] == 1.0
    assert calm.result.figures["false_events_per_day"] == 0.0
    assert (nervous.result.figures["f1"] or 0) < 0.5
    assert set(made.final) == {1, 2}
    assert "so it is champion now" in made.reason
    champion = registry.champion("flow")
    assert champion is not None
    assert champion.number == 2
    assert champion.aliases == ("champion",)
    assert champion.tags["fieldwatch.decision"] == made.reason
    (name,) = [name for name in champion.files if name.startswith("decisions/")]
    stored = json.loads(registry.store.download(champion.uri, name, tmp_path).read_text())
    assert stored == made.document()
    assert stored["rules"]["metric"] == "f1"


def test_a_gain_that_is_too_small_changes_nothing(
    rival: Callable[..., Registry], tmp_path: Path
) -> None:
    registry = rival(metric="relative_mae")  # both expect the median
    registry.set_alias("flow", "champion", 1)
    made = promote(registry, "flow", recording(tmp_path / "new.csv"))
    figures = [trial.result.figures for trial in made.trials if trial.result is not None]
    assert all(0 < (each["relative_mae"] or 0) < 1 for each in figures)  # of no fault
    assert not made.promoted
    assert "% (at least 2.0%), so version 1 stays" in made.reason
    champion = registry.champion("flow")
    assert champion is not None
    assert champion.number == 1
    assert champion.tags["fieldwatch.decision"] == made.reason


def test_one_over_a_hard_limit_is_never_promoted_however_good_it_is(
    rival: Callable[..., Registry], tmp_path: Path
) -> None:
    registry = rival(metric="recall", false_events_per_day_max=50.0, gain_min=0.0)
    made = promote(registry, "flow", recording(tmp_path / "new.csv"), candidate=1)
    assert not made.promoted
    assert made.chosen is None
    assert made.trials[1].fault is not None
    assert "false events per day (at most 50)" in made.trials[1].fault
    assert registry.champion("flow") is None


def test_a_champion_over_a_limit_is_replaced(
    rival: Callable[..., Registry], tmp_path: Path
) -> None:
    registry = rival(metric="recall", false_events_per_day_max=50.0)
    registry.set_alias("flow", "champion", 1)
    made = promote(registry, "flow", recording(tmp_path / "new.csv"))
    assert made.chosen == 2
    assert "champion 1 is not within the limits" in made.reason


def test_direction_can_be_set(rival: Callable[..., Registry], tmp_path: Path) -> None:
    made = promote(rival(direction="lower"), "flow", recording(tmp_path / "new.csv"))
    assert made.chosen == 1


def test_what_any_version_has_seen_is_refused_and_the_text_says_what_is_needed(
    rival: Callable[..., Registry], tmp_path: Path
) -> None:
    seen = recording(tmp_path / "old.csv", SEEN_S + 2 - 2 * HOUR_S)  # ends as version 2's data do
    with pytest.raises(NotComparable) as refused:
        promote(rival(), "flow", seen)
    assert f"used data up to {iso_time(SEEN_S + 2)}" in str(refused.value)
    assert "give recordings of at least 0.5 hours from then on" in str(refused.value)


def test_the_window_begins_after_the_newest_row_of_any_version(
    rival: Callable[..., Registry], tmp_path: Path
) -> None:
    made = promote(rival(), "flow", recording(tmp_path / "half.csv", SEEN_S - HOUR_S))
    assert made.windows is not None
    assert made.windows.choice.begin == SEEN_S + 2
    assert made.windows.choice.end == made.windows.final.begin
    trial = made.trials[0].result
    assert trial is not None
    assert trial.hours < 0.7  # 70 % of the hour, less the warm-up


def test_of_a_long_recording_only_the_newest_hours_count(
    rival: Callable[..., Registry], tmp_path: Path
) -> None:
    registry = rival(window_hours_max=1.0)
    made = promote(registry, "flow", recording(tmp_path / "long.csv", hours=3))
    assert made.windows is not None
    assert made.windows.final.end - made.windows.choice.begin == pytest.approx(HOUR_S)


def test_a_person_may_overrule_the_rules_with_a_reason(
    rival: Callable[..., Registry], tmp_path: Path
) -> None:
    registry = rival()
    made = force(registry, "flow", 1, "the pump was changed")
    assert made.promoted
    assert made.reason.endswith("says so: the pump was changed")
    champion = registry.champion("flow")
    assert champion is not None
    assert champion.number == 1
    assert champion.tags["fieldwatch.decision"] == made.reason
    with pytest.raises(NotInRegistry):
        force(registry, "flow", 7, "it does not exist")


DECIDE = """
import sys
from pathlib import Path
from trainer.registry.promotion import force
from trainer.registry.registry import Registry
from trainer.registry.settings import RegistryTable
registry = Registry(RegistryTable(), Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(4):
    force(registry, "flow", 1, f"{sys.argv[2]} {number}")
"""


def test_two_who_decide_at_once_lose_no_decision(
    rival: Callable[..., Registry], tmp_path: Path
) -> None:
    registry = rival()
    people = [
        subprocess.Popen(
            [sys.executable, "-c", DECIDE, str(tmp_path), name],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("ada", "bob")
    ]
    pipes = [(each.stdin, each.stdout) for each in people]
    assert [told.readline() for _, told in pipes if told is not None] == ["ready\n"] * 2
    for begin, _ in pipes:
        assert begin is not None
        begin.close()  # both go on
    assert [each.wait() for each in people] == [0, 0]
    for _, told in pipes:
        assert told is not None
        told.close()
    version = registry.version("flow", 1)
    kept = [name for name in version.files if name.startswith("decisions/")]
    reasons = [
        json.loads(registry.store.download(version.uri, name, tmp_path).read_text())["reason"]
        for name in kept
    ]
    wanted = {f"{name} {number}" for name in ("ada", "bob") for number in range(4)}
    assert {reason.rpartition(": ")[2] for reason in reasons} == wanted
    assert list(upkeep.verify(registry)) == []


def test_without_recordings_only_a_single_version_within_the_limits_is_promoted(
    rival: Callable[..., Registry], open_registry: Open, tmp_path: Path
) -> None:
    registry = rival()
    with pytest.raises(NotComparable, match="has 2 versions"):
        promote(registry, "flow", None)
    registry.register(tmp_path / "1" / "flow.fieldwatch", stream="alone")
    strict = open_registry(promotion={"false_events_per_day_max": 0.1})
    made = promote(strict, "alone", None)
    assert not made.promoted
    assert "0.5 false events per day on its test part (at most 0.1)" in made.reason
    assert promote(registry, "alone", None).promoted


def test_without_labels_f1_cannot_decide(rival: Callable[..., Registry], tmp_path: Path) -> None:
    recorded = recording(tmp_path / "new.csv")
    (tmp_path / "new.labels.csv").unlink()
    made = promote(rival(), "flow", recorded)
    assert not made.promoted
    assert {trial.fault for trial in made.trials} == {
        "f1 cannot be measured: the window has no labels, or nothing changes"
    }


class Meanwhile(Registry):
    """A registry in which somebody else promotes a version just after a step of ours."""

    step = ""
    other: Callable[[], object] = staticmethod(lambda: None)

    def _after(self, step: str) -> None:
        if step == self.step:
            self.step = ""
            self.other()

    def versions(self, stream: str) -> list[Version]:
        found = super().versions(stream)
        self._after("versions")
        return found

    def keep(self, version: Version, name: str, document: Mapping[str, object]) -> None:
        super().keep(version, name, document)
        self._after("keep")


@pytest.mark.parametrize("step", ["versions", "keep"])
@pytest.mark.parametrize("forced", [True, False])
def test_who_is_second_is_told_and_promotes_nothing(
    rival: Callable[..., Registry], tmp_path: Path, step: str, forced: bool
) -> None:
    theirs = rival()
    good_bundle(tmp_path / "3" / "flow.fieldwatch", 3, CALM, seen_s=SEEN_S + 3)
    theirs.register(tmp_path / "3" / "flow.fieldwatch")
    theirs.set_alias("flow", "champion", 1)
    ours = Meanwhile(theirs.settings, tmp_path)
    ours.step = step
    ours.other = lambda: force(theirs, "flow", 3, "the other one says so")
    with pytest.raises(Overtaken, match="was version 1, and version 3 is now"):
        if forced:
            force(ours, "flow", 2, "we say so")
        else:
            promote(ours, "flow", recording(tmp_path / "new.csv"), candidate=2)
    champion = theirs.champion("flow")
    assert champion is not None
    assert champion.number == 3
    version = theirs.version("flow", 2)
    kept = [name for name in version.files if name.startswith("decisions/")]
    assert len(kept) == (0 if step == "versions" else 2)
    if step == "keep":
        assert "somebody changed the champion meanwhile" in version.tags["fieldwatch.decision"]
    assert list(upkeep.verify(theirs)) == []
