"""Keys: each for its role, none believed that is revoked, and short messages signed with them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from models import keys
from models.errors import ConfigError, NotAuthentic
from models.keys import Role, read_keyring, read_keys, read_secret, sign, verify

CONTEXT = "fieldwatch.acknowledged.v1"
WORDS = b'{"through_seq":3}'
NAMES: dict[Role, str] = {
    "bundle": "",
    "collector": "ops",
    "gateway": "plant-7/press-2",
    "operate": "",
    "release": "",
}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A directory with a key pair of each role, named after it."""
    for role, name in NAMES.items():
        keys.new_key(tmp_path / f"{role}.key", role, name)
    return tmp_path


def refused(directory: Path, role: Role, signature: bytes, context: str = CONTEXT) -> str:
    with pytest.raises(NotAuthentic) as refusal:
        read_keyring(directory).verify(role, context, WORDS, signature)
    assert str(refusal.value).isprintable()
    return refusal.value.cause


def test_a_key_has_its_role_and_name(made: Path) -> None:
    assert {key.role: key.name for key in read_keys(made)} == NAMES
    for role, name in NAMES.items():
        secret = read_secret(made / f"{role}.key", role)
        assert (secret.role, secret.name) == (role, name)
        assert stat.S_IMODE((made / f"{role}.key").stat().st_mode) == 0o600
        assert "seed" not in repr(secret)
    first, _ = (made / "gateway.pub").read_text().splitlines()
    key_id = read_secret(made / "gateway.key", "gateway").key_id.hex()
    assert first == f"untrusted comment: fieldwatch gateway public key {key_id} plant-7/press-2"


@pytest.mark.parametrize(
    "comment",
    ["fieldwatch public key {}", "minisign public key 3F1C9A20B7D4E655", "of the night shift"],
)
def test_a_key_that_says_no_role_is_for_bundles(made: Path, comment: str) -> None:
    (file,) = made.glob("bundle.pub")
    _, body = file.read_text().splitlines()
    key_id = read_secret(made / "bundle.key", "bundle").key_id.hex()
    file.write_text(f"untrusted comment: {comment.format(key_id)}\n{body}\n")
    assert [key.role for key in read_keys(made) if key.source == str(file)] == ["bundle"]


@pytest.mark.parametrize(
    "comment",
    [
        "fieldwatch collctor public key {}",
        "fieldwatch collector public key 0000000000000000",
        "fieldwatch collector public key {} a b",
        "fieldwatch collector public key {} \x1b[2J",
        "fieldwatch collector",
        "fieldwatch gateway public key {}",
        "fieldwatch gateway public key {} plant-7",
        "fieldwatch gateway public key {} +/#",
        "fieldwatch collector secret key {}",
    ],
)
def test_a_first_line_that_is_half_understood_is_refused(made: Path, comment: str) -> None:
    _, body = (made / "collector.pub").read_text().splitlines()
    key_id = read_secret(made / "collector.key", "collector").key_id.hex()
    (made / "collector.pub").write_text(f"untrusted comment: {comment.format(key_id)}\n{body}\n")
    with pytest.raises(ConfigError, match=r"collector\.pub: ") as refusal:
        read_keys(made)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    ("role", "name"),
    [
        ("gateway", ""),
        ("gateway", "gw-1"),
        ("gateway", "a/b/c"),
        ("bundle", "a b"),
        ("operate", "/"),
    ],
)
def test_a_name_that_does_not_fit_makes_no_key(tmp_path: Path, role: Role, name: str) -> None:
    with pytest.raises(ConfigError, match="name = "):
        keys.new_key(tmp_path / "a.key", role, name)
    assert list(tmp_path.iterdir()) == []


def test_a_secret_key_is_used_for_its_role_only(made: Path) -> None:
    with pytest.raises(ConfigError, match="its role is bundle; a key with the role collector"):
        read_secret(made / "bundle.key", "collector")
    with pytest.raises(ConfigError, match="this is a public key; signing needs"):
        read_secret(made / "collector.pub", "collector")


def test_two_keys_never_share_an_id(made: Path) -> None:
    first, body = (made / "operate.pub").read_text().splitlines()
    (made / "copy.pub").write_text(f"{first}\n{body}\n")
    assert len(read_keys(made)) == len(NAMES) + 1
    (made / "copy.pub").write_text(f"{first.replace('operate', 'collector')}\n{body}\n")
    with pytest.raises(ConfigError, match="has the same key id"):
        read_keys(made)


