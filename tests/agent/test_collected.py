"""What a collector has: messages once, and the books of their numbers, in bounded memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.collected import Collected, Message, Source


def message(source: Source, seq: int) -> Message:
    return Message(source, seq, "topic", b"{}", [])


def test_books_that_are_not_in_memory_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.collected._BOOKS_MAX", 2)
    sources = [Source(f"gw-{number}", "0" * 16) for number in range(5)]
    with Collected(tmp_path, "plant") as collected:
        for source in sources:
            assert collected.forgo(source, [(4, 5)]) == [(4, 5)]
            assert all(collected.take(message(source, seq)) for seq in (1, 2, 6, 9))
        assert len(collected.commit()) == 20
        assert len(collected._books) == 2
        for source in collected.touched():
            said = json.loads(collected.acknowledgement(source))
            assert (said["through_seq"], said["also"]) == (2, [[4, 6], [9, 9]])
        for source in sources:
            assert not collected.take(message(source, 6))
            assert collected.take(message(source, 3))
            assert collected.take(message(source, 4))  # it came after all
            collected.commit()
        for source in sources:
            said = json.loads(collected.acknowledgement(source))
            assert (said["through_seq"], said["also"]) == (6, [[9, 9]])
            assert [seq for seq, _ in collected.messages(source)] == [1, 2, 3, 4, 6, 9]
