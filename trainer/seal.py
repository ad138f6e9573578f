"""Builds manifests, and seals them with the parts of the bundle."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

import models
from models import bundle as bundles
from models import known_answers
from models.bundle import Bundle, file_part
from models.errors import ConfigError, DataError
from models.families import detector_of
from models.interpreter import runtime_version
from models.manifest import (
    EVALUATED,
    TRAINING,
    Channel,
    Events,
    KnownAnswers,
    LevelPart,
    Lineage,
    Manifest,
    Sampling,
    Severities,
    TelemanomManifest,
)
from models.settings import explain
from trainer.config import Config, source_part
from trainer.prepare import Grid

M = TypeVar("M", bound=Manifest)

_SOFTWARE = ("tensorflow", "keras", "numpy", "h5py", "ml_dtypes", "pydantic")


def made(form: type[M], **keys: Any) -> M:
    """Return a manifest of this form.

    Raises:
        ConfigError: a bundle cannot have these settings.

    """
    try:
        return form(**keys)
    except ValidationError as error:
        problems = explain(form, error)
        raise ConfigError("a bundle cannot have these settings: " + "; ".join(problems)) from error


def common(
    config: Config, channels: Sequence[Channel], lineage: Lineage, created: datetime
) -> dict[str, Any]:
    """Return the keys of the manifest that every family has, before calibration: without a tail."""
    return {
        "name": config.bundle.name,
        "version": config.bundle.version,
        "created": created.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "channels": list(channels),
        "sources": [source_part(source) for source in config.data.sources],
        "sampling": sampling(config),
        "events": Events(**config.events.model_dump()),
        "tail": None,
        "severities": Severities(**config.severities.model_dump()),
        "known_answers": KnownAnswers(tolerance=config.parity.interpreter_tolerance),
        "lineage": lineage,
        "metrics": {},
        "files": {},
    }


def draft(
    config: Config,
    channels: Sequence[Channel],
    lineage: Lineage,
    created: datetime,
    quantization: str,
) -> TelemanomManifest:
    """Return a network's manifest before calibration: floors of 1, no lower limits, no tail.

    Raises:
        ConfigError: a bundle cannot have these settings.

    """
    layers, heads = config.network.layers, config.network.heads
    scored = sum(channel.scored for channel in channels)
    span, spans = config.smoothing.level_span_samples, config.smoothing.spans_samples
    rows = (len(spans) * len(heads) + (span is not None)) * scored
    limits = {"floor": [1.0] * rows, "calm": [0.0] * rows}
    network = {
        "layers": layers,
        "heads": heads,
        "horizon_samples": config.network.horizon_samples,
        "state_size": 2 * sum(layers),
        "input_clip": config.network.input_clip,
        "quantization": quantization,
    }
    return made(
        TelemanomManifest,
        **common(config, channels, lineage, created),
        network=network,
        smoothing={"spans_samples": spans},
        threshold=config.threshold.model_dump() | limits,
        level=None if span is None else level(span, scored),
    )


def level(span_samples: float, scored: int) -> LevelPart:
    """Return the levels of ``scored`` channels before calibration: none is known."""
    return LevelPart(span_samples=span_samples, middle=[0.0] * scored, half=[0.0] * scored)


def grid(config: Config) -> Grid:
    """Return the grid of a configuration, with its features and raw channels."""
    data = config.data
    made = [channel.feature for channel in data.channels]
    return Grid(sampling(config), made, [source_part(source) for source in data.sources])


def sampling(config: Config) -> Sampling:
    """Return the sampling grid of a configuration."""
    return Sampling(**config.sampling.model_dump())


def assemble(manifest: Manifest, parts: Mapping[str, bytes]) -> Bundle:
    """Return the bundle of these parts, in memory. Its manifest lists their digests.

    The metrics of ``manifest`` belong to other parts, so they are left out.
    """
    files = {name: file_part(data) for name, data in parts.items()}
    manifest = manifest.model_copy(update={"files": files, "metrics": {}})
    return Bundle(manifest, manifest.to_bytes(), dict(parts), None, manifest.name)


def with_training(bundle: Bundle, config: Config) -> Bundle:
    """Return a bundle that has the configuration of its training, so that it can be repeated."""
    document = config.model_dump(mode="json", exclude={"registry"})  # which changes no result
    data = f"{json.dumps(document, separators=(',', ':'), sort_keys=True)}\n".encode()
    return assemble(bundle.manifest, dict(bundle.parts) | {TRAINING: data})


def sealed(bundle: Bundle) -> Bundle:
    """Return a bundle as a gateway reads it from its file, for evaluation.

    Its ``digest`` is the ``evaluated_digest`` of the file that ships, which also has metrics.

    Raises:
        KnownAnswerMismatch: the file does not reproduce the scores of the bundle in memory.

    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"{bundle.manifest.name}.fieldwatch"
        bundles.write(path, bundle.manifest, bundle.parts, None)
        return _opened(path)


def ship(bundle: Bundle, metrics: Mapping[str, Any], path: Path) -> Bundle:
    """Write a sealed bundle with its metrics to ``path``; return the bundle of the file.

    Raises:
        BundleCorrupt: the file differs from the evaluated one in more than the metrics.
        DataError: a metric is not a finite number.
        KnownAnswerMismatch: the file does not reproduce the scores of the bundle.

    """
    if odd := list(_not_finite(metrics)):
        raise DataError(
            f"the metrics {', '.join(odd)} could not be measured: the test part or a recording of"
            " evaluate.files is too short, or has too many gaps"
        )
    named = dict(metrics) | {EVALUATED: bundle.digest}
    manifest = bundle.manifest.model_copy(update={"metrics": named})
    bundles.write(path, manifest, bundle.parts, None)
    return _opened(path)


def _not_finite(value: Any, name: str = "") -> Iterator[str]:
    """Yield the dotted names of numbers that JSON cannot contain."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _not_finite(inner, f"{name}.{key}".removeprefix("."))
    elif isinstance(value, list | tuple):
        for at, inner in enumerate(value):
            yield from _not_finite(inner, f"{name}[{at}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield name


def _opened(path: Path) -> Bundle:
    bundle = bundles.read(path)
    known_answers.check(detector_of(bundle), bundle)
    return bundle


def software() -> dict[str, str]:
    """Return the versions of the software that the result of a training depends on."""
    return dict(_installed()) | {
        "fieldwatch": models.__version__,
        "python": platform.python_version(),
        "interpreter": runtime_version("litert"),
    }


def _installed() -> Iterator[tuple[str, str]]:
    for name in _SOFTWARE:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)
