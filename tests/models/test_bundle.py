"""The bundle's file: sealed as a whole, and every kind of damage is named."""

from __future__ import annotations

import io
import json
import os
import random
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models import bundle as bundles
from models.archive import FILE_SIZE_BYTES_MAX
from models.bundle import Bundle
from models.errors import BundleCorrupt, BundleError, BundleMissing, BundleTooNew
from models.manifest import (
    ForeignManifest,
    HampelManifest,
    Manifest,
    TelemanomManifest,
)
from tests.conftest import ROOT, ZOO_BUNDLE


def entries(path: Path = ZOO_BUNDLE) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(path: Path, parts: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts:
            archive.writestr(name, data)
    return path


def altered_manifest(path: Path, change: str, value: object) -> Path:
    parts = entries()
    manifest = json.loads(parts["manifest.json"]) | {"metrics": {}}  # they are of the whole file
    *steps, last = change.split(".")
    table = manifest
    for step in steps:
        table = table[int(step) if step.isdigit() else step]
    table[last] = value
    parts["manifest.json"] = json.dumps(manifest).encode()
    return write_zip(path, list(parts.items()))


def test_what_is_written_is_read_and_the_same_again(tmp_path: Path, zoo_bundle: Bundle) -> None:
    path = tmp_path / "b.fieldwatch"
    bundles.write(path, zoo_bundle.manifest, zoo_bundle.parts, None)
    once = path.read_bytes()
    read = bundles.read(path)
    assert read.manifest == zoo_bundle.manifest
    assert read.parts == zoo_bundle.parts
    bundles.write(path, zoo_bundle.manifest, zoo_bundle.parts, None)
    assert path.read_bytes() == once
    assert [file.name for file in tmp_path.iterdir()] == ["b.fieldwatch"]


def test_keys_that_came_later_change_no_older_digest(zoo_bundle: Bundle) -> None:
    assert zoo_bundle.manifest.to_bytes() == zoo_bundle.manifest_bytes
    sampling = zoo_bundle.manifest.sampling.model_copy(update={"gap": "missing"})
    manifest = zoo_bundle.manifest.model_copy(update={"sampling": sampling})
    assert json.loads(manifest.to_bytes())["sampling"]["gap"] == "missing"
    assert TelemanomManifest.model_validate_json(manifest.to_bytes()) == manifest


def test_a_signature_does_not_change_the_digest(tmp_path: Path, zoo_bundle: Bundle) -> None:
    path = tmp_path / "b.fieldwatch"
    bundles.write(path, zoo_bundle.manifest, zoo_bundle.parts, b"signature")
    assert bundles.read(path).digest == zoo_bundle.digest
    assert bundles.read(path).signature == b"signature"


def test_any_flipped_byte_is_noticed_or_changes_nothing(tmp_path: Path, zoo_bundle: Bundle) -> None:
    """Some bytes of a zip mean nothing (a date, say); none may change what is read."""
    data = ZOO_BUNDLE.read_bytes()
    path = tmp_path / "b.fieldwatch"
    random.seed(7)
    places = [
        *range(200),
        *range(len(data) - 400, len(data)),
        *random.sample(range(len(data)), 300),
    ]
    refused = 0
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << random.randrange(8)
        path.write_bytes(damaged)
        try:
            read = bundles.read(path)
        except BundleError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            assert read.digest == zoo_bundle.digest
            assert dict(read.parts) == dict(zoo_bundle.parts)
    assert refused > len(places) / 2


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.9999])
def test_a_truncated_bundle_is_refused(tmp_path: Path, share: float) -> None:
    data = ZOO_BUNDLE.read_bytes()
    path = tmp_path / "b.fieldwatch"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BundleCorrupt, match=re.escape(str(path))):
        bundles.read(path)


def test_a_missing_bundle_says_so(tmp_path: Path) -> None:
    with pytest.raises(BundleMissing, match="no such bundle"):
        bundles.read(tmp_path / "gone")


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "b.fieldwatch")  # to open it waits for who writes to it
    for place in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(
            BundleMissing, match=f"{place}: it is a .*, not a file; put a bundle there"
        ):
            bundles.read(place)


def test_parts_that_lack_or_are_too_many_are_refused(tmp_path: Path) -> None:
    parts = entries()
    path = tmp_path / "b.fieldwatch"
    for name in parts:
        write_zip(path, [(other, data) for other, data in parts.items() if other != name])
        with pytest.raises(BundleCorrupt):
            bundles.read(path)
    write_zip(path, [*parts.items(), ("extra.txt", b"hello")])
    with pytest.raises(BundleCorrupt, match="differ: extra"):
        bundles.read(path)
    with pytest.warns(UserWarning, match="Duplicate"):
        write_zip(path, [*parts.items(), ("network.tflite", b"other")])
    with pytest.raises(BundleCorrupt, match="twice"):
        bundles.read(path)


