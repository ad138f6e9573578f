"""A module that runs in another Python: it must find this package, wherever it is started."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from models.errors import DataError
from trainer.detector.parity import run_elsewhere


def test_the_other_python_finds_the_package(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "path=$PYTHONPATH; $*" >&2\nexit 1\n')
    python.chmod(0o755)
    with pytest.raises(DataError, match="cannot replay") as error:
        run_elsewhere(python, "trainer.detector.parity", "tflite")
    found = re.search(r"path=(.*); -m (\S+) tflite", str(error.value))
    assert found is not None
    assert (Path(found[1]) / f"{found[2].replace('.', '/')}.py").is_file()
