"""The process that checks for the agent: what it returns and raises, and what if it ends."""

from __future__ import annotations

import codecs
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config import load as configuration
from agent.config.checker import Checker, NotChecked
from models import bundle as bundles
from models.bundle import Bundle
from models.errors import BundleCorrupt, BundleTooNew, ConfigError

CONFIGURATION = """
gateway = {{site = "plant", name = "gw"}}
streams = [{{name = "pump", bundle = "pump.fieldwatch"}}]
inputs = [{{name = "line", stream = "pump", port = "ttyUSB0", columns = ["flow"]}}]
store = {{flush_interval_s = {interval}}}
"""


@pytest.fixture
def checker() -> Iterator[Checker]:
    with Checker() as started:
        yield started


def written(directory: Path, interval: str) -> Path:
    file = directory / "agent.toml"
    file.write_text(CONFIGURATION.format(interval=interval))
    return file


def test_what_is_right_comes_back_and_what_is_wrong_is_raised(
    checker: Checker, tmp_path: Path, zoo_bundle: Bundle
) -> None:
    file = written(tmp_path, "0.5")
    assert checker.call(configuration.load, file) == configuration.load(file)
    manifest = checker.call(bundles.manifest_of, "a.fieldwatch", zoo_bundle.manifest_bytes)
    assert manifest == zoo_bundle.manifest

    file = written(tmp_path, '"often"')
    with pytest.raises(ConfigError) as here:
        configuration.load(file)
    with pytest.raises(ConfigError) as there:
        checker.call(configuration.load, file)
    assert str(there.value) == str(here.value)
    with pytest.raises(BundleCorrupt, match=r"a\.fieldwatch: manifest\.json is not JSON"):
        checker.call(bundles.manifest_of, "a.fieldwatch", b"\xff{")
    with pytest.raises(BundleTooNew):
        checker.call(bundles.manifest_of, "a.fieldwatch", b'{"format_version": 3}')


def test_a_process_that_ends_is_told_with_its_code(checker: Checker, tmp_path: Path) -> None:
    assert checker.call(os.getpid) != os.getpid()
    os.kill(checker.call(os.getpid), signal.SIGKILL)
    with pytest.raises(NotChecked, match="code -9"):
        checker.call(configuration.load, written(tmp_path, "1"))


def test_a_function_that_fails_ends_it(capfd: pytest.CaptureFixture[str]) -> None:
    with Checker() as checker, pytest.raises(NotChecked, match="code 1"):
        checker.call(os.kill, 0, -1)  # an error, but none of ours
    assert "OSError" in capfd.readouterr().err


def test_the_trace_of_what_ends_it_forges_no_line(capfd: pytest.CaptureFixture[str]) -> None:
    with Checker() as checker, pytest.raises(NotChecked, match="code 1"):
        checker.call(codecs.lookup, "x\x1b[2J\n<0>root: forged")  # the error quotes it as it is
    lines = capfd.readouterr().err.removesuffix("\n").split("\n")
    assert lines[-2:] == [r"  LookupError: unknown encoding: x\x1b[2J", "  <0>root: forged"]
    assert all(line.startswith("  ") and line.isprintable() for line in lines)
