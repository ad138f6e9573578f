"""The configuration of a fleet: one TOML file, from which each stream gets a training's.

    [defaults] ─> [types.TYPE] ─> [streams.NAME] ─> environment ─> trainer.config.Config

Each layer overrides the one before it, table by table. ``[registry]`` is one for all. ``{stream}``
in a text is the stream's name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ConfigDict, Field, ValidationError, model_validator

from models import reference
from models.environment import Override
from models.errors import ConfigError
from models.manifest import TELEMANOM
from models.names import NAME
from models.settings import Table, explain, refusal
from models.toml import Location, merged, read_toml
from trainer import config
from trainer.config import LABELS_SUFFIX, Config, ConfigFile
from trainer.registry.settings import RegistryTable

STREAM: Final = "{stream}"  # in a text: the name of the stream
_TABLES: Final = ("fleet", "streams", "types")  # those that a training's configuration lacks
# what must be the same for all streams that share a network
_OF_THE_NETWORK: Final = ("family", "sampling", "prepare", "network", "fit")


class FleetTable(Table):
    """Where the streams are, where the results go, and how the work is done."""

    output: str = Field("bundles", description="Directory of the bundles, reports, logs, records")
    find: str | None = Field(
        None,
        description="Pattern of the recordings with `{stream}` in place of the name, such as"
        " recordings/{stream}.csv: each name found is a stream, beside [streams]",
    )
    jobs: int | None = Field(
        None, ge=1, le=1024, description="Worker processes; default: number of processors"
    )
    attempts: int = Field(
        2, ge=1, le=10, description="Attempts at a stream whose worker process is killed"
    )
    memory_mib_max: int = Field(
        4096,
        ge=1,
        description="A worker that has needed more memory is replaced before the next stream",
    )
    scheduler_wait_s: float = Field(
        30.0,
        gt=0,
        le=86_400,
        description="With --scheduler: how long to wait for Dask's scheduler, and for its first"
        " worker",
    )

    @model_validator(mode="after")
    def _has_a_name(self) -> FleetTable:
        if self.find is not None and self.find.count(STREAM) != 1:
            raise ValueError(f"find: {self.find!r} must have {STREAM} once, for the name")
        return self


class TypeTable(Table):
    """A type of machine; beside these keys it has the tables of a training, for its streams."""

    model_config = ConfigDict(extra="allow")

    shared_network: bool = Field(
        True,
        description="All streams of the type share one network, trained on all of them; scaling"
        " and thresholds are each stream's own",
    )
    compare: bool = Field(
        False, description="Train a network for each stream, too, and compare them in the summary"
    )


class StreamTable(Table):
    """A stream; beside its type it has the tables of a training."""

    model_config = ConfigDict(extra="allow")

    type: str | None = Field(None, description="Its type of machine, a table of [types]")


class Fleet(Table):
    """The whole file."""

    fleet: FleetTable = FleetTable()
    registry: RegistryTable | None = Field(None, description="Of all streams; absent: none")
    defaults: dict[str, Any] = Field({}, description="Tables of a training, for all streams")
    types: dict[str, TypeTable] = Field({}, description="By name of the type")
    streams: dict[str, StreamTable] = Field({}, description="By name of the stream")


class Stream(NamedTuple):
    """A stream of the fleet."""

    name: str
    file: ConfigFile
    type: str | None = None

    @property
    def bundle(self) -> str:
        """The name of its bundle."""
        return self.file.config.bundle.name


@dataclass(frozen=True, slots=True)
class FleetFile:
    """The configuration of a fleet and its file; paths in it are relative to that file."""

    path: Path
    fleet: FleetTable
    types: Mapping[str, TypeTable]
    streams: Mapping[str, Stream]

    @property
    def output(self) -> Path:
        """The directory of the results."""
        return self.path.parent / self.fleet.output

    def of_type(self, name: str) -> list[Stream]:
        """Return the streams of a type."""
        return [stream for stream in self.streams.values() if stream.type == name]

    @property
    def sharing(self) -> list[str]:
        """The types whose streams share a network."""
        return [
            name
            for name, table in self.types.items()
            if table.shared_network and self.of_type(name)
        ]


def is_fleet(path: Path) -> bool:
    """Whether a file configures a fleet, and not one training.

    Raises:
        ConfigError: it cannot be read, or is not TOML.

    """
    return any(table in read_toml(path)[0] for table in _TABLES)


def read(path: Path) -> FleetFile:
    """Read and check the configuration of a fleet, and of each of its streams.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or a setting is wrong; the text has each
            wrong setting once, in the table where it was set.

    """
    document, _ = read_toml(path)
    try:
        fleet = Fleet.model_validate(document)
    except ValidationError as error:
        raise refusal(path, explain(Fleet, error)) from error
    names = list(dict.fromkeys([*_found(path, fleet.fleet), *fleet.streams]))
    if problems := list(_odd_names(names, fleet)):
        raise refusal(path, problems)
    environment = config.environment()
    streams, problems = {}, []
    for name in names:
        layers = _layers(name, fleet)
        try:
            streams[name] = _stream(path, name, fleet, layers, environment)
        except ValidationError as error:
            problems += explain(Config, error, where=partial(_place, layers, environment))
    problems += _of_all(streams, fleet)
    if problems:
        raise refusal(path, dict.fromkeys(problems))
    return FleetFile(path, fleet.fleet, fleet.types, streams)


def _found(path: Path, fleet: FleetTable) -> list[str]:
    """Return the names of the streams whose recordings the pattern finds.

    Raises:
        ConfigError: it finds none.

    """
    if fleet.find is None:
        return []
    whole = (path.parent / fleet.find).absolute()
    pattern = str(whole.relative_to(whole.anchor))
    head, tail = (re.escape(part).replace(r"\*", "[^/]*") for part in pattern.split(STREAM))
    named = re.compile(f"{head}([^/]+?){tail}")
    files = sorted(Path(whole.anchor).glob(pattern.replace(STREAM, "*")))
    matches = (named.fullmatch(str(file.relative_to(whole.anchor))) for file in files)
    names = [match[1] for match in matches if match and not match[0].endswith(LABELS_SUFFIX)]
    if not names:
        raise ConfigError(f"{path}: fleet.find = {fleet.find!r}: there is no such file")
    return list(dict.fromkeys(names))


def _odd_names(names: Sequence[str], fleet: Fleet) -> Iterator[str]:
    if not names:
        yield "there are no streams: add [streams.NAME], or set fleet.find"
    for name in names:
        if not NAME.fullmatch(name):
            yield (
                f"streams.{name}: a name has letters, digits, '_', '.' and '-', the first a letter"
                " or digit, at most 64"
            )
    for name, stream in fleet.streams.items():
        if stream.type is not None and stream.type not in fleet.types:
            there = ", ".join(fleet.types) or "none"
            said = f"there is no such type; there are: {there}"
            yield f"streams.{name}.type = {stream.type!r}: {said}"


class _Layer(NamedTuple):
    """Settings for a stream, and the table of the file that has them."""

    table: str
    settings: Mapping[str, Any]


def _layers(name: str, fleet: Fleet) -> list[_Layer]:
    """Return the layers of a stream, the strongest last."""
    table = fleet.streams.get(name, StreamTable())
    layers = [_Layer("defaults", fleet.defaults)]
    if table.type is not None:
        layers.append(_Layer(f"types.{table.type}", fleet.types[table.type].model_extra or {}))
    return [*layers, _Layer(f"streams.{name}", table.model_extra or {})]


def _stream(
    path: Path,
    name: str,
    fleet: Fleet,
    layers: Sequence[_Layer],
    environment: Sequence[Override],
) -> Stream:
    document: dict[str, Any] = {"bundle": {"name": name.lower().replace("_", "-")}}
    if fleet.fleet.find is not None:
        document["data"] = {"files": [fleet.fleet.find]}
    if fleet.registry is not None:
        document["registry"] = fleet.registry.model_dump(exclude_unset=True)
    for layer in layers:
        document = merged(document, layer.settings)
    document = _named(document, name)
    config.override(document, environment)
    found = Config.model_validate(document)
    file = ConfigFile(path, found, _digest(found))
    return Stream(name, file, fleet.streams.get(name, StreamTable()).type)


def _named(value: Any, name: str) -> Any:
    """Return a value with the stream's name in its texts."""
    if isinstance(value, Mapping):
        return {key: _named(inner, name) for key, inner in value.items()}
    if isinstance(value, list):
        return [_named(inner, name) for inner in value]
    return value.replace(STREAM, name) if isinstance(value, str) else value


