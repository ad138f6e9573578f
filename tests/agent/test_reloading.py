"""The thread of a reload, without an agent: what it hands to the loop, and how it ends."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest

from agent.bundles.load import Loader, baseline, load
from agent.clock import Clock
from agent.config import load as configuration
from agent.config.load import StreamTable
from agent.control.inbox import Answer
from agent.control.protocol import Refused
from agent.health.sdnotify import Notifier
from agent.parsing.lines import LineParser
from agent.reloading import Prepared, Reloads
from agent.scoring.fleet import Fleet
from agent.scoring.streams import Streams
from agent.store.batch import Batch
from models.bundle import Bundle
from models.detector import Detector
from tests.conftest import ZOO_BUNDLE, wait_until
from tests.exchange_rig import put

ONE, OTHER = 'bundle = "one.fieldwatch"', 'bundle = "other.fieldwatch"'
CHANNELS = "vibration_x vibration_y motor_current discharge_pressure flow bearing_temperature"
CHANNELS += " fluid_temperature voltage"


def baseline_of(channels: str = CHANNELS, period_s: float = 0.2) -> str:
    named = ", ".join(f'{{ name = "{name}" }}' for name in channels.split())
    return f"baseline = {{ period_s = {period_s}, channels = [{named}] }}"


class Rig:
    """Streams a and b, the reloads of their configuration, and the loop that turns them."""

    def __init__(self, directory: Path, a: str = ONE, b: str = ONE, more: str = "") -> None:
        self.file = directory / "agent.toml"
        self.one, self.other = directory / "one.fieldwatch", directory / "other.fieldwatch"
        shutil.copy(ZOO_BUNDLE, self.one)
        shutil.copy(ZOO_BUNDLE, self.other)
        self.write(a, b, more)
        self.now = configuration.load(self.file)
        self.batch = Batch()
        fleets = self._fleets(clock := Clock())
        self.streams = Streams(
            fleets,
            {source.name: source.stream for source in self.now.inputs},
            {
                source.name: LineParser(source.lines, fleets[0].streams[0].manifest.channels)
                for source in self.now.inputs
            },
        )
        self.reloads = Reloads(
            self.file, self.streams, Loader.of(self.now), clock, Notifier(), lambda: None
        )

    def _fleets(self, clock: Clock) -> list[Fleet]:
        detectors: dict[Path, Detector] = {}
        tables: dict[Detector, list[StreamTable]] = {}
        for table in self.now.streams:
            if table.baseline is not None:
                tables[baseline(table.baseline)] = [table]
                continue
            assert table.bundle is not None
            if table.bundle not in detectors:
                detectors[table.bundle] = load(table.bundle)[1]
            tables.setdefault(detectors[table.bundle], []).append(table)
        return [Fleet(detector, own, 60.0, clock) for detector, own in tables.items()]

    def write(self, a: str = ONE, b: str = ONE, more: str = "") -> None:
        streams = "".join(
            f'[[streams]]\nname = "{name}"\n{watched_by}\n[[inputs]]\nname = "of-{name}"\n'
            f'stream = "{name}"\nport = "/dev/{name}"\ncolumns = ["time", "flow"]\n'
            for name, watched_by in (("a", a), ("b", b))
        )
        self.file.write_text(f'[gateway]\nsite = "plant"\nname = "gw-1"\n{streams}{more}')

    def reload(self) -> tuple[Answer, Prepared | None]:
        """Request a reload, and turn the loop until there is an answer; apply it."""
        later, found = self.reloads.ask(), None

        def turned() -> bool:
            nonlocal found
            if (prepared := self.reloads.turn(self.now)) is not None:
                found, self.now = prepared, prepared.config
                for fleet in prepared.fleets:
                    self.streams.exchange(fleet, self.batch)
                self.reloads.done(prepared)
            return later.answer is not None

        wait_until(turned, "the answer")
        assert later.answer is not None
        return later.answer, found

    def exchanged(self) -> list[list[str]]:
        """Reload; return the names of the streams that got other detectors, by fleet."""
        answer, prepared = self.reload()
        assert prepared is not None, answer
        fleets = [[stream.name for stream in fleet.streams] for fleet in prepared.fleets]
        assert not isinstance(answer, Refused)
        assert sorted(answer["exchanged"]) == sorted(itertools.chain(*fleets))
        return fleets

    def needs_restart(self) -> list[str]:
        """Reload, where no stream gets another detector; return what needs a restart."""
        answer, prepared = self.reload()
        assert prepared is not None, answer
        assert not prepared.fleets
        assert prepared.changed == []
        return prepared.needs_restart

    def refusal(self) -> Refused:
        """Reload; return why that is refused."""
        before = self.now, self.streams.detectors()
        answer, _ = self.reload()
        assert isinstance(answer, Refused)
        assert self.reloads.document()["refused"] == str(answer)
        assert (self.now, self.streams.detectors()) == before
        return answer


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


# ---- what gets another detector


def test_the_contents_of_a_file_count_and_not_its_path(rig: Rig, zoo_bundle: Bundle) -> None:
    assert rig.exchanged() == []
    rig.write(OTHER, ONE)
    answer, _ = rig.reload()
    assert answer == {
        "changed": ["streams.a.bundle"],
        "exchanged": {},
        "needs_restart": [],
        "still_refused": {},
        "mended": [],
    }
    other = put(zoo_bundle, rig.other, version=2)
    assert rig.exchanged() == [["a"]]
    assert rig.streams.detectors()["a"].digest == other.digest
    assert rig.streams.detectors()["b"].digest == zoo_bundle.digest


def test_streams_of_one_bundle_go_on_sharing_its_network(rig: Rig, zoo_bundle: Bundle) -> None:
    put(zoo_bundle, rig.one, version=2)
    assert rig.exchanged() == [["a", "b"]]
    detectors = rig.streams.detectors()
    assert detectors["a"] is detectors["b"]
    assert rig.exchanged() == []


def test_files_with_the_same_contents_may_go_on_with_a_network_each(tmp_path: Path) -> None:
    assert Rig(tmp_path, ONE, OTHER).exchanged() == []


def test_a_stream_that_gets_the_bundle_of_another_shares_its_network(
    tmp_path: Path, zoo_bundle: Bundle
) -> None:
    rig = Rig(tmp_path, ONE, baseline_of())
    rig.write(ONE, OTHER)  # another file with the same contents
    assert rig.exchanged() == [["b"]]
    detectors = rig.streams.detectors()
    assert detectors["b"] is detectors["a"]


def test_a_baseline_with_other_settings_is_another_detector(tmp_path: Path) -> None:
    rig = Rig(tmp_path, ONE, baseline_of())
    assert rig.exchanged() == []
    rig.write(ONE, baseline_of().replace("period_s = 0.2", "period_s = 0.2, deviations_max = 7.0"))
    assert rig.exchanged() == [["b"]]


# ---- what cannot be exchanged while it runs


@pytest.mark.parametrize(
    ("watched_by", "reason"),
    [
        (baseline_of(period_s=1.0), "it has a sample every 1 s, the running one every 0.2 s"),
        (baseline_of("flow voltage"), "its channels are flow, voltage, those of the running one "),
    ],
)
def test_another_grid_and_other_channels_need_a_restart(
    rig: Rig, watched_by: str, reason: str
) -> None:
    rig.write(ONE, f"silent_after_s = 5\n{watched_by}")
    told = rig.needs_restart()
    assert told[0] == "streams.b.silent_after_s"  # no half of a stream's table
    assert told[1].startswith(f"streams.b.baseline ({reason}")
    assert len(told) == 2
    assert rig.reloads.document()["needs_restart"] == told


def test_other_raw_channels_need_a_restart(
    rig: Rig, zoo_bundle: Bundle, signal_bundle: Bundle
) -> None:
    put(signal_bundle, rig.one)
    (a, b) = rig.needs_restart()
    assert (
        a == "streams.a.bundle (its raw channels, or their order, are not those of the running one)"
    )
    assert b.startswith("streams.b.bundle (")


# ---- what is refused


def test_a_bundle_that_is_refused_changes_nothing(rig: Rig, zoo_bundle: Bundle) -> None:
    put(zoo_bundle, rig.one, version=2)
    rig.other.write_bytes(rig.other.read_bytes()[:-100])
    rig.write(ONE, OTHER, "[health]\ninterval_s = 5\n")
    refusal = rig.refusal()
    assert refusal.code == "bundle"
    assert str(rig.other) in str(refusal)


def test_limits_that_do_not_fit_another_bundle_are_refused(rig: Rig, zoo_bundle: Bundle) -> None:
    channels = zoo_bundle.manifest.channels
    (unit,) = (channel.unit for channel in channels if channel.name == "flow")
    limit = f'\n[[streams.limits]]\nchannel = "flow"\nunit = "{unit}"\nhigh_warning = 100\n'
    rig.write(ONE + limit, ONE)
    assert rig.exchanged() == []
    other = [channel.model_copy(update={"unit": "drops"}) for channel in channels]
    put(zoo_bundle, rig.one, channels=other)
    refusal = rig.refusal()
    assert refusal.code == "configuration"
    assert "stream a: limits: flow: unit" in str(refusal)


def test_a_revoked_bundle_is_refused_though_it_runs(tmp_path: Path, zoo_bundle: Bundle) -> None:
    trust = '[keys]\ndirectory = "keys"\n[bundles]\nrequire_signature = false\n'
    (tmp_path / "keys").mkdir()
    rig = Rig(tmp_path, more=trust)
    assert rig.exchanged() == []
    (tmp_path / "keys" / "revoked").write_text(f"bundle {zoo_bundle.digest} leaks\n")
    assert "revokes bundle" in str(rig.refusal())


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("/bin/false", "ended without an answer (code 1)"),
        ("/not/there", "cannot be started: [Errno 2]"),
    ],
)
def test_a_reload_that_cannot_be_checked_changes_nothing(
    rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    program: str,
    said: str,
) -> None:
    rig.write(more="[health]\ninterval_s = 5\n")
    monkeypatch.setattr("sys.executable", program)
    refusal = rig.refusal()
    assert said in str(refusal)
    assert said in caplog.text
    monkeypatch.undo()
    answer, _ = rig.reload()
    assert answer == {
        "changed": ["health.interval_s"],
        "exchanged": {},
        "needs_restart": [],
        "still_refused": {},
        "mended": [],
    }


# ---- more than one, and the end


def test_requests_that_wait_together_are_one(rig: Rig) -> None:
    assert rig.reloads.ask() is rig.reloads.ask()


def test_nothing_is_left_of_one_that_a_stop_ends(rig: Rig) -> None:
    later = rig.reloads.ask()
    rig.reloads.turn(rig.now)
    rig.reloads.stop()
    assert later.answer is None
    assert rig.reloads.turn(rig.now) is None
