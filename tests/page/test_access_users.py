"""The file of users: what is in it, who may read it, and that it survives those who change it."""

from __future__ import annotations

import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.users import (
    PASSWORD_CHARS_MAX,
    USERS_MAX,
    Accounts,
    User,
    changing,
    hashed,
    read_users,
    verified,
)
from models.errors import ConfigError

PASSWORD = "correct horse"
SALT = "00" * 16
HASH = f"scrypt$16384$8$1${SALT}${'11' * 32}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "page-users"


def write(path: Path, text: str, mode: int = 0o640) -> None:
    path.write_text(text)
    path.chmod(mode)


def add(path: Path, name: str, password: str = PASSWORD) -> None:
    with changing(path, None) as users:
        users[name] = User(name, "operator", hashed(password))


def test_a_user_comes_back_with_the_password_only_as_a_hash(path: Path) -> None:
    add(path, "maria")
    assert PASSWORD not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    users = read_users(path)
    assert verified(users, "maria", PASSWORD) == users["maria"]
    assert verified(users, "maria", PASSWORD + " ") is None
    assert verified(users, "tom", PASSWORD) is None
    assert verified(users, "", "") is None


def test_two_users_with_one_password_have_different_hashes() -> None:
    assert str(hashed(PASSWORD)) != str(hashed(PASSWORD))


def test_a_letter_is_the_same_letter_however_it_is_typed(path: Path) -> None:
    add(path, "maria", "caf\u00e9 con leche")
    assert verified(read_users(path), "maria", "cafe\u0301 con leche")
    assert verified(read_users(path), "maria", "\ud800 half a pair") is None


def test_a_name_that_does_not_exist_takes_as_much_work(path: Path) -> None:
    add(path, "maria")
    users = read_users(path)

    def work_s(name: str) -> float:  # of this thread: it does not depend on what else runs
        begun_s = time.thread_time()
        assert verified(users, name, "a wrong password") is None
        return time.thread_time() - begun_s

    known, unknown = (min(work_s(name) for _ in range(5)) for name in ("maria", "nobody"))
    assert 0.5 < unknown / known < 2


@pytest.mark.parametrize("length", [0, 9, PASSWORD_CHARS_MAX + 1])
def test_a_password_of_no_use_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="the password must have 10 to 1000 characters"):
        hashed("x" * length)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o601, 0o660, 0o650, 0o777])
def test_a_file_that_others_may_read_or_change_is_refused(path: Path, mode: int) -> None:
    write(path, f"maria:operator:{HASH}\n", mode)
    with pytest.raises(ConfigError, match="chmod 0640"):
        read_users(path)
    assert Accounts(path).users() == {}


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o440])
def test_a_file_of_the_page_alone_is_read(path: Path, mode: int) -> None:
    write(path, f"# comment\n\nmaria:maintainer:{HASH}\n", mode)
    assert [(one.name, one.role) for one in read_users(path).values()] == [("maria", "maintainer")]


@pytest.mark.parametrize(
    "line",
    [
        "maria",
        "maria:operator",
        "maria:operator:",
        f"maria:root:{HASH}",
        f"maria::{HASH}",
        f":operator:{HASH}",
        f"agent:operator:{HASH}",
        f"../x:operator:{HASH}",
        f"ma ria:operator:{HASH}",
        f"maria\x1b[2J:operator:{HASH}",
        f"maria:operator:{HASH}:more",
        f"maria:operator:scrypt$16384$8$1${SALT}$",
        "maria:operator:scrypt$16384$8$1$$" + "11" * 32,
        f"maria:operator:scrypt$16384$8$1${SALT}$zz" + "11" * 31,
        f"maria:operator:scrypt$16383$8$1${SALT}$" + "11" * 32,  # no power of two
        f"maria:operator:scrypt$2$8$1${SALT}$" + "11" * 32,  # weak
        f"maria:operator:scrypt$1048576$8$1${SALT}$" + "11" * 32,  # 1 GB
        f"maria:operator:scrypt$16384$8$99999999${SALT}$" + "11" * 32,  # hours
        f"maria:operator:scrypt$-16384$8$1${SALT}$" + "11" * 32,
        f"maria:operator:plain$16384$8$1${SALT}$" + "11" * 32,
        f"tom:reader:{HASH}",  # twice
    ],
)
def test_a_wrong_line_is_named_and_its_hash_is_not_shown(path: Path, line: str) -> None:
    write(path, f"tom:reader:{HASH}\n{line}\n")
    with pytest.raises(ConfigError, match="line 2: is not a user") as refused:
        read_users(path)
    assert "11" * 8 not in str(refused.value)


def test_a_file_that_is_too_long_or_none_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_users(path)
    write(path, "#" * 2**18 + "\n")
    with pytest.raises(ConfigError, match="more than"):
        read_users(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="a named pipe"):
        read_users(path)
    path.unlink()
    write(path, "".join(f"u{number}:reader:{HASH}\n" for number in range(USERS_MAX + 1)))
    with pytest.raises(ConfigError, match=f"line {USERS_MAX + 1}: .*one too many"):
        read_users(path)


def test_a_changed_file_keeps_its_group_and_nobody_finds_half_of_it(path: Path) -> None:
    add(path, "maria")
    if os.getuid() == 0:
        os.chown(path, -1, 12_345)
    add(path, "tom")
    assert list(read_users(path)) == ["maria", "tom"]
    assert path.stat().st_gid == (12_345 if os.getuid() == 0 else os.getgid())
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_two_who_change_it_at_once_both_succeed(path: Path) -> None:
    names = [f"u{number}" for number in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: add(path, name), names))
    assert sorted(read_users(path)) == sorted(names)


def test_a_change_that_fails_leaves_the_file_as_it_was(path: Path) -> None:
    add(path, "maria")
    before = path.read_bytes()
    with pytest.raises(ConfigError), changing(path, None) as users:
        users.update(
            {name: users["maria"] for name in (f"u{number}" for number in range(USERS_MAX))}
        )
    assert path.read_bytes() == before
    with pytest.raises(ConfigError, match="cannot be changed: No such file"):
        add(path.parent / "absent" / "users", "maria")


def test_a_page_that_runs_sees_each_change_and_what_is_wrong(path: Path) -> None:
    accounts = Accounts(path)
    assert (accounts.users(), accounts.trouble) == ({}, None)  # nobody was added yet
    add(path, "maria")
    assert list(accounts.users()) == ["maria"]
    before = accounts.users()["maria"]
    add(path, "maria", "another password")
    assert accounts.users()["maria"] != before
    path.chmod(0o644)
    assert accounts.users() == {}
    assert accounts.trouble is not None and "chmod 0640" in accounts.trouble
    path.chmod(0o640)
    assert list(accounts.users()) == ["maria"]
    assert accounts.trouble is None
    path.unlink()
    assert accounts.users() == {}
