"""Signatures: only what a trusted key signed, unaltered, is accepted."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from models import bundle as bundles
from models import signing
from models.bundle import Bundle
from models.errors import ConfigError, SignatureInvalid
from models.keys import new_key, read_keys


@pytest.fixture
def key(tmp_path: Path) -> Path:
    new_key(tmp_path / "ops.key")
    return tmp_path / "ops.key"


def signed(bundle: Bundle, key: Path) -> Bundle:
    signature = signing.sign(bundle.manifest_bytes, key, "pump version 1")
    return Bundle(bundle.manifest, bundle.manifest_bytes, bundle.parts, signature, "test")


def test_a_signed_bundle_is_accepted_by_its_key(
    tmp_path: Path, key: Path, zoo_bundle: Bundle
) -> None:
    path = tmp_path / "signed.fieldwatch"
    # whoever wrote the manifest may have laid it out otherwise: its own bytes are what is signed
    compact = json.dumps(json.loads(zoo_bundle.manifest_bytes)).encode()
    bundle = Bundle(zoo_bundle.manifest, compact, zoo_bundle.parts, None, "test")
    signature = signing.sign(compact, key, "pump version 1")
    bundles.write_signed(path, bundle, signature)
    assert bundles.read(path).digest == bundle.digest
    keys = read_keys(tmp_path)
    assert signing.check(bundles.read(path), keys).source.endswith("ops.pub")


def test_the_secret_key_is_for_its_owner_alone_and_never_overwritten(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    with pytest.raises(ConfigError, match="a key exists already"):
        new_key(key)


def test_the_public_key_never_takes_the_secret_ones_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="for the public key"):
        new_key(tmp_path / "ops.pub")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "ops.pub").write_text("somebody else's")
    with pytest.raises(ConfigError, match=r"ops\.pub: a key exists already"):
        new_key(tmp_path / "ops.key")
    assert not (tmp_path / "ops.key").exists()


def test_unsigned_foreign_and_altered_are_refused(
    tmp_path: Path, key: Path, zoo_bundle: Bundle
) -> None:
    keys = read_keys(tmp_path)
    with pytest.raises(SignatureInvalid, match="not signed"):
        signing.check(zoo_bundle, keys)
    good = signed(zoo_bundle, key)
    with pytest.raises(SignatureInvalid, match="not a trusted one"):
        signing.check(good, [])
    altered = Bundle(good.manifest, good.manifest_bytes + b" ", good.parts, good.signature, "test")
    with pytest.raises(SignatureInvalid, match="altered"):
        signing.check(altered, keys)
    assert good.signature is not None
    other_comment = good.signature.replace(b"pump version 1", b"pump version 9")
    with pytest.raises(SignatureInvalid, match="altered"):
        signing.check(
            Bundle(good.manifest, good.manifest_bytes, good.parts, other_comment, "test"), keys
        )


def test_a_key_of_another_role_signs_no_bundle(
    tmp_path: Path, key: Path, zoo_bundle: Bundle
) -> None:
    good = signed(zoo_bundle, key)
    public = key.with_suffix(".pub")
    public.write_text(public.read_text().replace(" bundle ", " collector "))
    with pytest.raises(SignatureInvalid, match="whose role is collector; the key must have"):
        signing.check(good, read_keys(tmp_path))
    key.write_text(key.read_text().replace(" bundle ", " collector "))
    with pytest.raises(ConfigError, match="its role is collector; a key with the role"):
        signed(zoo_bundle, key)


@pytest.mark.parametrize(
    "text", [b"", b"\n\n\n", b"a\n!!!!\nc\nd", b"a\nQUJD\ntrusted comment: x\n", b"\xff" * 300]
)
def test_an_unreadable_signature_is_refused(
    tmp_path: Path, key: Path, zoo_bundle: Bundle, text: bytes
) -> None:
    broken = Bundle(zoo_bundle.manifest, zoo_bundle.manifest_bytes, zoo_bundle.parts, text, "test")
    with pytest.raises(SignatureInvalid, match="unreadable"):
        signing.check(broken, read_keys(tmp_path))


def test_odd_keys_are_named(tmp_path: Path) -> None:
    (tmp_path / "odd.pub").write_text("untrusted comment: x\nnot base64!\n")
    with pytest.raises(ConfigError, match=r"odd\.pub"):
        read_keys(tmp_path)
    with pytest.raises(ConfigError, match="no such directory"):
        read_keys(tmp_path / "gone")
    with pytest.raises(ConfigError, match="cannot be read"):
        signing.sign(b"", tmp_path / "gone.key", "x")
