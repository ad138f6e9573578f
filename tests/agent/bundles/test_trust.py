"""Which bundles a gateway with trusted keys believes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.bundles.load import load
from agent.cli import commands
from models import bundle as bundles
from models import signing
from models.bundle import Bundle
from models.errors import BundleRevoked, ConfigError, SignatureInvalid
from models.keys import new_key, read_keys
from tests.conftest import ZOO_BUNDLE


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A directory of trusted keys, with one; its secret key lies beside the directory."""
    (directory := tmp_path / "trusted").mkdir()
    new_key(tmp_path / "ops.key").rename(directory / "ops.pub")
    return directory


@pytest.fixture
def signed(tmp_path: Path, keys: Path, zoo_bundle: Bundle) -> Path:
    path = tmp_path / "signed.fieldwatch"
    signature = signing.sign(zoo_bundle.manifest_bytes, tmp_path / "ops.key", "pump version 1")
    bundles.write_signed(path, zoo_bundle, signature)
    return path


def verify(*words: object) -> Result:
    return CliRunner().invoke(commands, ["bundle", "verify", *map(str, words)])


def inspect(*words: object) -> Result:
    return CliRunner().invoke(commands, ["bundle", "inspect", *map(str, words)])


def test_with_trusted_keys_an_unsigned_bundle_is_refused_unless_allowed(
    keys: Path, signed: Path
) -> None:
    with pytest.raises(SignatureInvalid, match="not signed"):
        load(ZOO_BUNDLE, keys=keys)
    load(ZOO_BUNDLE, keys=keys, require_signature=False)
    load(ZOO_BUNDLE)
    load(signed, keys=keys)


def test_a_bundle_that_may_be_unsigned_is_not_signed_by_a_stranger(
    tmp_path: Path, signed: Path
) -> None:
    (tmp_path / "others").mkdir()
    with pytest.raises(SignatureInvalid, match="not a trusted one"):
        load(signed, keys=tmp_path / "others", require_signature=False)


def test_verify_does_as_the_gateway_does(keys: Path, signed: Path) -> None:
    assert verify(signed, "--keys", keys).exit_code == 0
    refused = verify(ZOO_BUNDLE, "--keys", keys)
    assert isinstance(refused.exception, SignatureInvalid)
    assert verify(ZOO_BUNDLE, "--keys", keys, "--allow-unsigned").exit_code == 0
    told = verify(signed, "--require-signature")
    assert told.exit_code == 2
    assert "--require-signature needs --keys" in told.output


HOSTILE = "pump\x1b[2J\rversion \u202e1"


