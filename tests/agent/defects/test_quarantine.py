"""When a message is set aside, and when not: the ends of an agent, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.defects.quarantine import ENDS_MAX, KEPT, KEPT_MAX, NOTES, Quarantine
from agent.health.status import set_aside_lines
from agent.inputs.source import Chunk
from agent.parsing.measurement import Measurement
from models.errors import FieldwatchError

BAD = b"bad"


def chunk(*lines: bytes, source: str = "bus") -> Chunk:
    return Chunk(source, 1_700_000_000.0, 0.0, list(lines), 7, True, origin="a/b")


def start(directory: Path, headed: tuple[str, ...] = ()) -> Quarantine:
    made = Quarantine(directory, headed)
    made.open()
    return made


def take(quarantine: Quarantine, one: Chunk) -> Iterator[bytes]:
    """What the loop does with a chunk; yields each line while it is in hand."""
    for digest, part in quarantine.parts(one):
        quarantine.hold(digest)
        yield from part.lines
        quarantine.passed(digest)
    quarantine.settle()


def end_with(directory: Path, one: Chunk, times: int = 1) -> None:
    """Agents that end when they meet what is bad."""
    for _ in range(times):
        for line in take(start(directory), one):
            if BAD in line:
                break  # the process is gone


def taken(quarantine: Quarantine, one: Chunk) -> list[bytes]:
    return list(take(quarantine, one))


def test_after_a_clean_stop_nothing_is_written_and_nothing_asked(tmp_path: Path) -> None:
    start(tmp_path).close()
    quarantine = start(tmp_path)
    before = (tmp_path / NOTES).read_bytes()
    assert quarantine.at_rest
    assert quarantine.cleared(chunk(BAD)) == chunk(BAD)
    quarantine.settle()
    assert (tmp_path / NOTES).read_bytes() == before


def test_any_other_end_makes_the_next_careful(tmp_path: Path) -> None:
    start(tmp_path)
    assert start(tmp_path).careful
    start(tmp_path).close()
    assert not start(tmp_path).careful


def test_what_ends_it_again_and_again_is_set_aside(tmp_path: Path) -> None:
    start(tmp_path)  # ends with who knows what in hand
    end_with(tmp_path, chunk(BAD), ENDS_MAX - 1)
    quarantine = start(tmp_path)
    assert taken(quarantine, chunk(BAD)) == [BAD]  # not yet
    end_with(tmp_path, chunk(BAD), ENDS_MAX)
    quarantine = start(tmp_path)
    (part,) = quarantine.parts(chunk(BAD))
    assert (part[1].lines, part[1].token) == ([], 7)  # to be acknowledged
    assert quarantine.document()["count"] == 1
    (one,) = quarantine.document()["last"]
    assert (one["input"], one["origin"], one["excerpt"], one["bytes"]) == ("bus", "a/b", "bad", 3)
    assert (tmp_path / KEPT / one["digest"]).read_bytes() == BAD
    quarantine.close()
    again = start(tmp_path)
    assert again.cleared(chunk(BAD, b"good")).lines == [b"good"]
    assert again.cleared(chunk(BAD, source="other")).lines == [BAD]
    assert again.document()["count"] == 2


def test_what_was_committed_is_forgotten(tmp_path: Path) -> None:
    """Power cuts hit a good message now and then; they do not add up."""
    for _ in range(3 * ENDS_MAX):
        end_with(tmp_path, chunk(BAD), ENDS_MAX - 1)
        assert taken(start(tmp_path), chunk(BAD)) == [BAD]


def test_an_end_with_nothing_in_hand_counts_against_nothing(tmp_path: Path) -> None:
    for _ in range(3 * ENDS_MAX):
        assert taken(start(tmp_path), chunk(BAD)) == [BAD]
    assert start(tmp_path).document()["count"] == 0


def test_of_many_lines_the_one_is_found(tmp_path: Path) -> None:
    lines = [b"%d" % number for number in range(20)]
    start(tmp_path)
    end_with(tmp_path, chunk(*lines[:10], BAD, *lines[10:]), 1 + ENDS_MAX)
    quarantine = start(tmp_path)
    parts = list(quarantine.parts(chunk(*lines[:10], BAD, *lines[10:])))
    assert [line for _, part in parts for line in part.lines] == lines
    assert [part.token for _, part in parts] == [0] * 19 + [7]
    assert quarantine.document()["count"] == 1


def test_a_read_that_has_grown_is_still_the_same(tmp_path: Path) -> None:
    """A file gets lines between the ends."""
    lines = [b"1", BAD]
    for number in range(1 + ENDS_MAX):
        lines.append(b"%d" % number)
        end_with(tmp_path, chunk(*lines))
    quarantine = start(tmp_path)
    assert taken(quarantine, chunk(*lines, b"9"))[:2] == [b"1", b"0"]


def test_a_line_stays_below_its_header(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path, ["bus"])
    quarantine.open()
    text = chunk(b"time,flow", b"1,2", b"3,4")
    assert [part.lines for _, part in quarantine.parts(text)] == [text.lines]
    for ends in range(1 + ENDS_MAX):
        died = Quarantine(tmp_path, ["bus"])
        died.open()
        for digest, part in died.parts(text):
            died.hold(digest)
            assert part.lines[0] == b"time,flow"
            if b"3,4" in part.lines:
                assert (len(part.lines) == 3) == (ends == 0)
                break
            died.passed(digest)
    quarantine = Quarantine(tmp_path, ["bus"])
    quarantine.open()
    head = [b"time,flow"]
    assert [part.lines for _, part in quarantine.parts(text)] == [head, [*head, b"1,2"]]
    assert quarantine.cleared(text).lines == [b"time,flow", b"1,2"]


def test_what_is_below_a_bad_header_is_set_aside_with_it(tmp_path: Path) -> None:
    text = chunk(b"time,bad", b"1,2", b"3,4")
    for _ in range(2 + ENDS_MAX):
        died = Quarantine(tmp_path, ["bus"])
        died.open()
        for digest, _part in died.parts(text):
            died.hold(digest)
            break  # as the header is in all of them
    quarantine = Quarantine(tmp_path, ["bus"])
    quarantine.open()
    assert [(part.lines, part.token) for _, part in quarantine.parts(text)] == [([], 7)]
    quarantine.close()
    quarantine.open()
    assert quarantine.cleared(text).lines == []
    assert quarantine.cleared(chunk(b"time,flow", b"1,2")).lines == [b"time,flow", b"1,2"]


def test_what_is_kept_is_bounded_whatever_it_is(tmp_path: Path) -> None:
    start(tmp_path)
    for number in range(KEPT_MAX + 5):
        text = "\U0001f4a5" * 5000 + f'"\\{number}'
        one = chunk(text.encode() + BAD)._replace(origin="\U0001f4a5" * 5000)
        end_with(tmp_path, one, ENDS_MAX)
        quarantine = start(tmp_path)
        assert taken(quarantine, one) == []
    assert len(list((tmp_path / KEPT).iterdir())) == KEPT_MAX
    assert quarantine.document()["count"] == KEPT_MAX + 5
    assert len(quarantine.document()["last"]) == 5


def test_another_version_tries_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end_with(tmp_path, chunk(BAD), 1 + ENDS_MAX)
    assert taken(start(tmp_path), chunk(BAD)) == []
    monkeypatch.setattr("agent.defects.quarantine.__version__", "99.0.0")
    assert taken(start(tmp_path), chunk(BAD)) == [BAD]


def test_where_nothing_can_be_noted_it_goes_on_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / NOTES).symlink_to("/dev/full")
    quarantine = start(tmp_path)
    assert quarantine.at_rest
    assert taken(quarantine, chunk(BAD)) == [BAD]
    quarantine.close()
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_readings_that_come_again_are_set_aside_one_by_one(tmp_path: Path) -> None:
    rows = [Measurement({"flow": float(at)}, 1e9 + at) for at in range(3)]
    again = Chunk("plc", 1_700_000_000.0, 0.0, (), 7, True, measurements=rows)
    for _ in range(1 + ENDS_MAX):  # first as a whole
        quarantine = start(tmp_path)
        for digest, part in quarantine.parts(again):
            quarantine.hold(digest)
            if rows[1] in part.measurements:
                break  # the process is gone
            quarantine.passed(digest)
    quarantine = start(tmp_path)
    parts = [part for _, part in quarantine.parts(again)]
    assert [(list(part.measurements), part.token) for part in parts] == [
        ([rows[0]], 0),
        ([rows[2]], 7),
    ]
    assert quarantine.document()["last"][0]["excerpt"] == "time=1000000001.0 flow=1.0"
    assert list(quarantine.cleared(again).measurements) == [rows[0], rows[2]]


def end_a_thread(quarantine: Quarantine, *parts: bytes, with_what: type[Exception]) -> None:
    with pytest.raises(with_what), quarantine.guard.over(*parts):
        raise with_what
    quarantine.close(clean=False)


def test_what_ends_a_thread_is_refused_and_the_next_agent_is_careful(tmp_path: Path) -> None:
    for _ in range(ENDS_MAX):
        quarantine = start(tmp_path)
        assert not quarantine.guard.refuses(b"a/b", BAD)
        end_a_thread(quarantine, b"a/b", BAD, with_what=RuntimeError)
    quarantine = start(tmp_path)
    assert quarantine.careful
    assert quarantine.guard.refuses(b"a/b", BAD)
    assert not quarantine.guard.refuses(b"a/c", BAD)
    assert quarantine.cleared(chunk(BAD)._replace(refused=True)).lines == []
    assert quarantine.document()["count"] == 1
    quarantine.close()
    quarantine = start(tmp_path)
    assert not quarantine.careful
    assert not quarantine.at_rest  # refused chunks are looked for
    assert quarantine.cleared(chunk(BAD)._replace(refused=True)).lines == []
    assert quarantine.document()["count"] == 2
    assert len(quarantine.document()["last"]) == 1


def test_what_has_passed_or_ended_by_no_defect_is_not_refused(tmp_path: Path) -> None:
    for _ in range(2 * ENDS_MAX):
        end_a_thread(start(tmp_path), BAD, with_what=FieldwatchError)
    for _ in range(ENDS_MAX):
        end_a_thread(start(tmp_path), BAD, with_what=RuntimeError)
        quarantine = start(tmp_path)
        with quarantine.guard.over(BAD):
            pass
        quarantine.close()
    assert not start(tmp_path).guard.refuses(BAD)


def take_on_a_full_disk(quarantine: Quarantine, one: Chunk) -> None:
    for digest, _ in quarantine.parts(one):
        quarantine.hold(digest)
        quarantine.passed(digest, committed=False)
    quarantine.settle(committed=False)


def test_ends_while_nothing_can_be_committed_cost_no_good_message(tmp_path: Path) -> None:
    start(tmp_path)
    end_with(tmp_path, chunk(BAD))
    for _ in range(2 * ENDS_MAX):
        take_on_a_full_disk(start(tmp_path), chunk(BAD))
    end_with(tmp_path, chunk(BAD))  # the one end before it still counts, and then this one
    quarantine = start(tmp_path)
    assert taken(quarantine, chunk(BAD)) == [BAD]
    end_with(tmp_path, chunk(BAD), ENDS_MAX - 1)
    quarantine = start(tmp_path)
    take_on_a_full_disk(quarantine, chunk(BAD))
    quarantine.settle()  # the disk has room again: committed, and forgotten
    end_with(tmp_path, chunk(BAD))
    assert taken(start(tmp_path), chunk(BAD)) == [BAD]


def test_where_no_copy_can_be_kept_no_empty_one_is_and_it_is_said(tmp_path: Path) -> None:
    end_with(tmp_path, chunk(BAD), ENDS_MAX)
    (tmp_path / KEPT).mkdir()
    (tmp_path / "another").mkdir()
    ((digest, _),) = start(tmp_path / "another").parts(chunk(BAD))
    (tmp_path / KEPT / digest).symlink_to("/dev/full")
    quarantine = start(tmp_path)
    assert taken(quarantine, chunk(BAD)) == []
    assert list((tmp_path / KEPT).iterdir()) == []
    (one,) = quarantine.document()["last"]
    assert not one["kept"]
    assert any("no copy kept" in line for line in set_aside_lines(quarantine.document()))
