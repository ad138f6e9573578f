"""Changes of a TOML text that keep what people wrote."""

from __future__ import annotations

import tomllib

import pytest

from agent.setup.edit import Editor
from models.errors import ConfigError
from tests.conftest import ROOT

SAMPLE = (ROOT / "systemd" / "agent.toml").read_text()
ROW = {"name": "a", "stream": "s", "columns": ["time", "flow"]}
STREAM = {"name": "s", "baseline": {"period_s": 1.0, "channels": [{"name": "flow"}]}}


def edited(text: str) -> Editor:
    return Editor(text, "agent.toml")


def test_what_is_not_changed_stays_to_the_byte() -> None:
    editor = edited(SAMPLE)
    editor.set(("gateway", "site"), "plant-1")
    editor.replace_rows("inputs", tomllib.loads(SAMPLE)["inputs"])
    editor.remove(("mqtt", "password_file"))
    editor.remove_table("nothing")
    assert editor.text() == SAMPLE


def test_a_value_changes_and_its_comment_stays() -> None:
    editor = edited('[gateway]\nname = "a # b"   # who\nsite = "s"\n')
    editor.set(("gateway", "name"), 'x"y')
    first, second, third = editor.text().splitlines()
    assert (first, third) == ("[gateway]", 'site = "s"')
    assert second.startswith('name = "x\\"y" ') and second.endswith(" # who")


def test_an_example_in_a_comment_becomes_the_setting() -> None:
    editor = edited(SAMPLE)
    editor.set(("mqtt", "port"), 8883)
    changed = set(editor.text().splitlines()) - set(SAMPLE.splitlines())
    assert changed == {"port = 8883                   # usually 8883 with TLS"}


def test_a_value_over_several_lines_is_replaced_as_a_whole() -> None:
    editor = edited('[a]\nlist = [\n  "x", # one\n  "]",\n]\nother = 1\n')
    editor.set(("a", "list"), ["y"])
    assert editor.text() == '[a]\nlist = ["y"]\nother = 1\n'


def test_a_new_setting_and_a_new_table_find_their_places() -> None:
    editor = edited("[a]\none = 1\n# about nothing\n\n[b]\nx = 1\n")
    editor.set(("a", "two"), 2)
    editor.set(("c", "d", "e"), True)
    assert editor.text() == (
        "[a]\none = 1\ntwo = 2\n# about nothing\n\n[b]\nx = 1\n\n[c.d]\ne = true\n"
    )


def test_a_table_that_goes_is_a_comment() -> None:
    editor = edited(
        "[mqtt]\nhost = 'a'\n# b\n[mqtt.commands]\nenabled = false\n[log]\nlevel = 'info'\n"
    )
    editor.remove_table("mqtt")
    assert editor.text().splitlines() == [
        "# [mqtt]",
        "# host = 'a'",
        "# b",
        "# [mqtt.commands]",
        "# enabled = false",
        "[log]",
        "level = 'info'",
    ]


def test_rows_that_stay_keep_their_text_and_the_sample_its_comments() -> None:
    text = edited(SAMPLE)
    text.replace_rows("streams", [STREAM])
    text.replace_rows("inputs", [ROW])
    made = text.text()
    assert [one["name"] for one in tomllib.loads(made)["inputs"]] == ["a"]
    comments = [line for line in SAMPLE.splitlines() if line.startswith("#")]
    assert [line for line in made.splitlines() if line.startswith("#")] == comments

    mine = made.replace("[[inputs]]\n", "[[inputs]] # mine\n")
    again = edited(mine)
    again.replace_rows("inputs", [ROW, {**ROW, "name": "b"}])
    assert "[[inputs]] # mine\n" in again.text()
    again.replace_rows("inputs", [{**ROW, "name": "b"}])
    assert "# mine" not in again.text()
    assert tomllib.loads(again.text())["inputs"] == [{**ROW, "name": "b"}]


def test_the_tables_of_a_row_go_with_it() -> None:
    editor = edited(
        "[[streams]]\nname = 'x'\n[streams.baseline]\nperiod_s = 1\n[[streams.limits]]\n"
        "channel = 'c'\n[[streams]]\nname = 'y'\n[streams.baseline]\nperiod_s = 2\n"
    )
    editor.replace_rows("streams", [editor.document["streams"][1], STREAM])
    assert editor.text() == (
        "[[streams]]\nname = 'y'\n[streams.baseline]\nperiod_s = 2\n\n[[streams]]\nname = \"s\"\n"
        'baseline.period_s = 1.0\nbaseline.channels = [{ name = "flow" }]\n'
    )


@pytest.mark.parametrize(
    "text",
    [
        'gateway.name = "a"\n',
        'gateway = { name = "a" }\n',
        '["gateway"]\nname = "a"\n',
        'text = """\n[gateway]\nname = "b"\n"""\n[gateway]\nname = "a"\n',
    ],
)
def test_a_form_that_is_not_understood_is_refused_and_not_damaged(text: str) -> None:
    editor = edited(text)
    editor.set(("gateway", "name"), "c")
    with pytest.raises(ConfigError, match="cannot be changed automatically"):
        editor.text()


def test_what_is_no_toml_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"agent\.toml: not TOML"):
        edited("[gateway\n")
