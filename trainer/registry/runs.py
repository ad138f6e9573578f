"""A run: what is recorded of one training, while it goes on."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from models.bundle import Bundle
from models.manifest import TRAINING
from models.printable import printable
from trainer.config import Config
from trainer.epochs import Epoch
from trainer.registry.errors import RegistryError
from trainer.registry.figures import metrics_of, parameters_of
from trainer.registry.records import ERROR, PROCESS, RUN_NAME, STREAM, Version
from trainer.registry.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param

Status = Literal["FINISHED", "FAILED", "KILLED"]

_VALUE_MAX: Final = 6000  # characters that MLflow keeps of a parameter
_PER_CALL: Final = 100  # parameters, or metrics, that MLflow takes at once
_ERROR_MAX: Final = 4000


class Run:
    """The record of one training of a stream. ``Registry.run`` opens and ends it.

    Its numbers can be seen while the training goes on.

    Raises:
        RegistryError: by each call that writes, where the store cannot be written; but a curve that
            cannot be written does not end a training, see ``lost``.

    """

    def __init__(
        self, store: Store, stream: str, tags: Mapping[str, str], again: str | None = None
    ) -> None:
        """Begin a run, or go on with ``again``, the id of one that has ended."""
        self._store, self.stream = store, stream
        own = {STREAM: stream, PROCESS: process(), RUN_NAME: stream}
        with store.writing():
            if again is None:
                begun = store.client.create_run(store.experiment, tags=own | dict(tags))
            else:
                store.client.set_tag(again, PROCESS, process())  # first: ``verify`` looks at it
                store.client.update_run(again, "RUNNING")
                begun = store.client.get_run(again)
        self.ended = False
        self.id: str = begun.info.run_id
        self.uri: str = begun.info.artifact_uri  # of the folder with its files
        self.version: Version | None = None  # that came of it
        self.lost: RegistryError | None = None  # why the newest points of its curves are missing

    def settings(self, config: Config) -> None:
        """Record the settings of a training as parameters, such as ``fit.epochs``."""
        self.parameters(config.model_dump(mode="json", exclude={"registry"}))

    def parameters(self, settings: Mapping[str, Any]) -> None:
        """Record parameters; tables inside tables get dotted names."""
        from mlflow.entities import Param

        found = parameters_of(settings)
        self._log(params=[Param(key, value[:_VALUE_MAX]) for key, value in found.items()])

    def epoch(self, network: str, epoch: Epoch) -> None:
        """Record an epoch, so that the curve of a training can be seen while it goes on.

        Args:
            network: that is trained, such as ``detector``.
            epoch: its number is the step of the curve.

        """
        try:
            self._points(
                {
                    f"train/{network}.loss": epoch.loss,
                    f"train/{network}.validation_loss": epoch.validation_loss,
                    f"train/{network}.epoch_s": epoch.seconds,
                },
                epoch.number,
            )
        except RegistryError as error:
            self.lost = error

    def metrics(self, metrics: Mapping[str, Any]) -> None:
        """Record the metrics of a bundle, each with the part that it is from."""
        self._points(metrics_of(metrics), 0)

    def numbers(self, numbers: Mapping[str, float]) -> None:
        """Record numbers as they are, such as the seconds of a step."""
        self._points(numbers, 0)

    def bundle(self, bundle: Bundle) -> None:
        """Record the settings in a bundle, and its metrics."""
        if TRAINING in bundle.parts:
            self.settings(Config.model_validate_json(bundle.parts[TRAINING]))
        self.metrics(bundle.manifest.metrics)

    def file(self, path: Path, folder: str = "") -> None:
        """Keep a file with the run."""
        with self._store.writing():
            self._store.client.log_artifact(self.id, str(path), folder or None)

    def text(self, name: str, text: str) -> None:
        """Keep a text with the run, such as a log, as the file ``name``."""
        with self._store.writing():
            self._store.client.log_text(self.id, text, name)

    def tag(self, name: str, value: str) -> None:
        """Set a tag of the run."""
        with self._store.writing():
            self._store.client.set_tag(self.id, name, value)

    def end(self, error: BaseException | None, traceback: str = "") -> None:
        """End the run; ``error``: what ended it, None if it is done."""
        if isinstance(error, KeyboardInterrupt):
            self.terminate("KILLED")
            return
        if error is not None:
            self.tag(ERROR, printable(str(error) or type(error).__name__)[:_ERROR_MAX])
            if traceback:
                self.text("traceback.txt", traceback)
        self.terminate("FINISHED" if error is None else "FAILED")

    def terminate(self, status: Status) -> None:
        """End the run with a status of MLflow's."""
        with self._store.writing():
            self._store.client.set_terminated(self.id, status)
        self.ended = True

    def _points(self, numbers: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        self._log(metrics=[Metric(name, value, now, step) for name, value in numbers.items()])

    def _log(self, metrics: Sequence[Metric] = (), params: Sequence[Param] = ()) -> None:
        for begin in range(0, max(len(metrics), len(params)), _PER_CALL):
            some = slice(begin, begin + _PER_CALL)
            with self._store.writing():
                self._store.client.log_batch(self.id, metrics[some], params[some])


def process(pid: int | None = None) -> str:
    """Return the name of a process of this machine, this one by default, that no other has."""
    pid = os.getpid() if pid is None else pid
    return f"{platform.node()} {pid} {_started(pid)}"


def _started(pid: int) -> str:
    """Return when a process started, in ticks of the kernel; "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
