"""Bundles of other versions, to be exchanged while an agent runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models import bundle as bundles
from models.bundle import Bundle


def put(bundle: Bundle, path: Path, **changes: Any) -> Bundle:
    """Put a bundle with another manifest to a path, as a whole; return it as it is read there.

    ``changes``: keys of the manifest; of the sampling, where they begin with ``sampling_``.
    """
    of_sampling = {k.removeprefix("sampling_"): changes.pop(k) for k in [*changes] if "ling_" in k}
    if of_sampling:
        changes["sampling"] = bundle.manifest.sampling.model_copy(update=of_sampling)
    manifest = bundle.manifest.model_copy(update={"metrics": {}} | changes)
    bundles.write(path, manifest, bundle.parts, None)
    return bundles.read(path)
