"""The bundle's door: who made a file is known before any of it is believed, and at little cost."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from models import bundle as bundles
from models import signing
from models.archive import PARTS_MAX, SIGNATURE, Archive
from models.bundle import Bundle
from models.errors import BundleCorrupt, SignatureInvalid
from models.keys import new_key, read_keys
from models.manifest import KNOWN_ANSWERS, MANIFEST
from tests.conftest import ROOT, ZOO_BUNDLE

SIGNED = Path(__file__).parent / "data" / "signed-1.fieldwatch"  # as it was signed before
HEADROOM_BYTES = 24 * 2**20  # of address space, over what the imports take

# loads the bundle that is named, as a gateway with trusted keys does, with little memory left
LOAD = f"""
import resource, sys
from pathlib import Path
import cryptography.hazmat.primitives.asymmetric.ed25519
from agent.bundles.load import load
from models.errors import BundleError

pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + {HEADROOM_BYTES}
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    load(Path(sys.argv[1]), "auto", Path(sys.argv[2]), True)
except BundleError as error:
    sys.exit(f"refused: {{type(error).__name__}}: {{error}}")
"""


def zipped(path: Path, parts: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def parts_of(path: Path = ZOO_BUNDLE) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def stranger(directory: Path, manifest: bytes) -> bytes:
    """Sign as somebody does whom nobody trusts."""
    key = directory / "stranger.key"
    new_key(key).unlink()
    return signing.sign(manifest, key, "trust me")


def of_a_huge_manifest(path: Path) -> Path:
    manifest = b"[" + b"{}," * (37 * 2**20 // 3) + b"{}]"
    signature = stranger(path.parent, manifest)
    return zipped(path, {MANIFEST: manifest, SIGNATURE: signature})


def of_a_huge_part(path: Path) -> Path:
    parts = parts_of() | {"network.tflite": bytes(48 * 2**20)}
    return zipped(path, parts | {SIGNATURE: stranger(path.parent, parts[MANIFEST])})


def of_very_many_parts(path: Path, count: int = 800_000) -> Path:
    with zipfile.ZipFile(made := io.BytesIO(), "w") as archive:
        archive.writestr(MANIFEST, b"{}")
    data = made.getvalue()
    at = data.index(b"PK\x01\x02")
    local, entry = data[:at], data[at:-22]
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(entry) * count, len(local), 0)
    path.write_bytes(local + entry * count + end)
    return path


@pytest.mark.parametrize(
    ("craft", "says"),
    [
        (of_a_huge_manifest, "BundleCorrupt"),
        (of_a_huge_part, "SignatureInvalid"),
        (of_very_many_parts, "BundleCorrupt"),
    ],
)
def test_a_strangers_bundle_is_refused_without_its_size_in_memory(
    tmp_path: Path, craft: Callable[[Path], Path], says: str
) -> None:
    new_key(tmp_path / "ops.key")
    crafted = craft(tmp_path / "crafted.fieldwatch")
    ended = subprocess.run(
        [sys.executable, "-c", LOAD, crafted, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert f"refused: {says}: {crafted}" in ended.stderr


def test_who_signed_is_known_before_the_manifest_is_parsed(tmp_path: Path) -> None:
    new_key(tmp_path / "ops.key")
    parts = parts_of() | {MANIFEST: b"no JSON"}
    parts[SIGNATURE] = stranger(tmp_path, parts[MANIFEST])
    path = zipped(tmp_path / "b", parts)
    keys = read_keys(tmp_path)
    with pytest.raises(SignatureInvalid, match="not a trusted one"):
        bundles.read(path, believe=lambda seal: signing.check(seal, keys))
    with pytest.raises(BundleCorrupt, match="not JSON"):
        bundles.read(path)


@pytest.mark.parametrize(
    ("name", "size_max"),
    [(MANIFEST, 2**20), (SIGNATURE, 2**14), (KNOWN_ANSWERS, 2**23)],
)
def test_what_is_parsed_is_not_large(tmp_path: Path, name: str, size_max: int) -> None:
    too_large = f"{name}: {size_max + 1} bytes are more"
    path = zipped(tmp_path / "b", parts_of() | {name: b" " * (size_max + 1)})
    with pytest.raises(BundleCorrupt, match=too_large):
        bundles.read(path)
    zipped(path, parts_of() | {name: b" " * size_max})
    with Archive(path) as archive:
        assert len(archive.read(name)) == size_max


def test_nothing_is_written_that_would_not_be_read(tmp_path: Path, zoo_bundle: Bundle) -> None:
    metrics = {"notes": "x" * 2**20}
    manifest = zoo_bundle.manifest.model_copy(update={"metrics": metrics})
    with pytest.raises(BundleCorrupt, match=r"manifest\.json: \d+ bytes are more"):
        bundles.write(tmp_path / "b", manifest, zoo_bundle.parts, None)
    with pytest.raises(BundleCorrupt, match=r"minisig: \d+ bytes are more"):
        bundles.write_signed(tmp_path / "b", zoo_bundle, bytes(2**15))
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_of_too_many_parts_is_refused(tmp_path: Path) -> None:
    more = {f"part-{number}": b"" for number in range(PARTS_MAX)}
    with pytest.raises(BundleCorrupt, match="parts are more"):
        bundles.read(zipped(tmp_path / "b", parts_of() | more))


def between(data: bytes) -> bytes:
    """Hide bytes behind the first part; the directory knows where the others went."""
    hidden, second = b"hidden", data.index(b"PK\x03\x04", 1)
    made = bytearray(data[:second] + hidden + data[second:])
    entry = made.index(b"PK\x01\x02")
    start = entry
    while made[entry : entry + 4] == b"PK\x01\x02":
        (offset,) = struct.unpack_from("<L", made, entry + 42)
        if offset:
            struct.pack_into("<L", made, entry + 42, offset + len(hidden))
        entry += 46 + sum(struct.unpack_from("<3H", made, entry + 28))
    struct.pack_into("<L", made, entry + 16, start)
    return bytes(made)


def with_zip64(data: bytes) -> bytes:
    """Let a second record of the end overrule the first, inside of what it calls its directory."""
    count, length, offset = struct.unpack_from("<H2L", data, len(data) - 12)
    record = struct.pack(
        "<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, length, offset
    )
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(data) - 22, 1)
    more = record + locator
    end = bytearray(data[-22:])
    struct.pack_into("<L", end, 12, length + len(more))
    return data[:-22] + more + bytes(end)


@pytest.mark.parametrize(
    "alter",
    [
        lambda data: data + b"\0",
        lambda data: b"#!/bin/sh\n" + data,
        lambda data: data[:-2] + b"\x05\0hello",  # a comment
        between,
        with_zip64,
    ],
    ids=["behind", "before", "comment", "between", "zip64"],
)
def test_bytes_that_are_of_no_part_are_refused(
    tmp_path: Path, alter: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "b"
    path.write_bytes(alter(ZOO_BUNDLE.read_bytes()))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None  # as any other reader has it
    with pytest.raises(BundleCorrupt, match="to no part"):
        bundles.read(path)


def test_a_bundle_that_was_signed_before_is_still_believed(tmp_path: Path) -> None:
    key = read_keys(SIGNED.parent)
    read = bundles.read(SIGNED, believe=lambda seal: signing.check(seal, key))
    assert read.digest == json.loads(SIGNED.with_suffix(".json").read_text())["digest"]