def _digest(found: Config) -> str:
    """Return the sha256 of the settings of a stream, for its lineage."""
    settings = found.model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _place(layers: Sequence[_Layer], environment: Sequence[Override], location: Location) -> str:
    """Return the key of a setting where it was set; of a whole table, that of the stream."""
    if any(each.keys == location for each in environment):
        return config.place(environment, location)
    has = [layer for layer in reversed(layers) if _at(layer.settings, location) is not _NOTHING]
    whole = has and isinstance(_at(has[0].settings, location), Mapping)
    if whole and location[0] in Config.model_fields:  # a table of several layers
        has = []
    table = has[0].table if has else layers[-1].table
    return f"{table}.{config.place((), location)}".rstrip(".")


_NOTHING: Final = object()


def _at(settings: Any, location: Location) -> Any:
    """Return what is at a place; ``_NOTHING``: there is no such place."""
    for step in location:
        if isinstance(settings, Mapping) and step in settings:
            settings = settings[step]
        elif isinstance(settings, list) and isinstance(step, int) and step < len(settings):
            settings = settings[step]
        else:
            return _NOTHING
    return settings


def _of_all(streams: Mapping[str, Stream], fleet: Fleet) -> Iterator[str]:
    """Yield what is wrong with the streams together."""
    counted = Counter(stream.bundle for stream in streams.values())
    for stream in streams.values():
        if counted[stream.bundle] > 1:
            yield (
                f"streams.{stream.name}: other streams have a bundle {stream.bundle!r}, too: set"
                " bundle.name"
            )
        if any("registry" in layer.settings for layer in _layers(stream.name, fleet)):
            yield "registry: it is one for the whole fleet: write [registry], not in another table"
        if stream.file.config.bundle.output != ".":
            yield "bundle.output: it is not for a fleet: set fleet.output"
    for name, table in fleet.types.items():
        members = [stream for stream in streams.values() if stream.type == name]
        if table.shared_network and members:
            yield from _differences(name, members)


