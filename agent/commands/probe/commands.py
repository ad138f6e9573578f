"""The command line of ``fieldwatch-agent probe``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from models.console import say, say_error, say_json
from models.options import Number
from models.printable import printable

UNAVAILABLE = 69  # as in agent.commands.check: something outside failed, and may recover
REFUSED = 65  # the data cannot be used
BY_ID = Path("/dev/serial/by-id")
SHOWN_MAX = 20  # lines that are printed on arrival

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_seconds = click.option(
    "--seconds",
    type=Number(0, 3600, min_open=True),
    default=5.0,
    show_default=True,
    help="How long to listen, in seconds.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def _name(_: click.Context, __: click.Parameter, value: str) -> str:
    from agent.config.kinds import NAME

    if not NAME.fullmatch(value):
        raise click.BadParameter("give 1 to 64 letters, digits, '_', '.' and '-'")
    return value


_stream = click.option(
    "--stream",
    default="stream-1",
    show_default=True,
    callback=_name,
    help="Name of the stream in the proposed configuration.",
)
_by_id = click.option(
    "--by-id",
    type=click.Path(path_type=Path),
    default=BY_ID,
    show_default=True,
    help="Directory with the stable names of the serial devices.",
)


def _common(function: Decorated) -> Decorated:
    for option in (_as_json, _stream, _seconds):
        function = option(function)
    return function


@click.group(invoke_without_command=True)
@click.option("--input", "name", help="Probe this input of the configuration.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    default=Path("/etc/fieldwatch/agent.toml"),
    show_default=True,
    envvar="FIELDWATCH_CONFIG",
    help="The agent's configuration file, for --input.",
)
@_by_id
@_seconds
@_as_json
@click.pass_context
def probe(
    context: click.Context,
    name: str | None,
    config_file: Path,
    by_id: Path,
    seconds: float,
    as_json: bool,
) -> int | None:
    """Show what an input delivers, and propose its configuration.

    Without a command, probe lists the serial devices. Press Ctrl-C to stop listening.
    """
    # the document reports errors once, at the end; the log would repeat them
    logging.getLogger().addHandler(logging.NullHandler())
    if context.invoked_subcommand is not None:
        _hand_on(context, context.invoked_subcommand)
        return None
    if name is not None:
        from agent.commands.probe import run

        return _print(run.probe_input(config_file, name, seconds, _shower(as_json)), as_json)
    from agent.commands.probe import report
    from agent.inputs.ports import devices

    found = [{"port": str(port), "target": str(port.resolve())} for port in devices(by_id)]
    if as_json:
        say_json(found)
        return 0
    for line in report.ports(found, by_id):
        say(line)
    return 0


def _hand_on(context: click.Context, command: str) -> None:
    """Pass options given before a command on to it; refuse those that it does not have."""
    assert isinstance(context.command, click.Group)
    known = {parameter.name for parameter in context.command.commands[command].params}
    given = {
        parameter.name: context.params[parameter.name]
        for parameter in context.command.params
        if parameter.name is not None
        and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    }
    for name in given.keys() - known:
        option = {"name": "input", "config_file": "config"}.get(name, name.replace("_", "-"))
        raise click.UsageError(f"--{option} is not an option of probe {command}", context)
    context.default_map = {command: given}


@probe.command()
@click.argument("port", type=click.Path(path_type=Path, readable=False))
@click.option("--baud", default="auto", show_default=True, help="Bits per second, or auto.")
@click.option("--bytesize", type=click.Choice(["5", "6", "7", "8"]), help="Bits per character.")
@click.option(
    "--parity", type=click.Choice(["none", "even", "odd", "mark", "space"]), help="Parity bit."
)
@click.option("--stopbits", type=click.Choice(["1", "2"]), help="Stop bits per character.")
@click.option(
    "--flow-control", type=click.Choice(["none", "rtscts", "xonxoff"]), help="Flow control."
)
@_by_id
@_common
def serial(
    port: Path, baud: str, by_id: Path, seconds: float, stream: str, as_json: bool, **line: Any
) -> int:
    """Probe a serial port.

    PORT is a device, a pattern below /dev/serial/by-id, or auto.
    """
    from agent.commands.probe import run

    options: dict[str, Any] = {key: value for key, value in line.items() if value is not None}
    for key in ("bytesize", "stopbits"):
        if key in options:
            options[key] = int(options[key])
    if baud != "auto":
        if not baud.isdecimal() or int(baud) < 50:
            raise click.BadParameter("give a number of at least 50, or auto", param_hint="--baud")
        options["baud"] = int(baud)
    tell = _teller(as_json)
    document = run.probe_serial(port, by_id, options, stream, seconds, tell, _shower(as_json))
    return _print(document, as_json)


@probe.command()
@click.argument("broker", metavar="HOST[:PORT]")
@click.option(
    "--topic", "topics", multiple=True, default=["#"], show_default=True, help="Topic filter."
)
@click.option("--username", help="User at the broker.")
@click.option("--password-file", type=click.Path(), help="File that contains only the password.")
@click.option("--tls-ca-file", type=click.Path(), help="CA certificates (PEM); turns TLS on.")
@click.option("--tls-cert-file", type=click.Path(), help="This gateway's certificate (PEM).")
@click.option("--tls-key-file", type=click.Path(), help="The certificate's key (PEM).")
@_common
def mqtt(
    broker: str, topics: tuple[str, ...], seconds: float, stream: str, as_json: bool, **login: Any
) -> int:
    """Probe a broker, and propose an input for each topic that receives messages."""
    from agent.commands.probe import run

    settings = _address(broker) | {key: value for key, value in login.items() if value is not None}
    document = run.probe_mqtt(settings, topics, stream, seconds, _shower(as_json))
    return _print(document, as_json)


@probe.command()
@click.argument("path", type=click.Path(path_type=Path))
@_common
def file(path: Path, seconds: float, stream: str, as_json: bool) -> int:
    """Probe a file: its present content and the lines added meanwhile."""
    from agent.commands.probe import run

    return _print(run.probe_file(path, stream, seconds, _shower(as_json)), as_json)


def _registers(function: Decorated) -> Decorated:
    types = ["int16", "uint16", "int32", "uint32", "int64", "uint64"]
    types += ["float32", "float64", "bcd16", "bcd32"]
    orders = click.Choice(["big", "little"])
    options = (
        click.option(
            "--unit",
            type=click.IntRange(0, 255),
            default=1,
            show_default=True,
            help="Unit identifier of the device.",
        ),
        click.option(
            "--address",
            type=click.IntRange(0, 65535),
            default=0,
            show_default=True,
            help="Address of the first register or bit.",
        ),
        click.option(
            "--count",
            type=click.IntRange(1, 125),
            default=10,
            show_default=True,
            help="How many registers or bits to read.",
        ),
        click.option(
            "--function",
            type=click.Choice(["holding", "input", "coil", "discrete"]),
            default="holding",
            show_default=True,
            help="Holding or input registers, coils or discrete inputs.",
        ),
        click.option("--type", "kind", type=click.Choice(types), help="Type of the values."),
        click.option(
            "--word-order",
            type=orders,
            help="Which register of a longer value comes first.",
        ),
        click.option("--byte-order", type=orders, help="Which byte of a register comes first."),
        click.option(
            "--interval",
            "poll_interval_s",
            type=Number(0.01, 60),
            default=1.0,
            show_default=True,
            help="Seconds between two polls.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@probe.command("modbus-tcp")
@click.argument("device", metavar="HOST[:PORT]")
@click.option(
    "--framing",
    type=click.Choice(["tcp", "rtu"]),
    help="tcp is Modbus TCP; rtu is serial frames over TCP.  [default: tcp]",
)
@_registers
@_common
def modbus_tcp(device: str, framing: str | None, **given: Any) -> int:
    """Probe registers or bits of a Modbus device on the network."""
    line = {} if framing is None else {"framing": framing}
    return _probe_registers({"type": "modbus-tcp"} | _address(device) | line, given)


@probe.command("modbus-rtu")
@click.argument("port", type=click.Path())
@click.option(
    "--baud", type=click.IntRange(50), default=19200, show_default=True, help="Bits per second."
)
@click.option(
    "--parity",
    type=click.Choice(["none", "even", "odd"]),
    default="even",
    show_default=True,
    help="Parity bit.",
)
@click.option(
    "--stopbits",
    type=click.Choice(["1", "2"]),
    default="1",
    show_default=True,
    help="Stop bits per character.",
)
@click.option("--handle-local-echo", is_flag=True, help="The adapter also receives what it sends.")
@_registers
@_common
def modbus_rtu(
    port: str, baud: int, parity: str, stopbits: str, handle_local_echo: bool, **given: Any
) -> int:
    """Probe registers or bits of a Modbus device on a serial line."""
    line = {"port": port, "baud": baud, "parity": parity, "stopbits": int(stopbits)}
    line |= {"handle_local_echo": True} if handle_local_echo else {}
    return _probe_registers({"type": "modbus-rtu"} | line, given)


def _probe_registers(device: dict[str, Any], given: dict[str, Any]) -> int:
    from agent.commands.probe.registers import probe_registers

    chosen = {"function": given["function"], "type": given["kind"]}
    chosen |= {key: given[key] for key in ("word_order", "byte_order")}
    chosen = {key: value for key, value in chosen.items() if value is not None}
    if given["function"] in ("coil", "discrete") and len(chosen) > 1:
        raise click.UsageError(
            "--type, --word-order and --byte-order apply to registers,"
            f" not to --function {given['function']}"
        )
    settings = device | {"unit": given["unit"], "poll_interval_s": given["poll_interval_s"]}
    begin = given["address"]
    addresses = range(begin, min(begin + given["count"], 65536))
    as_json = given["as_json"]
    document = probe_registers(
        settings, addresses, chosen, given["stream"], given["seconds"], _shower(as_json)
    )
    return _print(document, as_json)


def _address(text: str) -> dict[str, Any]:
    host, _, port = text.rpartition(":")
    if host and port.isdecimal() and not host.endswith(":"):
        return {"host": host.strip("[]"), "port": int(port)}
    return {"host": text.strip("[]")}


def _teller(as_json: bool) -> Callable[[str], None]:
    return lambda text: None if as_json else say(text)


def _shower(as_json: bool) -> Callable[[bytes], None]:
    """Return a function that prints the first ``SHOWN_MAX`` lines as they arrive."""
    shown = 0

    def show(line: bytes) -> None:
        nonlocal shown
        shown += 1
        if not as_json and shown <= SHOWN_MAX:
            say(f"> '{printable(line)}'")
        if not as_json and shown == SHOWN_MAX:
            say("> ... and so on")

    return show


def _print(document: dict[str, Any], as_json: bool) -> int:
    from agent.commands.probe import report

    if as_json:
        say_json(document)
    else:
        for line in report.lines(document):
            say(line)
    problem = document["problem"]
    if problem and not as_json:
        say_error("fieldwatch-agent", problem)
    if problem:
        return UNAVAILABLE
    if not document["proposal"] and not any(
        source.get("readings") for source in document.get("sources", ())
    ):
        if not as_json:
            say_error("fieldwatch-agent", "data arrived, but none of it can be read")
        return REFUSED
    return 0