@pytest.mark.parametrize("name", ["pipe.pub", "revoked"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    """An agent that opened a pipe among its keys would send nothing any more."""
    os.mkfifo(tmp_path / name)
    with pytest.raises(ConfigError, match=f"{name}: it is a named pipe, not a file; move it away"):
        read_keyring(tmp_path)


def test_what_a_key_of_the_role_signed_is_believed(made: Path) -> None:
    secret = read_secret(made / "collector.key", "collector")
    signature = sign(secret, CONTEXT, WORDS)
    assert len(signature) == keys.SIGNATURE_BYTES
    assert read_keyring(made).verify("collector", CONTEXT, WORDS, signature).name == "ops"


def test_all_else_is_refused_with_a_cause(
    made: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    signature = sign(read_secret(made / "collector.key", "collector"), CONTEXT, WORDS)
    flipped = signature[:-1] + bytes([signature[-1] ^ 1])
    assert refused(made, "collector", b"") == "unreadable"
    assert refused(made, "collector", flipped) == "bad_signature"
    assert refused(made, "collector", signature, "fieldwatch.gone.v1") == "bad_signature"
    assert refused(made, "operate", signature) == "wrong_role"
    other = tmp_path_factory.mktemp("other")
    keys.new_key(other / "collector.key", "collector")
    stranger = sign(read_secret(other / "collector.key", "collector"), CONTEXT, WORDS)
    assert refused(made, "collector", stranger) == "unknown_key"
    forged = signature[:8] + stranger[8:]  # it names a key that is trusted
    assert refused(made, "collector", forged) == "bad_signature"


def test_one_key_verifies_what_it_signed_and_nothing_else(made: Path) -> None:
    signature = sign(read_secret(made / "collector.key", "collector"), CONTEXT, WORDS)
    by_role = {key.role: key for key in read_keys(made)}
    verify(by_role["collector"], CONTEXT, WORDS, signature)
    with pytest.raises(NotAuthentic, match="does not match"):
        verify(by_role["collector"], CONTEXT, WORDS + b" ", signature)
    with pytest.raises(NotAuthentic, match="not signed by key"):
        verify(by_role["bundle"], CONTEXT, WORDS, signature)


def test_a_context_ends_where_the_message_begins(made: Path) -> None:
    signature = sign(read_secret(made / "collector.key", "collector"), "a", b"b")
    (key,) = read_keyring(made).of("collector")
    with pytest.raises(NotAuthentic):
        verify(key, "ab", b"", signature)


def test_a_revoked_key_is_believed_no_more(made: Path) -> None:
    secret = read_secret(made / "collector.key", "collector")
    signature = sign(secret, CONTEXT, WORDS)
    (made / "revoked").write_text("# no line end at the end\nbundle " + "0" * 64)
    file = keys.revoke(made, secret.key_id.hex(), "stolen\nkey 0000000000000000 \x1b[2J")
    assert keys.revoke(made, "0" * 16, "") == file
    assert file.read_text().splitlines()[2:] == [
        rf"key {secret.key_id.hex()} stolen\nkey 0000000000000000 \x1b[2J",
        f"key {'0' * 16}",
    ]
    keyring = read_keyring(made)
    assert keyring.of("collector") == []
    assert [key.role for key in keyring.of("bundle")] == ["bundle"]
    assert refused(made, "collector", signature) == "revoked_key"


@pytest.mark.parametrize("key_id", ["", "0" * 15, "0" * 17, "A" * 16, "0" * 16 + "\n", "\x1b[2J"])
def test_only_a_key_id_can_be_revoked(made: Path, key_id: str) -> None:
    with pytest.raises(ConfigError, match="not a key id"):
        keys.revoke(made, key_id, "why")
    assert not (made / "revoked").exists()


def test_nothing_is_added_to_a_file_that_is_not_understood(made: Path) -> None:
    (made / "revoked").write_text("scribble\n")
    with pytest.raises(ConfigError, match="line 1"):
        keys.revoke(made, "0" * 16, "why")
    assert (made / "revoked").read_text() == "scribble\n"
    with pytest.raises(ConfigError, match="no such directory"):
        keys.revoke(made / "gone", "0" * 16, "why")
