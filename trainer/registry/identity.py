"""What makes two trainings the same, so that the second one need not be done."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from models.bundle import Bundle
from models.manifest import TRAINING
from trainer.config import Config

# what does not change the result of a training: names, places, and what only shows progress
_LEFT_OUT: Final[dict[str, Any]] = {
    "bundle": True,
    "registry": True,
    "data": {"files", "queries", "labels"},
    "evaluate": {"files"},
    "remaining": {"files"},
    "fit": {"progress_epochs"},
}


def lineage_digest(config: Config, data_digest: str) -> str:
    """Return the digest of a training: of its data, its settings and its seeds.

    It does not depend on the version of the code, names of files, or the name of the bundle. It
    is known before the training.

    Args:
        config: of the training.
        data_digest: ``trainer.prepared.Prepared.used.digest``.

    """
    settings = config.model_dump(mode="json", exclude_defaults=True, exclude=_LEFT_OUT)
    said = {name: table for name, table in settings.items() if table}  # not those left empty
    return _digest(data_digest, json.dumps(said, sort_keys=True))


def lineage_of(bundle: Bundle) -> str:
    """Return the digest of the training that made a bundle.

    A bundle that has no configuration in it, as of an older version or another package, has the
    digests of its data and of its configuration's file instead.
    """
    lineage = bundle.manifest.lineage
    if lineage.data is not None and TRAINING in bundle.parts:
        config = Config.model_validate_json(bundle.parts[TRAINING])
        return lineage_digest(config, lineage.data.digest)
    return _digest(data_digest_of(bundle), lineage.config_digest)


def data_digest_of(bundle: Bundle) -> str:
    """Return the digest of the data that a bundle was trained on."""
    lineage = bundle.manifest.lineage
    return lineage.data_digest if lineage.data is None else lineage.data.digest


def _digest(data: str, settings: str) -> str:
    return hashlib.sha256(f"{data}\n{settings}\n".encode()).hexdigest()
