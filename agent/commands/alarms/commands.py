"""The command ``fieldwatch-agent alarms`` and its own commands: reads arguments, prints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agent.commands.options import config_option, json_option, reason_option, short_text
from agent.handling.transition import LABELS
from models import console
from models.console import Colored, say, say_error, say_json, say_lines
from models.errors import FieldwatchError, StoreError
from models.options import Number

if TYPE_CHECKING:
    from agent.commands.alarms.listed import Reference
    from agent.commands.alarms.moments import Moments
    from agent.commands.life import Life
    from agent.store.reader import Reader

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_utc_option = click.option("--utc", is_flag=True, help="Times in UTC, not in local time.")
_language_option = click.option(
    "--language", help="Language of the alarms, such as de; else that of the configuration."
)
_HOURS = Number(0, 168, min_open=True)


def _reference(_: click.Context, __: click.Parameter, value: str) -> Reference:
    from agent.commands.alarms.listed import parse_reference

    try:
        return parse_reference(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _references(
    context: click.Context, parameter: click.Parameter, value: Sequence[str]
) -> list[Reference]:
    from agent.commands.alarms.listed import parse_references

    try:
        return [one for text in value for one in parse_references(text)]
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


_several = click.argument(
    "alarms", metavar="ALARM...", nargs=-1, required=True, callback=_references
)
_single = click.argument("alarm", metavar="ALARM", callback=_reference)


@click.group(invoke_without_command=True)
@config_option
@click.option("--open", "open_only", is_flag=True, help="Only alarms that are not normal.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="List so many of the newest; what is not normal is always listed.",
)
@click.option("--follow", is_flag=True, help="Keep printing what changes.")
@_language_option
@_utc_option
@json_option
@click.pass_context
def alarms(
    context: click.Context,
    config_file: Path,
    open_only: bool,
    limit: int,
    follow: bool,
    language: str | None,
    utc: bool,
    as_json: bool,
) -> int:
    """List alarms, what needs somebody first; or show and handle one: see the commands below.

    The first column names an alarm for the other commands: pump-1#3.7 is alarm 3 of pump-1 as it
    was at its change 7. If it has changed since, the agent refuses the request and says how it is
    now.

    If no agent is watching, it says since when, and ends with exit code 3. If the agent cannot
    store, the list is not complete: it says so, and ends with exit code 74. With --json it prints
    one document; with --json and --follow, one object per line.
    """
    if context.invoked_subcommand is not None:
        return 0
    from agent.commands.alarms import listed
    from agent.commands.follow import Followed, known_alarms
    from agent.commands.life import life
    from agent.commands.running import unstored
    from agent.config.location import store_directory
    from agent.store.reader import Reader

    moments = _moments(utc, config_file, language)
    with Reader(store_directory(config_file)) as reader:
        found = life(reader)
        waits = unstored(config_file) if found.watching else None  # before the rows are read
        known = known_alarms(reader) if follow else []  # likewise
        followed = Followed(reader, known, brief=not as_json) if follow else None
        rows = listed.alarms(reader, limit, open_only)
        if as_json and followed is None:
            say_json({"agent": found._asdict(), "unstored": waits, "alarms": rows})
        else:
            key = "terminal.none_open" if open_only else "terminal.none"
            none = "" if follow else moments.language.phrase(key, "no alarms")
            _say_rows(rows, none, as_json, moments)
            _say_reminder(reader, as_json, moments)
            _say_unstored(waits, as_json, moments)
            _say_life(found, as_json, moments)
        if followed is not None:
            for news in followed.changes(found):
                _say_news(news, as_json, moments)
    return StoreError.exit_code if waits else found.exit_code


def _say_rows(
    rows: Sequence[Mapping[str, Any]], none: str, as_json: bool, moments: Moments
) -> None:
    """Print alarms; ``none`` is what people read if there are none."""
    from agent.commands.alarms import table

    if as_json:
        for row in rows:
            say_json(row, indent=None)
    elif rows:
        _say_list(table.lines(rows, moments), rows)
    elif none:
        say(none)


def _say_reminder(reader: Reader, as_json: bool, moments: Moments) -> None:
    """Print which alarms nobody has explained yet."""
    from agent.commands.alarms import labels

    if not as_json:
        for line in labels.reminder(labels.due_again(reader, time.time()), moments.language):
            say(line)


def _say_list(lines: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    from agent.commands.alarms.listed import section
    from agent.commands.alarms.table import reference
    from models.printable import printable

    urgent = {printable(reference(row)) for row in rows if section(row) == "unacknowledged"}
    for line in lines:
        say(Colored(line, "red") if line.partition(" ")[0] in urgent else line)


def _say_unstored(waits: Mapping[str, Any] | None, as_json: bool, moments: Moments) -> None:
    """Report what the store cannot show, because the agent cannot write to it."""
    from agent.alarms.document import not_stored
    from agent.wording.message import Message

    if waits is None:
        return
    if as_json:
        say_json({"unstored": waits}, indent=None)
        return
    for one in waits["alarms"]:
        say(Colored(_alarm_line(one, moments), "red"))
    told = {"told": not_stored(waits, moments.told)}
    say(Colored(moments.language.text(Message("unstored.title", told)), "red"))


def _say_life(life: Life, as_json: bool, moments: Moments) -> None:
    """Report if no agent watches; a program gets the state in any case."""
    if as_json:
        say_json({"agent": life._asdict()}, indent=None)
    elif (told := life.told(moments.told)) is not None:
        say(Colored(told, "red"))


def _say_news(news: Mapping[str, Any] | Life, as_json: bool, moments: Moments) -> None:
    from agent.alarms.lifecycle import OPENED
    from agent.commands.life import Life

    if isinstance(news, Life):
        _say_life(news, as_json, moments)
        if news.watching and not as_json:
            say(Colored(moments.language.phrase("life.again", "an agent watches"), "green"))
    elif as_json:
        say_json(news, indent=None)
    elif "group" in news:
        say(Colored(_group_line(news["group"], moments), "red"))
    elif "transition" in news:
        for line in _transition_lines(news["transition"], moments):
            say(line)
    else:
        row = news.get("raised_as") or {}
        text = f"{_alarm_line(news, moments)} {_mark(row, moments)}".rstrip()
        calls = news["state"] == OPENED and not row.get("advisory")
        say(Colored(text, "red") if calls else text)


def _alarm_line(alarm: Mapping[str, Any], moments: Moments) -> str:
    """Return an alarm in one line; in English with all its values."""
    from agent.alarms.document import describe
    from agent.wording.sentence import first_sentence

    if moments.language.name == "en":
        return describe(alarm, moments.full)
    number = "" if alarm["number"] is None else f"#{alarm['number']}"
    return f"{alarm['stream']}{number}: {first_sentence(alarm, moments.told)}"


def _mark(row: Mapping[str, Any], moments: Moments) -> str:
    from agent.commands.alarms.shown import why_of
    from agent.wording.message import Message

    told = moments.language
    if row.get("advisory"):
        return told.phrase("follow.advisory", "(an advisory)")
    if row.get("after") == "DSUPR":
        return told.text(Message("follow.suppressed", {"why": why_of(row, moments.told)}))
    if row.get("chattering"):
        return told.text(Message("follow.chatters", {"count": str(row["chattering"])}))
    return ""


def _group_line(group: Mapping[str, Any], moments: Moments) -> str:
    from agent.commands.alarms.grouped import kinds
    from agent.wording.message import Message

    members, told = group["members"], moments.language
    known = {"stream": group["stream"], "count": str(len(members)), "kinds": kinds(members, told)}
    return told.text(Message(f"follow.{group['state']}", known))


def _transition_lines(row: Mapping[str, Any], moments: Moments) -> Sequence[str]:
    from agent.commands.alarms.shown import row_text

    return [f"{row['stream']} {row_text(row, moments)}"]


def _moments(utc: bool, config_file: Path, language: str | None = None) -> Moments:
    """Return now, in the language asked for or configured."""
    from agent.commands.alarms.moments import Moments
    from agent.commands.alarms.told import language_of

    return Moments(datetime.now(UTC), utc, language_of(config_file, language))


@alarms.command()
@_single
@config_option
@_language_option
@_utc_option
@click.option(
    "--window", "with_window", is_flag=True, help="With --json: all samples around the onset, too."
)
@json_option
def show(
    alarm: Reference,
    config_file: Path,
    language: str | None,
    utc: bool,
    with_window: bool,
    as_json: bool,
) -> int:
    """Show one ALARM: what to do, what was found, how sure, a chart, and the logbook.

    The chart shows the samples around the onset as the agent saw them: what was observed, what was
    expected, and the score against the threshold.
    """
    if with_window and not as_json:
        raise click.UsageError("--window needs --json")
    from agent.commands.alarms import listed, shown
    from agent.commands.life import life
    from agent.config.location import store_directory
    from agent.store.reader import Reader
    from agent.store.windows import window

    with Reader(store_directory(config_file)) as reader:
        found, watched = listed.one(reader, alarm), life(reader)
        seen = window(reader.query_records, found["stream"], found["number"])
    if as_json:
        kept = seen and (seen.document() if with_window else seen.about())
        say_json({"agent": watched._asdict(), "alarm": found, "window": kept})
        return watched.exit_code
    moments = _moments(utc, config_file, language)
    for line in shown.lines(found, moments, config_file, console.has_blocks(), seen):
        say(line)
    _say_life(watched, as_json, moments)
    return watched.exit_code


@alarms.command()
@_several
@reason_option(required=False)
@config_option
@json_option
def ack(alarms: Sequence[Reference], reason: str | None, config_file: Path, as_json: bool) -> int:
    """Acknowledge: somebody has seen each ALARM and takes care of it.

    pump-1#3.7,4.2 names two alarms of pump-1. Only the alarms that you name are acknowledged.
    """
    return _ask(config_file, "alarm.acknowledge", alarms, as_json, reason=reason)


@alarms.command()
@_several
@reason_option(required=False)
@config_option
@json_option
def unack(alarms: Sequence[Reference], reason: str | None, config_file: Path, as_json: bool) -> int:
    """Take the acknowledgement of each ALARM back."""
    return _ask(config_file, "alarm.unacknowledge", alarms, as_json, reason=reason)


@alarms.command()
@_several
@reason_option(required=False)
@config_option
@json_option
def reset(alarms: Sequence[Reference], reason: str | None, config_file: Path, as_json: bool) -> int:
    """Release the latch of each ALARM that is over and acknowledged."""
    return _ask(config_file, "alarm.reset", alarms, as_json, reason=reason)


@alarms.command()
@_several
@reason_option(required=True)
@click.option("--hours", type=_HOURS, default=8.0, show_default=True, help="At most this long.")
@click.option("--fixed", is_flag=True, help="For this time, even if it clears earlier.")
@config_option
@json_option
def shelve(
    alarms: Sequence[Reference],
    reason: str,
    hours: float,
    fixed: bool,
    config_file: Path,
    as_json: bool,
) -> int:
    """Put each ALARM aside until it clears, or for a time. This does not acknowledge it."""
    return _ask(
        *(config_file, "alarm.shelve", alarms, as_json),
        reason=reason,
        hours=hours,
        until_clear=not fixed,
    )


@alarms.command()
@_several
@reason_option(required=False)
@config_option
@json_option
def unshelve(
    alarms: Sequence[Reference], reason: str | None, config_file: Path, as_json: bool
) -> int:
    """End the shelving of each ALARM."""
    return _ask(config_file, "alarm.unshelve", alarms, as_json, reason=reason)


@alarms.command("out-of-service")
@_several
@reason_option(required=True)
@config_option
@json_option
def out_of_service(
    alarms: Sequence[Reference], reason: str, config_file: Path, as_json: bool
) -> int:
    """Take each ALARM out of service for maintenance. This has no time limit."""
    return _ask(config_file, "alarm.out-of-service", alarms, as_json, reason=reason)


@alarms.command("in-service")
@_several
@reason_option(required=False)
@config_option
@json_option
def in_service(
    alarms: Sequence[Reference], reason: str | None, config_file: Path, as_json: bool
) -> int:
    """Put each ALARM back into service."""
    return _ask(config_file, "alarm.in-service", alarms, as_json, reason=reason)


@alarms.command()
@_single
@click.argument("text", callback=short_text)
@config_option
@json_option
def note(alarm: Reference, text: str, config_file: Path, as_json: bool) -> int:
    """Write TEXT into the logbook of ALARM."""
    return _ask(config_file, "alarm.note", [alarm], as_json, reason=text)


@alarms.command()
@click.argument("words", metavar="[ALARM] LABEL", nargs=-1, required=True)
@reason_option(told="The kind of fault or what was done; it goes into the logbook.")
@click.option("--from", "from_text", help="Begin of what it is about, instead of the alarm's.")
@click.option("--to", "to_text", help="Its end; default: now.")
@click.option("--stream", help="Label a time of this stream that had no alarm; needs --from.")
@config_option
@json_option
def label(
    words: Sequence[str],
    reason: str | None,
    from_text: str | None,
    to_text: str | None,
    stream: str | None,
    config_file: Path,
    as_json: bool,
) -> int:
    """Say what was behind ALARM: confirmed, false, nothing-found or maintenance.

    A later label replaces an earlier one. Without ALARM, but with --stream and --from, the label is
    for a fault or for maintenance that raised no alarm. Times are like 2026-11-29T08:00:00Z, or -3h
    for 3 hours ago.
    """
    from agent.commands.alarms import labels as labelled
    from agent.commands.alarms.listed import parse_reference

    *named, said = words
    if said not in LABELS:
        raise click.UsageError(f"the last word must be one of {', '.join(LABELS)}")
    try:
        period = labelled.period(from_text, to_text)
        reference = parse_reference(*named) if len(named) == 1 else None
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if len(named) > 1 or bool(named) == bool(stream) or (stream and not period):
        raise click.UsageError("name one ALARM, or a time with --stream and --from")
    if reference is not None:
        return _ask(
            config_file, "alarm.label", [reference], as_json, label=said, reason=reason, **period
        )
    from agent.commands.alarms.asked import request

    given = {"stream": stream, "label": said, "reason": reason} | period
    done = request(config_file, "alarm.label", given)
    if as_json:
        say_json({"transitions": [done]})
    else:
        _say_done(done, config_file)
    return 0


@alarms.command()
@click.option("--stream", help="Only of this stream.")
@click.option("--label", "only", type=click.Choice(LABELS), help="Only with this label.")
@click.option("--csv", "as_csv", is_flag=True, help="As fieldwatch-agent labels export.")
@config_option
@_language_option
@_utc_option
@json_option
def labels(
    stream: str | None,
    only: str | None,
    as_csv: bool,
    config_file: Path,
    language: str | None,
    utc: bool,
    as_json: bool,
) -> int:
    """List the newest label of each alarm, and of faults that raised none."""
    from agent.commands.alarms import labels as labelled
    from agent.config.location import store_directory
    from agent.store.reader import Reader

    if as_csv and (as_json or stream is None):
        raise click.UsageError("--csv needs --stream, and excludes --json")
    with Reader(store_directory(config_file)) as reader:
        found = labelled.labels(reader, stream, only)
    if as_json:
        say_json({"labels": found})
    elif as_csv:
        say_lines(labelled.as_csv(found, time.time()))
    else:
        for line in labelled.lines(found, _moments(utc, config_file, language)):
            say(line)
    return 0


def _ask(
    config_file: Path,
    verb: str,
    references: Sequence[Reference],
    as_json: bool,
    **arguments: Any,
) -> int:
    """Send a request for each alarm; print the results. Return the first refusal's exit code."""
    from agent.commands.alarms.asked import asked, asked_each

    if len(references) == 1:
        results: Any = [(references[0], asked(config_file, verb, references[0], arguments))]
    else:
        results = asked_each(config_file, verb, references, arguments)
    made, first = [], 0
    for reference, done in results:
        if isinstance(done, FieldwatchError):
            name = f"{reference.stream or ''}#{reference.number}"
            say_error("fieldwatch-agent", f"{name}: {done}")
            first = first or done.exit_code
            continue
        made.append(done)
        if not as_json:
            _say_done(done, config_file)
    if as_json:
        say_json({"transitions": made})
    return first


def _say_done(done: Mapping[str, Any], config_file: Path) -> None:
    from agent.commands.alarms.done import lines
    from agent.commands.alarms.told import language_of

    for line in lines(done, language_of(config_file, None)):
        say(line)