def test_key_and_comment_are_told_as_anybody_may_print_them(
    tmp_path: Path, keys: Path, zoo_bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    path, secret = tmp_path / "signed.fieldwatch", tmp_path / "ops.key"
    signature = signing.sign(zoo_bundle.manifest_bytes, secret, HOSTILE)
    bundles.write_signed(path, zoo_bundle, signature)
    key_id = read_keys(keys)[0].key_id.hex()
    said = rf"signed by key {key_id} (pump\x1b[2J\rversion \u202e1)"

    caplog.set_level("INFO")
    load(path, keys=keys)
    assert said in caplog.messages[-1]
    assert zoo_bundle.digest in caplog.messages[-1]
    assert said in verify(path, "--keys", keys).output
    assert f"{said}, but the signature was not verified" in verify(path).output
    assert said.removeprefix("signed ") in inspect(path).output
    assert json.loads(inspect(path, "--json").output)["signer"] == {
        "key_id": key_id,
        "comment": r"pump\x1b[2J\rversion \u202e1",
    }


def test_of_an_unsigned_bundle_it_is_told_that_it_is_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    load(ZOO_BUNDLE)
    assert caplog.messages[-1].endswith(", not signed")
    assert "not signed" in verify(ZOO_BUNDLE).output
    assert json.loads(inspect(ZOO_BUNDLE, "--json").output)["signer"] is None


def test_a_signature_that_cannot_be_read_matters_only_where_there_are_keys(
    tmp_path: Path, keys: Path, zoo_bundle: Bundle
) -> None:
    bundles.write_signed(path := tmp_path / "b", zoo_bundle, b"scribble")
    assert "signed, but the signature cannot be read" in verify(path).output
    with pytest.raises(SignatureInvalid, match="unreadable"):
        load(path, keys=keys, require_signature=False)


def revoke(keys: Path, text: str) -> None:
    (keys / "revoked").write_text(text)


def test_a_revoked_bundle_is_refused_signed_or_not(
    keys: Path, signed: Path, zoo_bundle: Bundle
) -> None:
    revoke(keys, f"# taken back\n\n  bundle\t{zoo_bundle.digest}  wrong\x1b[2J unit \r\n")
    for path, required in ((signed, True), (ZOO_BUNDLE, False)):
        with pytest.raises(BundleRevoked) as refused:
            load(path, keys=keys, require_signature=required)
        assert f"{keys}/revoked revokes bundle {zoo_bundle.digest} (wrong" in str(refused.value)
        assert str(refused.value).isprintable()


def test_a_revoked_key_is_refused_though_it_is_still_trusted(keys: Path, signed: Path) -> None:
    key_id = read_keys(keys)[0].key_id.hex()
    revoke(keys, f"key {'0' * 16}\nbundle {'0' * 64}\n")
    load(signed, keys=keys)
    revoke(keys, f"key {key_id}")
    with pytest.raises(BundleRevoked, match=f"revokes key {key_id}; use another"):
        load(signed, keys=keys)
    (keys / "ops.pub").unlink()
    with pytest.raises(BundleRevoked, match=f"revokes key {key_id}"):
        load(signed, keys=keys)


def test_a_key_is_replaced_by_another(
    tmp_path: Path, keys: Path, signed: Path, zoo_bundle: Bundle
) -> None:
    new_key(tmp_path / "new.key").rename(keys / "new.pub")
    again = tmp_path / "again.fieldwatch"
    signature = signing.sign(zoo_bundle.manifest_bytes, tmp_path / "new.key", "pump version 1")
    bundles.write_signed(again, zoo_bundle, signature)
    for path in (signed, again):
        loaded, _ = load(path, keys=keys)
        assert loaded.digest == zoo_bundle.digest
    (keys / "ops.pub").unlink()
    load(again, keys=keys)
    with pytest.raises(SignatureInvalid, match="not a trusted one"):
        load(signed, keys=keys)


def test_a_key_of_another_role_in_the_directory_counts_for_nothing(
    tmp_path: Path, keys: Path, signed: Path
) -> None:
    text = (keys / "ops.pub").read_text()
    (keys / "ops.pub").write_text(text.replace(" bundle ", " operate "))
    with pytest.raises(SignatureInvalid, match="whose role is operate; the key must have"):
        load(signed, keys=keys, require_signature=False)


@pytest.mark.parametrize(
    "text",
    [f"key {'0' * 15}", f"key {'0' * 17}", f"key {'A' * 16}", f"bundle {'0' * 16}", "\x1b[2J", "x"],
)
def test_a_line_that_nobody_understands_stops_everything(
    keys: Path, signed: Path, text: str
) -> None:
    revoke(keys, f"# why\n{text}\n")
    with pytest.raises(ConfigError, match="revoked: line 2: ") as refused:
        load(signed, keys=keys)
    assert str(refused.value).isprintable()


def test_what_is_revoked_must_be_readable(keys: Path, signed: Path) -> None:
    revoke(keys, "#" * (2**20 + 1))
    with pytest.raises(ConfigError, match="it has more than"):
        load(signed, keys=keys)
    (keys / "revoked").unlink()
    (keys / "revoked").mkdir()
    with pytest.raises(ConfigError, match="not a file"):
        load(signed, keys=keys)
