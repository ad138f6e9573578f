"""The command ``fieldwatch-agent command``: central ops asks a gateway over the broker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from agent.commands.options import broker_options, json_option, reason_option, short_text
from agent.handling.transition import LABELS
from models.console import say, say_json
from models.options import Number

if TYPE_CHECKING:
    from agent.commands.alarms.listed import Reference


class _Target(NamedTuple):
    """The gateway, the broker and the key, as the options have them."""

    site: str
    gateway: str
    key: Path
    valid_s: float
    timeout_s: float
    as_json: bool
    broker: Mapping[str, Any]


def _reference(_: click.Context, __: click.Parameter, value: str) -> Reference:
    from agent.commands.alarms.listed import parse_reference

    try:
        found = parse_reference(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if found.stream is None or found.revision is None:
        raise click.BadParameter("name stream, number and revision, such as pump-1#3.7")
    return found


_alarm = click.argument("alarm", metavar="STREAM#NUMBER.REVISION", callback=_reference)


@click.group()
@click.option("--site", required=True, help="The gateway's site.")
@click.option("--gateway", required=True, help="The gateway's name.")
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    required=True,
    help="Your secret key of the role operate.",
)
@broker_options("Your")
@click.option(
    "--valid-s",
    type=Number(1, 604_800),
    default=60.0,
    show_default=True,
    help="The gateway refuses the command after this many seconds.",
)
@click.option(
    "--timeout",
    type=Number(0, 604_800, min_open=True),
    default=30.0,
    show_default=True,
    help="Wait this many seconds for the answer.",
)
@json_option
@click.pass_context
def command(
    context: click.Context,
    /,
    site: str,
    gateway: str,
    key: Path,
    valid_s: float,
    timeout: float,
    as_json: bool,
    **broker: Any,
) -> None:
    """Handle an alarm of a gateway from central ops, or ask for samples.

    The command is signed with your key, and sent over the broker. It ends with exit code 69 if the
    gateway does not answer, and 75 if the alarm has changed since you saw it.
    """
    context.obj = _Target(site, gateway, key, valid_s, timeout, as_json, broker)


def _on_alarm(function: Callable[..., int]) -> click.Command:
    """Make a command about one alarm."""
    return command.command()(_alarm(click.pass_obj(function)))


@_on_alarm
@reason_option()
def ack(target: _Target, alarm: Reference, reason: str | None) -> int:
    """Acknowledge: somebody has seen the alarm and takes care of it."""
    return _handle(target, "alarm.acknowledge", alarm, reason=reason)


@_on_alarm
@reason_option()
def unack(target: _Target, alarm: Reference, reason: str | None) -> int:
    """Take the acknowledgement of the alarm back."""
    return _handle(target, "alarm.unacknowledge", alarm, reason=reason)


@_on_alarm
@reason_option(required=True)
@click.option("--hours", type=Number(0, 168, min_open=True), default=8.0, show_default=True)
@click.option("--fixed", is_flag=True, help="For this time, even if it clears earlier.")
def shelve(target: _Target, alarm: Reference, reason: str, hours: float, fixed: bool) -> int:
    """Put the alarm aside until it clears, or for a time."""
    more = {"reason": reason, "hours": hours, "until_clear": not fixed}
    return _handle(target, "alarm.shelve", alarm, **more)


@_on_alarm
@reason_option()
def unshelve(target: _Target, alarm: Reference, reason: str | None) -> int:
    """End the shelving of the alarm."""
    return _handle(target, "alarm.unshelve", alarm, reason=reason)


@_on_alarm
@click.argument("text", callback=short_text)
def note(target: _Target, alarm: Reference, text: str) -> int:
    """Write TEXT into the logbook of the alarm."""
    return _handle(target, "alarm.note", alarm, reason=text)


@_on_alarm
@click.argument("label", type=click.Choice(LABELS))
@reason_option(told="The kind of fault or what was done.")
def label(target: _Target, alarm: Reference, label: str, reason: str | None) -> int:
    """Say what was behind the alarm."""
    return _handle(target, "alarm.label", alarm, label=label, reason=reason)


@command.command()
@click.argument("stream")
@click.option("--alarm", "number", type=click.IntRange(1), help="Around the onset of this alarm.")
@click.option("--at", type=Number(0, 1e11), help="Around this time, Unix seconds.")
@click.option("--before", type=Number(0), default=300.0, show_default=True, help="Seconds.")
@click.option("--after", type=Number(0), default=300.0, show_default=True, help="Seconds.")
@click.option("--points", type=click.IntRange(1, 20_000), default=500, show_default=True)
@click.pass_obj
def samples(
    target: _Target,
    stream: str,
    number: int | None,
    at: float | None,
    before: float,
    after: float,
    points: int,
) -> int:
    """Print samples of STREAM around an alarm or a time, as CSV.

    If there are more than --points, or the gateway has deleted them, means are printed. A collector
    with --samples stores what are no means.
    """
    if (number is None) == (at is None):
        raise click.UsageError("give either --alarm or --at")
    wanted = {"stream": stream, "number": number, "at": at}
    wanted |= {"before_s": before, "after_s": after, "points": points}
    parts = _asked(target, "samples", wanted)
    if target.as_json:
        say_json(_joined(parts))
        return 0
    say(",".join(["time", "score", *parts[0]["channels"]]))
    for part in parts:
        for row in part["rows"]:
            say(",".join("" if value is None else str(value) for value in row))
    return 0


def _joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return all parts as one; ``quality`` has null for each row that is a mean."""
    rows = [row for part in parts for row in part["rows"]]
    whole = {name: parts[0][name] for name in ("stream", "channels", "interval_s")}
    whole |= {"rows": rows, "samples": all(part.get("samples", False) for part in parts)}
    if any("quality" in part for part in parts):
        all_good = [0] * len(whole["channels"])
        whole["quality"] = [
            code
            for part in parts
            for code in part.get(
                "quality", [all_good if part.get("samples") else None] * len(part["rows"])
            )
        ]
    return whole


def _handle(target: _Target, verb: str, alarm: Reference, **more: Any) -> int:
    named = {"stream": alarm.stream, "number": alarm.number, "revision": alarm.revision}
    from agent.commands.alarms.done import lines

    (made,) = _asked(target, verb, named | more)
    if target.as_json:
        say_json({"transitions": [made]})
    else:
        for line in lines(made):
            say(line)
    return 0


def _asked(target: _Target, verb: str, arguments: Mapping[str, Any]) -> list[Any]:
    from agent.config.broker import BrokerTable
    from agent.config.kinds import topic_name
    from agent.mqtt.connection import LinkError
    from agent.remote.asking import Gateway, Unanswered, ask, order_for
    from models.errors import ConfigError
    from models.keys import read_secret
    from models.printable import printable
    from models.settings import explain
    from models.validation import ValidationError

    try:
        broker = BrokerTable.model_validate(
            {name: value for name, value in target.broker.items() if value is not None}
        )
    except ValidationError as error:
        raise ConfigError("; ".join(explain(BrokerTable, error))) from error
    for option, name in (("--site", target.site), ("--gateway", target.gateway)):
        try:
            topic_name(name)
        except ValueError as error:
            raise ConfigError(f"{option} {printable(name)!r}: {error}") from error
    key = read_secret(target.key, "operate")
    given = {name: value for name, value in arguments.items() if value is not None}
    order = order_for(Gateway(target.site, target.gateway), key, verb, given, target.valid_s)
    try:
        return ask(broker, order, key, target.timeout_s)
    except LinkError as error:
        raise Unanswered(f"{broker.host}:{broker.port}: {error.without(broker)}") from error
