"""The document that outlives a power cut, on real files."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from agent.defects.notes import BYTES_MAX, Notes


def kept(path: Path) -> dict[str, object]:
    notes = Notes(path)
    notes.close()
    return notes.read()


def test_what_was_written_last_is_read(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    assert kept(path) == {}
    for number in range(5):
        notes = Notes(path)
        notes.write({"number": number, "text": "é\n" * number})
        notes.close()
        assert kept(path) == {"number": number, "text": "é\n" * number}
    assert path.stat().st_size == 2 * BYTES_MAX
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("writings", [1, 2, 3])
def test_a_writing_that_the_power_cut_leaves_the_one_before(tmp_path: Path, writings: int) -> None:
    """At any point, of any part of it."""
    path, before, after = tmp_path / "notes", {"hand": "a" * 60}, {"hand": "b" * 60}
    notes = Notes(path)
    for _ in range(writings):
        notes.write(before)
    old = path.read_bytes()
    notes.write(after)
    new = path.read_bytes()
    notes.close()
    chance = random.Random(5)
    seen = []
    changed = [at for at in range(len(new)) if old[at] != new[at]]
    for cut in range(len(changed)):
        written = changed[: cut + 1] if cut % 2 else chance.sample(changed, cut + 1)
        torn = bytearray(old)
        for at in written:
            torn[at] = new[at]
        path.write_bytes(torn)
        seen.append(kept(path))
    assert all(found in (before, after) for found in seen)
    assert seen[0] == before
    assert seen[-1] == after


@pytest.mark.parametrize("content", [b"", b"x", bytes(2 * BYTES_MAX), b"\xff" * 2 * BYTES_MAX])
def test_what_is_no_document_of_ours_counts_as_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes"
    path.write_bytes(content)
    assert kept(path) == {}
    notes = Notes(path)
    notes.write({"a": 1})
    notes.close()
    assert kept(path) == {"a": 1}
