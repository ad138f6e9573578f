"""The command ``page user``, and what ``check`` says of the page."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.cli import commands
from agent.commands.check_page import page as check_page
from agent.config.load import load
from agent.users import read_users, verified
from models.errors import ConfigError
from tests.certificates import Authority
from tests.page_rig import GATEWAY, PASSWORD


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return configured(tmp_path, 'users_file = "page-users"')


def configured(directory: Path, table: str) -> Path:
    file = directory / "agent.toml"
    file.write_text(f"{GATEWAY}\n[page]\n{table}\n")
    return file


def call(config: Path, *words: object, typed: str = "") -> Result:
    given = ["page", "user", *map(str, words), "--config", str(config)]
    return CliRunner().invoke(commands, given, input=typed)


def users_of(config: Path) -> dict[str, str]:
    return {one.name: one.role for one in read_users(config.parent / "page-users").values()}


def test_a_user_is_added_by_a_person_who_types_the_password_twice(config: Path) -> None:
    made = call(config, "add", "maria", typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert made.exit_code == 0, made.output
    assert f"{config.parent}/page-users: added maria with the role operator" in made.output
    assert PASSWORD not in made.output
    path = config.parent / "page-users"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert verified(read_users(path), "maria", PASSWORD)
    differs = call(config, "add", "tom", typed=f"{PASSWORD}\nanother one\n")
    assert differs.exit_code != 0
    assert users_of(config) == {"maria": "operator"}


def test_the_password_may_come_from_a_file_or_from_stdin(config: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{PASSWORD}\n")
    assert call(config, "add", "maria", "--password-file", tmp_path / "secret").exit_code == 0
    typed = f"{PASSWORD}!\n"
    assert call(config, "add", "jo", "--password-file", "-", typed=typed).exit_code == 0
    users = read_users(config.parent / "page-users")
    assert verified(users, "maria", PASSWORD)
    assert verified(users, "jo", f"{PASSWORD}!")


def test_users_change_and_go(config: Path) -> None:
    twice = f"{PASSWORD}\n{PASSWORD}\n"
    call(config, "add", "maria", typed=twice)
    again = call(config, "add", "maria", "--role", "maintainer", typed=twice)
    assert "changed maria with the role maintainer" in again.output
    assert call(config, "password", "maria", typed="another password\n" * 2).exit_code == 0
    users = read_users(config.parent / "page-users")
    assert verified(users, "maria", "another password")
    assert users["maria"].role == "maintainer"
    listed = json.loads(call(config, "list", "--json").output)
    assert listed["users"] == [{"name": "maria", "role": "maintainer"}]
    assert call(config, "list").output == "maintainer maria\n"
    assert "removed maria" in call(config, "remove", "maria").output
    assert "no users. Add one" in call(config, "list").output


@pytest.mark.parametrize("verb", ["remove", "password"])
def test_who_does_not_exist_is_not_changed(config: Path, verb: str) -> None:
    call(config, "add", "maria", typed=f"{PASSWORD}\n{PASSWORD}\n")
    refused = call(config, verb, "maira", typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert isinstance(refused.exception, ConfigError)
    assert "there is no user 'maira'" in str(refused.exception)


@pytest.mark.parametrize("name", ["", "agent", "a b", "../x", "-x", "a:b", "m" * 65, "mär", "a\nb"])
def test_a_hostile_name_is_refused(config: Path, name: str) -> None:
    refused = call(config, "add", "--", name, typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert refused.exit_code == 2
    assert not (config.parent / "page-users").exists()


@pytest.mark.parametrize("secret", ["", "short", "x" * 1001, "x" * 9000])
def test_a_password_of_no_use_is_refused(config: Path, tmp_path: Path, secret: str) -> None:
    (tmp_path / "secret").write_text(secret)
    refused = call(config, "add", "maria", "--password-file", tmp_path / "secret")
    assert refused.exit_code != 0
    assert not (config.parent / "page-users").exists()


def test_without_a_file_in_the_configuration_the_command_says_what_to_add(tmp_path: Path) -> None:
    refused = call(configured(tmp_path, ""), "add", "maria", typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert 'users_file = "page-users"' in str(refused.exception)


def test_the_configuration_may_be_named_before_the_command(config: Path) -> None:
    given = ["page", "--config", str(config), "user", "list"]
    assert "no users" in CliRunner().invoke(commands, given).output


# ---- check


def checked(directory: Path, table: str) -> list[str]:
    findings = check_page(load(configured(directory, table)))
    return [f"{one.mark if one.ok else 'FAIL'} {one.detail}" for one in findings]


def test_check_says_nothing_of_a_page_that_is_not_configured(tmp_path: Path) -> None:
    assert checked(tmp_path, "") == []


def test_check_says_who_may_see_the_page(tmp_path: Path) -> None:
    (told,) = checked(tmp_path, "idle_exit_s = 0")
    assert told.startswith("warn 127.0.0.1:8377: every user of this machine can read it")
    config = configured(tmp_path, 'users_file = "page-users"')
    (told,) = checked(tmp_path, 'users_file = "page-users"')
    assert "no users yet" in told
    call(config, "add", "maria", typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert checked(tmp_path, 'users_file = "page-users"') == [
        "ok 127.0.0.1:8377: users maria (operator)"
    ]
    (tmp_path / "page-users").chmod(0o644)
    (told,) = checked(tmp_path, 'users_file = "page-users"')
    assert told.startswith("FAIL ") and "chmod 0640" in told


def test_check_warns_of_a_network_without_tls_and_tests_the_certificate(tmp_path: Path) -> None:
    table = 'users_file = "page-users"\nlisten = "192.0.2.7:8377"\n'
    assert "warn 192.0.2.7:8377 without TLS" in " ".join(checked(tmp_path, table))
    tls = table + 'certificate_file = "{}"\nkey_file = "{}"\n'
    certificate, key = Authority(tmp_path / "a").issue("gateway")
    _, other = Authority(tmp_path / "b").issue("gateway")
    assert f"ok certificate {certificate}" in checked(tmp_path, tls.format(certificate, key))
    mixed = " ".join(checked(tmp_path, tls.format(certificate, other)))
    assert "FAIL" in mixed and "MISMATCH" in mixed.upper()
    assert "FAIL" in " ".join(checked(tmp_path, tls.format(certificate, "absent")))


@pytest.mark.skipif(os.getuid() != 0, reason="another user's file can only be had as root")
def test_a_new_file_belongs_to_the_group_of_the_page(tmp_path: Path) -> None:
    config = configured(tmp_path, 'users_file = "page-users"')
    config.write_text(f'{config.read_text()}[control]\npage_user = "nobody"\n')
    call(config, "add", "maria", typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert (tmp_path / "page-users").stat().st_gid == 65534
