"""Searches settings: trains many networks, and compares them on the validation data alone.

    configuration ─> prepare once ─> as configured ─> trial ─> trial ─> … ─> NAME.tuned.toml
                                                       └─ stopped early if the others are better

A trial only fits: it sees the training part, whose end validates. Calibration and test parts are
taken away before. So the figures of the winner's training stay those of data that nothing was
chosen on.

The study is a file of SQLite. A search that was interrupted goes on where it stopped, and finds the
same as one that was not: the sampler of each trial (TPE, Bergstra et al., NeurIPS 2011) starts from
the seed and the number of trials before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from pydantic import ValidationError

from models.errors import ConfigError
from models.files import replace as replace_file
from models.messages import Samples
from models.printable import printable
from models.settings import explain
from models.toml import read_toml, toml_value, written
from trainer import destination, train
from trainer.config import Config, ConfigFile, RangeTable, TuneTable, read
from trainer.epochs import Epoch
from trainer.family import AnyFamily, Job
from trainer.prepare import Parts
from trainer.prepared import Say, prepare_data

_BASELINE: Final = "as configured"  # attribute of the study: the loss of the configuration itself
_ENDED: Final = "ended"  # attribute of a trial that was not interrupted
_WHY: Final = "why"  # attribute of a trial that failed

Settings = Mapping[str, Any]  # by their dotted name


class End(NamedTuple):
    """How one training of a search ended."""

    state: Literal["complete", "pruned", "failed"]
    loss: float | None = None  # lowest validation loss
    best_epoch: int | None = None  # that had it; None: not known any more
    epochs: int | None = None  # trained
    why: str = ""  # it failed

    @classmethod
    def of(cls, state: Literal["complete", "pruned"], losses: Mapping[int, float]) -> End:
        """Return the end of a training with these validation losses, by epoch."""
        best = min(losses, key=lambda number: losses[number])
        return cls(state, losses[best], best, max(losses))


class Begun(NamedTuple):
    """A search that begins, or goes on."""

    study: str  # digest of all that a trial depends on
    data_digest: str
    config: Config
    ended: Mapping[int, End]  # the trainings that are done, by number; 0 is as configured


class TrialRecord(Protocol):
    """Takes note of one training."""

    def epoch(self, network: str, epoch: Epoch) -> None:
        """Hear an epoch of a network."""

    def end(self, end: End) -> None:
        """Hear the end, unless an exception is the end."""


class SearchRecord(Protocol):
    """Takes note of a search."""

    def trial(
        self, number: int, settings: Settings, config: Config
    ) -> AbstractContextManager[TrialRecord]:
        """Open the record of a training: its number, and the values of what is searched."""

    def found(self, found: Found) -> None:
        """Hear the result."""


Record: TypeAlias = Callable[[Begun], AbstractContextManager[SearchRecord]]


class _Unrecorded:
    """Takes note of nothing."""

    @contextmanager
    def trial(self, number: int, settings: Settings, config: Config) -> Iterator[_Unrecorded]:
        yield self

    def epoch(self, network: str, epoch: Epoch) -> None:
        pass

    def end(self, end: End) -> None:
        pass

    def found(self, found: Found) -> None:
        pass


@contextmanager
def unrecorded(begun: Begun) -> Iterator[SearchRecord]:
    """Record nothing."""
    yield _Unrecorded()


class Found(NamedTuple):
    """The result of a search."""

    path: Path  # of the configuration that was written
    study: Path  # file of SQLite
    configured: float | None  # validation loss of the configuration itself; None: it failed
    best: float  # of the winner
    settings: Settings  # of the winner; empty: no trial was better than the configuration
    trials: int
    stopped: int  # early
    failed: int

    @property
    def text(self) -> str:
        """What the winner was compared with."""
        told = "failed" if self.configured is None else f"{self.configured:.6g}"
        return (
            f"validation loss {self.best:.6g}, as configured {told}; the best of"
            f" {self.trials} trials, {self.stopped} of which were stopped early and"
            f" {self.failed} failed"
        )

    def document(self) -> dict[str, Any]:
        """Return the result, ready for JSON."""
        paths = {"path": str(self.path), "study": str(self.study)}
        return self._asdict() | paths | {"settings": dict(self.settings)}


def tune(file: ConfigFile, output: Path, say: Say, record: Record = unrecorded) -> Found:
    """Search the ranges of a configuration; write the winner beside it, as ``NAME.tuned.toml``.

    Args:
        file: the configuration, with a table ``tune``.
        output: directory of the study; created if missing.
        say: called with each line of progress.
        record: opens the record of the search.

    Raises:
        ConfigError: there is no table ``tune``, a range does not fit, nothing can be written, or
            no trial came to an end.
        DataError: the recordings cannot be used.
        ExtraMissing: a package that the family needs is not installed.

    """
    table = _checked(file)
    family = train.ready(file.config)
    path, database = _paths(file, output)
    prepared = prepare_data(file, say)
    job = _without_held_out(train.job_of(file, prepared, None, lambda line: None))
    output.mkdir(parents=True, exist_ok=True)
    digest = prepared.used.digest
    study = _study(database, table, _key(file.config, digest))
    search = _Search(study, table, family, job)
    with record(Begun(study.study_name, digest, file.config, search.ends())) as recorded:
        search.go_on(say, recorded)
        found = search.result(path, database)
        recorded.found(found)
    _write(file, found)
    return found


def _checked(file: ConfigFile) -> TuneTable:
    """Return the table of the search; each end of each range is a valid setting."""
    table = file.config.tune
    if table is None:
        raise ConfigError(f"{file.path}: there is no table [tune]: add it, and [[tune.ranges]]")
    for one in table.ranges:
        for value in one.choices or [_number(one, file.config, end) for end in (one.low, one.high)]:
            _with(file.config, {one.setting: value})
    return table


def _number(one: RangeTable, config: Config, value: float | None) -> float | int:
    """Return an end of a range in the type of its setting."""
    assert value is not None
    if not _whole(one, config):
        return value
    if value != round(value):
        raise ConfigError(f"tune.ranges: {one.setting}: {value:g} is not a whole number")
    return round(value)


def _whole(one: RangeTable, config: Config) -> bool:
    """Whether a range is one of whole numbers, as its setting is now."""
    return isinstance(_value_of(config, one.setting), int)


def _value_of(config: Config, setting: str) -> Any:
    value: Any = config
    for key in setting.split("."):
        value = value.get(key) if isinstance(value, Mapping) else getattr(value, key)
    return value


def _with(config: Config, settings: Settings) -> Config:
    """Return a configuration with other settings.

    Raises:
        ConfigError: they are not valid.

    """
    document = config.model_dump(mode="json")
    _set(document, settings)
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        raise ConfigError("tune.ranges: " + "; ".join(explain(Config, error))) from error


def _set(document: dict[str, Any], settings: Settings) -> None:
    for setting, value in settings.items():
        *tables, key = setting.split(".")
        inner = document
        for name in tables:
            inner = inner.setdefault(name, {})
        inner[key] = value


def _paths(file: ConfigFile, output: Path) -> tuple[Path, Path]:
    """Return the files to write: the winner and the study."""
    path = file.path.with_suffix(".tuned.toml")
    database = output / f"{file.config.bundle.name}.tune.db"
    destination.check_file(path)
    destination.check_directory(output, (database.name,))
    return path, database


def _without_held_out(job: Job) -> Job:
    """Return a job that has nothing but the training part."""
    train_part = job.parts.train
    none = Samples(train_part.times[:0], train_part.values[:0])
    return replace(job, parts=Parts(train_part, none, none), labelled=(), lives=())


def _key(config: Config, data_digest: str) -> str:
    """Return the name of a study: the digest of all that a trial depends on."""
    apart = config.model_copy(update={"registry": None})  # where it is recorded changes nothing
    document = apart.model_dump(mode="json", exclude={"tune": {"trials"}})
    text = json.dumps([document, data_digest], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _study(database: Path, table: TuneTable, name: str) -> optuna.Study:
    """Open the study, or begin it; trials that were interrupted do not count."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner(
        n_startup_trials=table.first_trials, n_warmup_steps=table.warm_up_epochs
    )
    study = optuna.create_study(
        storage=f"sqlite:///{database.absolute()}",
        study_name=name,
        pruner=pruner,
        load_if_exists=True,
    )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    return study


