"""The network that the streams of a type of machine share.

    training parts of all streams, each with its own scaling ─> one network ─> TYPE.network.npz

The network is kept while the data and settings of the streams that it was trained on stay as they
are. So a stream that joins the type later starts from it: only its scaling and its thresholds are
its own. A stream whose data cannot be used is left out.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from models.errors import DataError, FieldwatchError, InsufficientDataError
from models.files import replace
from models.manifest import Channel, SharedNetwork
from models.messages import Samples
from trainer.config import Config, Quantization
from trainer.detector.family import train_network
from trainer.detector.trained import TrainedNetwork
from trainer.epochs import Epoch
from trainer.fleet.config import Stream
from trainer.fleet.log import Log
from trainer.prepared import prepare_data
from trainer.quiet import quiet
from trainer.workers import peak_memory_bytes

_ABOUT: Final = "about"
_DAMAGED: Final = (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile)
# settings that a training of the network depends on
_LEARNT_BY: Final = frozenset({"data", "sampling", "split", "prepare", "network", "fit"})


class Member(NamedTuple):
    """A stream that a network was trained on."""

    data: str  # digest of the lineage
    settings: str  # digest of those that the training depends on

    @classmethod
    def of(cls, stream: Stream, data_digest: str) -> Member:
        """Return a stream with these data."""
        config = stream.file.config
        found = config.model_dump(mode="json", include=set(_LEARNT_BY), exclude_defaults=True)
        found.get("fit", {}).pop("progress_epochs", None)
        found["forms"] = config.parity.quantizations
        text = json.dumps(found, sort_keys=True)
        return cls(data_digest, hashlib.sha256(text.encode()).hexdigest())


class TypeOutcome(NamedTuple):
    """The end of the work on the network of a type."""

    trained: bool  # False: the network that was there is kept
    members: list[str]  # the streams that it was trained on
    left_out: dict[str, str]  # why, by name of the stream
    seconds: float
    epochs: int
    peak_mib: int

    def document(self) -> dict[str, Any]:
        """Return the outcome, ready for JSON."""
        return self._asdict()


@dataclass(frozen=True, slots=True)
class SharedWork:
    """The training of a type's network; a ``Work``."""

    type: str
    streams: Sequence[Stream]
    path: Path  # of the network
    log: Path
    again: bool = False  # train even if nothing has changed

    def perform(self) -> TypeOutcome:
        """Train the network, unless it is there.

        Raises:
            InsufficientDataError: no stream has usable data.
            FieldwatchError: the training fails.

        """
        with Log(self.log) as log:
            machines, members, left_out = self._prepared(log)
            there = None if self.again else members_of(self.path)
            if there is not None and is_current(there, members):
                log("kept: nothing has changed for the streams that it was trained on")
                return self._outcome(False, there, left_out, log, 0)
            network = train_network(self._config, machines, log)
            write(self.path, self.type, network, members)
            return self._outcome(True, members, left_out, log, len(network.epochs))

    @property
    def _config(self) -> Config:
        return self.streams[0].file.config

    def _outcome(
        self,
        trained: bool,
        members: Mapping[str, Member],
        left_out: dict[str, str],
        log: Log,
        epochs: int,
    ) -> TypeOutcome:
        seconds, peak = round(log.seconds, 3), peak_memory_bytes() >> 20
        return TypeOutcome(trained, list(members), left_out, seconds, epochs, peak)

    def _prepared(
        self, log: Log
    ) -> tuple[list[tuple[Samples, list[Channel]]], dict[str, Member], dict[str, str]]:
        machines: list[tuple[Samples, list[Channel]]] = []
        members: dict[str, Member] = {}
        left_out: dict[str, str] = {}
        for stream in self.streams:
            try:
                prepared = prepare_data(stream.file, log)
            except FieldwatchError as error:
                left_out[stream.name] = str(error)
                log(f"{stream.name} is left out: {error}")
            else:
                machines.append((prepared.parts.train, prepared.channels))
                members[stream.name] = Member.of(stream, prepared.used.digest)
        if not machines:
            raise InsufficientDataError(
                f"no stream of the type {self.type} has usable data: "
                + "; ".join(f"{name}: {why}" for name, why in left_out.items())
            )
        return machines, members, left_out


def is_current(trained_on: Mapping[str, Member], now: Mapping[str, Member]) -> bool:
    """Whether all streams that a network was trained on are as they were, or are gone."""
    return all(now[name] == then for name, then in trained_on.items() if name in now)


def write(path: Path, of_type: str, network: TrainedNetwork, members: Mapping[str, Member]) -> None:
    """Write the network of a type.

    Raises:
        OSError: it cannot be written.

    """
    about = {
        "type": of_type,
        "members": {name: list(member) for name, member in members.items()},
        "epochs": [asdict(epoch) for epoch in network.epochs],
        "refused": network.exported.refused,
    }
    arrays: dict[str, Any] = {_ABOUT: np.frombuffer(json.dumps(about).encode(), np.uint8)}
    for form, data in network.exported.networks.items():
        arrays[form] = np.frombuffer(data, np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, buffer.getvalue())


def members_of(path: Path) -> dict[str, Member] | None:
    """Return the streams that a network was trained on; None if there is no whole file."""
    try:
        return {name: Member(*member) for name, member in _about(path)["members"].items()}
    except DataError:
        return None


def shared_by(path: Path) -> SharedNetwork:
    """Return who shares the network of a file.

    Raises:
        DataError: it is no whole file of a network.

    """
    about = _about(path)
    streams = {name: Member(*member).data for name, member in about["members"].items()}
    return SharedNetwork(type=about["type"], streams=streams)


def read(path: Path) -> TrainedNetwork:
    """Read the network of a type.

    Raises:
        DataError: it is no whole file of a network.

    """
    about, shared = _about(path), shared_by(path)
    with quiet():
        from trainer.detector.export import Exported
    networks: dict[Quantization, bytes] = {}
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
        for form in file.files:
            if form != _ABOUT:
                networks[form] = file[form].tobytes()
    epochs = [Epoch(**epoch) for epoch in about["epochs"]]
    return TrainedNetwork(Exported(networks, about["refused"]), epochs, shared)


def _about(path: Path) -> dict[str, Any]:
    try:
        # from memory: numpy leaves a damaged file open
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            about: dict[str, Any] = json.loads(file[_ABOUT].tobytes())
    except _DAMAGED as error:
        raise DataError(f"{path}: not a whole network of a type of machine: {error}") from error
    return about
