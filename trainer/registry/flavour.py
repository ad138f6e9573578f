"""A bundle as a model of MLflow: it scores a data frame by the code that gateways run.

MLflow calls this module, by its name in the file ``MLmodel`` beside the bundle:

    mlflow.set_tracking_uri("sqlite:///registry/mlflow.db")
    model = mlflow.pyfunc.load_model("models:/pump@champion")
    scores = model.predict(frame)
"""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models import __version__, known_answers
from models import bundle as bundles
from models.bundle import Bundle
from models.errors import DataError
from models.families import detector_of
from models.messages import Float64, Readings
from trainer.datasets import Recording
from trainer.prepare import Grid, align

if TYPE_CHECKING:
    from pandas import DataFrame

MLMODEL = "MLmodel"
TIME = "time"


def mlmodel(bundle: Bundle, name: str) -> str:
    """Return MLflow's description of a model whose file ``name`` is beside it; JSON is YAML."""
    described = {
        "flavors": {
            "python_function": {
                "loader_module": __name__,
                "data": name,
                "python_version": platform.python_version(),
            },
            "fieldwatch": {
                "version": __version__,
                "family": bundle.manifest.detector,
                "digest": bundle.digest,
                "channels": [channel.name for channel in bundle.manifest.source_channels],
            },
        },
        "utc_time_created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
    }
    return f"{json.dumps(described, indent=2)}\n"


class Scorer:
    """Scores data frames with a bundle."""

    def __init__(self, bundle: Bundle) -> None:
        """Open a bundle as a gateway does.

        Raises:
            KnownAnswerMismatch: this machine does not compute what the trainer computed.
            InterpreterMissing: no interpreter of the network is installed.

        """
        self.bundle = bundle
        self._detector = detector_of(bundle)
        known_answers.check(self._detector, bundle)

    def predict(self, frame: DataFrame, params: dict[str, Any] | None = None) -> DataFrame:
        """Score the rows of a frame as one recording, from a fresh state.

        Args:
            frame: a column ``time`` (Unix seconds, or times; without it the index has them), and
                one of each channel of the bundle in its unit, or of each source of a feature.
            params: MLflow's; there are none.

        Returns:
            A row for each sample on the bundle's grid: ``time`` (Unix seconds), ``score`` (1 is
            the threshold; NaN: no score), ``probability``, and ``expected NAME`` of each channel.

        Raises:
            DataError: a column is missing, or the rows do not fit the grid.

        """
        from pandas import DataFrame

        manifest = self.bundle.manifest
        samples, _ = align([self._recording(frame)], Grid.of(manifest))
        scores = self._detector.step(self._detector.start(), samples).scores
        columns = {"time": scores.times, "score": scores.score, "probability": scores.probability}
        for position, name in enumerate(manifest.channel_names):
            columns[f"expected {name}"] = scores.predicted[:, position]
        return DataFrame(columns)

    def _recording(self, frame: DataFrame) -> Recording:
        names = [channel.name for channel in self.bundle.manifest.source_channels]
        if missing := [name for name in names if name not in frame.columns]:
            raise DataError(f"the data frame has no column {', '.join(missing)}")
        values = frame[names].to_numpy(np.float32)
        return Recording("data frame", Readings(_times(frame), values), 0, "")


def _times(frame: DataFrame) -> Float64:
    """Return the Unix seconds of each row."""
    found: np.ndarray[Any, Any] = (
        frame[TIME].to_numpy() if TIME in frame.columns else frame.index.to_numpy()
    )
    if np.issubdtype(found.dtype, np.datetime64):
        return np.asarray(found.astype("datetime64[ns]").astype(np.int64) / 1e9, np.float64)
    if not np.issubdtype(found.dtype, np.number):
        raise DataError("the data frame's times are neither numbers nor UTC times without a zone")
    return found.astype(np.float64)


def _load_pyfunc(path: str) -> Scorer:
    """Open the bundle at ``path``; MLflow calls this."""
    return Scorer(bundles.read(Path(path)))
