"""What ``check`` says about languages, the plant's own texts, help and shifts."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.commands.check import check

TABLES = """[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "."
{more}
[[streams]]
name = "pump"
baseline = {{ period_s = 1.0, channels = [{{ name = "flow" }}] }}
{stream}
[[inputs]]
name = "line"
port = "nowhere"
stream = "pump"
columns = ["time", "flow"]
"""


def said(tmp_path: Path, what: str, more: str = "", stream: str = "") -> list[tuple[bool, str]]:
    path = tmp_path / "agent.toml"
    path.write_text(TABLES.format(more=more, stream=stream))
    return [(one.ok, one.detail) for one in check(path) if one.what.split()[0] == what]


CATALOGUE = '[language]\ndefault = "{}"\ncatalogue = "texts.toml"'


def test_without_own_texts_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert said(tmp_path, "texts", '[language]\ndefault = "de"') == []


def test_an_own_language_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "texts.toml"
    file.write_text('[nl]\nlabel.state = "toestand"\n')
    assert said(tmp_path, "texts", CATALOGUE.format("nl")) == [(True, f"{file}: nl (1)")]


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ('[nl]\n"label.stat" = "x"', "nl: 'label.stat': there is no such text; did you mean"),
        ('[nl]\nlabel.state = "{x}"', "nl: 'label.state': unknown parameter {x}"),
        ('[nl]\nlabel.state = "{"', "nl: 'label.state': Single '{' encountered"),
        ('[nl]\nlabel.state = ["x"]', "nl: 'label.state': ['x']: must be a text"),
        ('nl = "x"', "nl: must be a table of texts"),
        ("[NL]", "'NL': must be the short name of a language"),
        ("[nl", "texts.toml: not TOML"),
        ("[nl]\nx = '" + "x" * 2**20 + "'", "at most 1048576 are allowed"),
    ],
)
def test_what_is_wrong_with_own_texts_is_named(tmp_path: Path, texts: str, says: str) -> None:
    (tmp_path / "texts.toml").write_text(texts + "\n")
    first, *_ = said(tmp_path, "texts", CATALOGUE.format("en"))
    assert not first[0]
    assert says in first[1]


def test_an_absent_file_and_an_unknown_language_are_named(tmp_path: Path) -> None:
    (absent,) = said(tmp_path, "texts", CATALOGUE.format("en"))
    assert "texts.toml: cannot be read" in absent[1]
    (unknown,) = said(tmp_path, "texts", '[language]\ndefault = "xx"')
    assert unknown == (False, "language.default = 'xx': there are en, de")


@pytest.mark.parametrize(
    ("more", "stream", "says"),
    [
        ('[shift]\nstarts = ["6:00"]', "", "shift.starts[0] = '6:00': must be a time of day"),
        ('[shift]\nstarts = ["24:00"]', "", "must be a time of day"),
        ("[shift]\nstarts = []", "", "shift.starts"),
        ('[shift]\nzone = "Europe/Berln"', "", "this machine has no such zone"),
        ('[shift]\nzone = "../etc/passwd"', "", "this machine has no such zone"),
        ("[shift]\nupdate_s = 59", "", "shift.update_s = 59"),
        ("", '[[streams.help]]\ntext = "a"\nkind = "gap"', "kind = 'gap'"),
        ("", "[[streams.help]]", "neither text nor link is set"),
        ("", '[[streams.help]]\nlink = "javascript:alert(1)"', "must begin with https://"),
        ("", '[[streams.help]]\nlink = "https://a b"', "must begin with https://"),
        ("", '[[streams.help]]\ntext = "a\\nb"', "must be one line of printable"),
        ("", '[[streams.help]]\ntext = "a"\n[[streams.help]]\ntext = "b"', "occurs twice"),
        ("", 'title = "\\u001b[2J"', "must be one line of printable"),
        ("", f'title = "{"a" * 61}"', "title"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, more: str, stream: str, says: str) -> None:
    ((ok, detail),) = said(tmp_path, "configuration", more, stream)
    assert not ok
    assert says in detail


@pytest.mark.parametrize(
    "stream",
    [
        'titles = { flo = "Durchfluss" }',
        'operating_point = ["flo"]',
        '[[streams.help]]\ntext = "a"\nchannel = "flo"',
    ],
)
def test_what_names_no_channel_of_the_stream_is_named(tmp_path: Path, stream: str) -> None:
    ((ok, detail),) = said(tmp_path, "stream", stream=stream)
    assert not ok
    assert "'flo': no channel of the stream; did you mean 'flow'?" in detail