class _Search:
    """The trials of a study."""

    def __init__(self, study: optuna.Study, table: TuneTable, family: AnyFamily, job: Job) -> None:
        self._study, self._table, self._family, self._job = study, table, family, job

    def ends(self) -> dict[int, End]:
        """Return how the trainings ended that are done, by number; 0 is as configured."""
        found = {number: _end_of(trial) for number, trial in enumerate(self._ended(), 1)}
        if _BASELINE in self._study.user_attrs:
            loss, why = self._study.user_attrs[_BASELINE]
            found[0] = End("complete" if loss is not None else "failed", loss, why=why)
        return found

    def go_on(self, say: Say, record: SearchRecord) -> None:
        """Do what is to do."""
        count = self._table.trials
        if _BASELINE not in self._study.user_attrs:
            say("training as configured")
            self._as_configured(record)
        loss, why = self._study.user_attrs[_BASELINE]
        say(f"as configured: {f'failed: {why}' if loss is None else f'validation {loss:.6g}'}")
        if done := len(self._ended()):
            say(f"{done} of {count} trials are done")
        for number in range(done, count):
            say(f"trial {number + 1}/{count}: {self._one(number, record)}")

    def _ended(self) -> list[FrozenTrial]:
        """Return the trials that were not interrupted, at most as many as wanted."""
        trials = self._study.get_trials(deepcopy=False)
        return [trial for trial in trials if _ENDED in trial.user_attrs][: self._table.trials]

    def _as_configured(self, record: SearchRecord) -> None:
        config = self._job.config
        settings = {one.setting: _value_of(config, one.setting) for one in self._table.ranges}
        with record.trial(0, settings, config) as recorded:
            end = self._tried(config, recorded, lambda epoch: None)
            self._study.set_user_attr(_BASELINE, [end.loss, end.why])
            recorded.end(end)

    def _one(self, number: int, record: SearchRecord) -> str:
        """Do one trial; return what came of it."""
        self._study.sampler = optuna.samplers.TPESampler(seed=self._table.seed * 10_007 + number)
        trial = self._study.ask()
        settings = self._suggested(trial)
        told = ", ".join(f"{name} = {toml_value(value)}" for name, value in settings.items())

        def hear(epoch: Epoch) -> None:
            trial.report(epoch.validation_loss, epoch.number)
            if trial.should_prune():
                raise optuna.TrialPruned

        config = _with(self._job.config, settings)
        with record.trial(number + 1, settings, config) as recorded:
            end = self._tried(config, recorded, hear)
            self._tell(trial, end)  # before the record, which is settled by it if this is killed
            recorded.end(end)
        if end.state == "pruned":
            return f"stopped after epoch {end.epochs}; {told}"
        if end.state == "failed":
            return f"failed: {end.why}; {told}"
        return f"validation {end.loss:.6g}; {told}"

    def _tell(self, trial: Trial, end: End) -> None:
        """Tell the study how a trial ended."""
        trial.set_user_attr(_ENDED, True)
        if end.state == "failed":
            trial.set_user_attr(_WHY, end.why)
            self._study.tell(trial, state=TrialState.FAIL)
        elif end.state == "pruned":
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, end.loss)

    def _tried(self, config: Config, record: TrialRecord, hear: Callable[[Epoch], None]) -> End:
        """Fit once; ``hear`` may stop it after an epoch by ``optuna.TrialPruned``."""
        losses: dict[int, float] = {}

        def told(network: str, epoch: Epoch) -> None:
            record.epoch(network, epoch)
            losses[epoch.number] = epoch.validation_loss
            hear(epoch)

        try:
            self._family.fit(replace(self._job, config=config, on_epoch=told))
        except optuna.TrialPruned:
            return End.of("pruned", losses)
        except ConfigError as error:  # it diverged, or the settings do not fit each other
            return End("failed", epochs=max(losses, default=0), why=printable(str(error)))
        if not losses or not np.isfinite(min(losses.values())):
            raise ConfigError(
                f"the family {config.family.name} does not validate by epochs, so its settings"
                " cannot be searched"
            )
        return End.of("complete", losses)

    def _suggested(self, trial: Trial) -> dict[str, Any]:
        return {one.setting: self._value(trial, one) for one in self._table.ranges}

    def _value(self, trial: Trial, one: RangeTable) -> Any:
        if one.choices:
            by_text = {toml_value(choice): choice for choice in one.choices}
            return by_text[str(trial.suggest_categorical(one.setting, list(by_text)))]
        low, high = (_number(one, self._job.config, end) for end in (one.low, one.high))
        if _whole(one, self._job.config):
            return trial.suggest_int(one.setting, int(low), int(high), log=one.log)
        return trial.suggest_float(one.setting, low, high, log=one.log)

    def result(self, path: Path, database: Path) -> Found:
        """Return the best of all, which may be the configuration itself.

        Raises:
            ConfigError: nothing came to an end.

        """
        ended = self._ended()
        of = {
            state: [trial for trial in ended if trial.state == state]
            for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        }
        configured, why = self._study.user_attrs[_BASELINE]
        best = min(of[TrialState.COMPLETE], key=_loss, default=None)
        if best is None and configured is None:
            raise ConfigError(f"no training came to an end. As configured: {why}")
        better = best is not None and (configured is None or _loss(best) < configured)
        return Found(
            path,
            database,
            configured,
            _loss(best) if best is not None and better else configured,
            self._settings(best) if best is not None and better else {},
            len(ended),
            len(of[TrialState.PRUNED]),
            len(of[TrialState.FAIL]),
        )

    def _settings(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return the settings of a trial that ended."""
        choices = {
            one.setting: {toml_value(choice): choice for choice in one.choices}
            for one in self._table.ranges
            if one.choices
        }
        return {
            name: choices[name][value] if name in choices else value
            for name, value in trial.params.items()
        }


def _end_of(trial: FrozenTrial) -> End:
    """Return how a trial ended, as the study knows it."""
    if trial.state == TrialState.FAIL:
        epochs = max(trial.intermediate_values, default=0)
        return End("failed", epochs=epochs, why=trial.user_attrs.get(_WHY, ""))
    state: Literal["complete", "pruned"] = (
        "pruned" if trial.state == TrialState.PRUNED else "complete"
    )
    return End.of(state, trial.intermediate_values)


def _loss(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value


def _write(file: ConfigFile, found: Found) -> None:
    """Write the winner: the settings of the file, with those that were found."""
    document, _ = read_toml(file.path)
    _set(document, found.settings)
    lines = [
        f"# {printable(file.path.name)} with the settings that fieldwatch-trainer tune found best:",
        f"# {found.text}.",
        "# The loss is that of the end of the training part; nothing was chosen on the parts after"
        " it.",
        *(f"#   {name} = {toml_value(value)}" for name, value in found.settings.items()),
    ]
    if not found.settings:
        lines.append("# No trial was better than the configuration itself, so nothing is changed.")
    text = "\n".join([*lines, "", *written(document)]) + "\n"
    replace_file(found.path, text.encode())
    read(found.path)  # it is valid, or this says why not