def _differences(name: str, members: Sequence[Stream]) -> Iterator[str]:
    first = members[0].file.config
    if first.family.name != TELEMANOM:
        yield (
            f"types.{name}: the family {first.family.name!r} has no network to share: set"
            f" types.{name}.shared_network = false"
        )
        return
    for stream in members[1:]:
        other = stream.file.config
        odd = [key for key in _OF_THE_NETWORK if getattr(other, key) != getattr(first, key)]
        if _inputs(other) != _inputs(first):
            odd.append("data.channels")
        if odd:
            yield (
                f"streams.{stream.name}: {', '.join(odd)}: must be as for {members[0].name}, since"
                f" they share the network of the type {name!r}; or set types.{name}.shared_network"
                " = false"
            )


def _inputs(of: Config) -> list[tuple[str, bool]]:
    return [(channel.name, channel.scored) for channel in of.data.channels]


def schema() -> dict[str, Any]:
    """Return the JSON schema of a fleet, for editors."""
    about = "The configuration of a fleet of streams."
    whole = reference.schema(Fleet, "Fieldwatch fleet", about)
    training = Config.model_json_schema()
    parts = whole["$defs"] | training.pop("$defs")
    for part in (training, *parts.values()):
        part.pop("required", None)  # each layer may have a part of the settings
    settings = training["properties"]
    whole["properties"]["defaults"] |= {"properties": settings, "additionalProperties": False}
    for name in ("TypeTable", "StreamTable"):
        parts[name]["properties"] |= settings
        parts[name]["additionalProperties"] = False
    return whole | {"$defs": parts}