def test_a_newer_format_asks_for_an_update(tmp_path: Path) -> None:
    with pytest.raises(BundleTooNew, match="format_version 3; this software reads up to 2: update"):
        bundles.read(altered_manifest(tmp_path / "b", "format_version", 3))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format_version", 0),
        ("name", "Pump!"),
        ("channels.0.scale", 0),
        ("channels.0.scale", float("nan")),
        ("channels.0.scale", 1e-300),  # 0 as a float32
        ("channels.0.center", 1e300),  # infinite as a float32
        ("channels.0.stuck_samples", 10**30),
        ("channels.0.name", "vibration_y"),
        ("network.state_size", 5),
        ("network.heads", ["value", "value"]),
        ("threshold.floor", [1.0]),
        ("threshold.z_min", 1000.0),
        ("threshold.z_step", 1e-9),
        ("threshold.history_samples", 10**15),
        ("threshold.history_samples", 10**6),  # in all rows together over the limit
        ("threshold.unheard_of", 1),
        ("sampling.period_s", -1),
        ("sampling.period_s", 1e-300),
        ("sampling.missing_samples", 10**30),
        ("sampling.gap", "guess"),
        ("events.deadband", 1.5),
        ("events.on_samples", "3"),
        ("version", True),
        ("metrics", {"deep": [float("nan")]}),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused_by_its_key(
    tmp_path: Path, key: str, value: object
) -> None:
    with pytest.raises(BundleCorrupt, match=r"manifest\.json"):
        bundles.read(altered_manifest(tmp_path / "b", key, value))


@pytest.mark.parametrize(
    "manifest", [b"", b"[]", b"null", b"\xff", b"{", b"[" * 100_000, b'{"format_version": 1}']
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, manifest: bytes) -> None:
    path = write_zip(tmp_path / "b", list((entries() | {"manifest.json": manifest}).items()))
    with pytest.raises(BundleCorrupt, match=r"manifest\.json"):
        bundles.read(path)


def test_a_compressed_part_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "b", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries().items():
            archive.writestr(name, data)
    with pytest.raises(BundleCorrupt, match="compressed"):
        bundles.read(tmp_path / "b")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "b"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b"0" * (FILE_SIZE_BYTES_MAX + 1))
    with pytest.raises(BundleCorrupt, match="larger"):
        bundles.read(path)


def test_parts_must_fit_the_manifest_to_be_written(tmp_path: Path, zoo_bundle: Bundle) -> None:
    parts = dict(zoo_bundle.parts) | {"network.tflite": b"other"}
    with pytest.raises(BundleCorrupt, match="altered"):
        bundles.write(tmp_path / "b", zoo_bundle.manifest, parts, None)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, zoo_bundle: Bundle) -> None:
    path = tmp_path / "b"
    path.mkdir()  # a file cannot take its place
    with pytest.raises(OSError, match="directory"):
        bundles.write(path, zoo_bundle.manifest, zoo_bundle.parts, None)
    assert list(tmp_path.iterdir()) == [path]


def test_the_zip_is_stored_and_begins_with_the_manifest() -> None:
    with zipfile.ZipFile(io.BytesIO(ZOO_BUNDLE.read_bytes())) as archive:
        infos = archive.infolist()
    assert infos[0].filename == "manifest.json"
    assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}


def referred(schema: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    return whole["$defs"][schema["$ref"].split("/")[-1]] if "$ref" in schema else schema


def leaves(schema: dict[str, Any], key: str, whole: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every key below ``schema``, dotted, with its own schema."""
    schema = referred(schema, whole)
    if key:
        yield key, schema
    if optional := [inner for inner in schema.get("anyOf", ()) if "$ref" in inner]:
        schema = referred(optional[0], whole)
    for name, inner in schema.get("properties", {}).items():
        yield from leaves(inner, f"{key}.{name}" if key else name, whole)
    for suffix, inside in (("[]", "items"), ("{}", "additionalProperties")):
        inner = schema.get(inside)
        if isinstance(inner, dict) and "$ref" in inner:
            yield from list(leaves(inner, key + suffix, whole))[1:]


def limits(schema: Any) -> Iterator[str]:
    """What a row must say of a value's limits, as the page writes them."""
    for inner in schema.get("anyOf", ()):
        yield from ["null"] if inner == {"type": "null"} else limits(inner)
    signs = {"minimum": "≥", "maximum": "≤", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}
    for name, sign in signs.items():
        if name in schema:
            limit = f"{sign} {schema[name]:g}"
            if schema.get("type") == "number":
                limit = limit.replace("1e+06", "10⁶")
            yield {"≥ 1e-30": "positive number", "≤ 1e+06": "count"}.get(limit, limit)
    yield from (str(schema[name]) for name in ("pattern", "const", "maxLength") if name in schema)
    if "minItems" in schema:
        yield f"at least {schema['minItems']}"
    items = schema.get("items", {})
    yield from (item for item in items.get("enum", ()))
    if "minimum" in items:
        yield from {s.replace("number", "numbers") for s in limits(items)}


TABLES: dict[str, type[Manifest]] = {
    "every family": Manifest,
    "`telemanom`": TelemanomManifest,
    "`hampel`": HampelManifest,
    "every other family": ForeignManifest,
}


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_of_the_manifest_are_the_schema(name: str) -> None:
    text = (ROOT / "models" / "README.md").read_text()
    section = text.split("## The manifest\n")[1].split("\n## ")[0]
    assert re.findall(r"^Keys of (.+):$", section, re.MULTILINE) == list(TABLES)
    table = section.split(f"Keys of {name}:\n")[1].split("\nKeys of ")[0]
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.+ \|.*) \|$", table, re.MULTILINE))
    schema = TABLES[name].model_json_schema()
    keys = dict(leaves(schema, "", schema))
    if name != "every family":
        own = TABLES[name].__annotations__
        keys = {key: inner for key, inner in keys.items() if re.split(r"[.\[{]", key)[0] in own}
    assert list(rows) == list(keys)
    for key, inner in keys.items():
        for limit in limits(inner):
            assert limit in rows[key], f"{key}: {limit}"
