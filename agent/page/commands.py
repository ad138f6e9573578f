"""The command ``fieldwatch-agent page``: serves the page, and changes the file of its users."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from agent.commands.options import config_option, json_option
from agent.control.protocol import ROLES, Role
from models.console import say, say_json
from models.errors import ConfigError

if TYPE_CHECKING:
    from agent.config.load import AgentConfig

_PASSWORD_BYTES_MAX = 8192

_own_config_option = click.option(
    "--config",
    "own_config_file",
    type=click.Path(path_type=Path, readable=False),
    help="The agent's configuration, if it is not given after `page`.",
)
_password_option = click.option(
    "--password-file",
    type=click.Path(path_type=Path, allow_dash=True),
    help="File that contains only the password; - reads it from stdin.  [default: ask]",
)


@click.group(invoke_without_command=True)
@config_option
@click.pass_context
def page(context: click.Context, config_file: Path) -> None:
    """Serve the local web page until SIGTERM; or change its users (page user).

    The page shows alarms and signals to the staff, at http://127.0.0.1:8377 unless the
    configuration says otherwise. Users who log in can handle alarms.
    """
    context.obj = config_file
    if context.invoked_subcommand is None:
        _serve(config_file)


def _serve(config_file: Path) -> NoReturn:
    """Become the process of the page, which does without what checks a configuration."""
    from agent.config.load import load
    from agent.page.settings import Settings

    config = load(config_file)
    if importlib.util.find_spec("uvicorn") is None:
        raise ConfigError(
            "the page needs packages that are not installed: sudo scripts/install-gateway --extras"
            " page, or pip install 'fieldwatch[page]'"
        )
    table = config.page
    settings = Settings(
        config_file=str(config_file.absolute()),
        host=table.address.host,
        port=table.address.port,
        users_file=_text(table.users_file),
        certificate_file=_text(table.certificate_file),
        key_file=_text(table.key_file),
        host_names=tuple(table.host_names),
        session_idle_s=60 * table.session_idle_minutes,
        session_s=3600 * table.session_hours,
        idle_exit_s=table.idle_exit_s,
    )
    words = [sys.executable, "-P", "-m", "agent.page", settings.to_json()]
    os.execv(sys.executable, words)  # noqa: S606 - our own program; the same number of process


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


@page.group()
def user() -> None:
    """Add, change, remove and list the users who may log in at the page."""


@user.command()
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(ROLES),
    default="operator",
    show_default=True,
    help="What the user may do: read; handle alarms; also take alarms out of service and back. For"
    " a user that exists, the role changes.",
)
@_password_option
@_own_config_option
@click.pass_obj
def add(
    config_file: Path,
    name: str,
    role: Role,
    password_file: Path | None,
    own_config_file: Path | None,
) -> int:
    """Add the user NAME, or change the role and password of one that exists."""
    from agent.control.protocol import is_person_name
    from agent.users import User, changing, hashed

    config = _config(own_config_file or config_file)
    if not is_person_name(name):
        raise click.BadParameter(
            "use 1 to 64 letters, digits, '_', '.' and '-', the first a letter or digit; the name"
            " 'agent' is taken",
            param_hint="NAME",
        )
    path = _users_file(config)
    with _usable_password():
        password = hashed(_password(password_file))
    with changing(path, _group_of_page(config)) as users:
        known = name in users
        users[name] = User(name, role, password)
    say(f"{path}: {'changed' if known else 'added'} {name} with the role {role}")
    return 0


@user.command()
@click.argument("name")
@_password_option
@_own_config_option
@click.pass_obj
def password(
    config_file: Path, name: str, password_file: Path | None, own_config_file: Path | None
) -> int:
    """Give the user NAME another password; whoever is logged in under this name is logged out."""
    from agent.users import changing, hashed, read_users

    config = _config(own_config_file or config_file)
    path = _users_file(config)
    if not path.exists() or name not in read_users(path):
        raise _unknown(path, name)
    with _usable_password():
        new = hashed(_password(password_file))
    with changing(path, _group_of_page(config)) as users:
        if name not in users:  # removed while somebody typed
            raise _unknown(path, name)
        users[name] = users[name]._replace(password=new)
    say(f"{path}: {name} has another password")
    return 0


@user.command()
@click.argument("name")
@_own_config_option
@click.pass_obj
def remove(config_file: Path, name: str, own_config_file: Path | None) -> int:
    """Remove the user NAME, who is logged out at once."""
    from agent.users import changing

    config = _config(own_config_file or config_file)
    path = _users_file(config)
    with changing(path, _group_of_page(config)) as users:
        if users.pop(name, None) is None:
            raise _unknown(path, name)
    say(f"{path}: removed {name}")
    return 0


@user.command("list")
@_own_config_option
@json_option
@click.pass_obj
def list_users(config_file: Path, own_config_file: Path | None, as_json: bool) -> int:
    """List the users and their roles."""
    from agent.users import read_users

    path = _users_file(_config(own_config_file or config_file))
    users = read_users(path) if path.exists() else {}
    if as_json:
        say_json({"file": str(path), "users": [one.person._asdict() for one in users.values()]})
        return 0
    for one in users.values():
        say(f"{one.role:11}{one.name}")
    if not users:
        say(f"{path}: no users. Add one: fieldwatch-agent page user add NAME --role operator")
    return 0


def _config(config_file: Path) -> AgentConfig:
    from agent.config.load import load

    return load(config_file)


def _users_file(config: AgentConfig) -> Path:
    if config.page.users_file is None:
        raise ConfigError(
            "page.users_file is not set, so the page has no users. Add to the configuration:\n"
            '[page]\nusers_file = "page-users"'
        )
    return config.page.users_file


def _group_of_page(config: AgentConfig) -> int | None:
    """Return the group of the page's user for a new file; None: not known, or not possible."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(config.control.page_user).pw_gid
    except KeyError:
        return None


def _unknown(path: Path, name: str) -> ConfigError:
    return ConfigError(f"{path}: there is no user {name!r}")


@contextlib.contextmanager
def _usable_password() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _password(file: Path | None) -> str:
    """Return a new password: from a file, from stdin, or from a person, who types it twice."""
    if file is None:
        answer: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return answer
    from models.files import read_file

    try:
        if str(file) == "-":
            data = sys.stdin.buffer.read(_PASSWORD_BYTES_MAX)
        else:
            data = read_file(file, _PASSWORD_BYTES_MAX)
        return data.decode().rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: the password is not UTF-8") from error
