"""The benchmark's bundle: the reference bundle's rules with a chosen network.

``tests/bench/make_network.py`` makes ``networks/*.tflite``: random weights in the form that the
trainer exports, and in ``windowed`` the same layers in Telemanom's published form. A network's cost
does not depend on its weights. The limits are set so that the benchmark's lines
(``agent.bench.lines``) raise alarms only if they contain a fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from models import bundle as bundles
from models.bundle import Bundle
from models.errors import ConfigError
from models.manifest import KNOWN_ANSWERS, NETWORK, TelemanomManifest

REFERENCE_BUNDLE: Final = Path(bundles.__file__).parent / "zoo" / "pump.fieldwatch"
_NETWORKS = Path(__file__).parent / "networks"
_FLOOR = 5.0  # smoothed errors of the lines are below 1, those of a fault far above


def bench_bundle(layers: Sequence[int], channels: int) -> Bundle:
    """Return a bundle with a network of this size; its known answers are not those of the network.

    Raises:
        ConfigError: there is no such network; the text names the existing ones.

    """
    reference = bundles.read(REFERENCE_BUNDLE)
    there = len(reference.manifest.channels)
    if channels != there:
        raise ConfigError(f"--channels {channels}: the existing networks have {there} channels")
    parts = {
        NETWORK: _network(list(layers), reference),
        KNOWN_ANSWERS: reference.parts[KNOWN_ANSWERS],
    }
    manifest = _manifest(reference.telemanom, list(layers), parts)
    return Bundle(manifest, manifest.to_bytes(), parts, None, f"benchmark {list(layers)}")


def windowed_network(bundle: Bundle) -> bytes:
    """Return Telemanom's published form of the bundle's network: it takes a window of samples."""
    name = "-".join(map(str, bundle.telemanom.network.layers))
    return (_NETWORKS / "windowed" / f"{name}.tflite").read_bytes()


def _network(layers: list[int], reference: Bundle) -> bytes:
    if layers == reference.telemanom.network.layers:
        return reference.network
    shipped = {file.stem.replace("-", ","): file for file in sorted(_NETWORKS.glob("*.tflite"))}
    wanted = ",".join(map(str, layers))
    if wanted not in shipped:
        known = [",".join(map(str, reference.telemanom.network.layers)), *shipped]
        raise ConfigError(f"--layers {wanted}: there is no such network; there are {known}")
    return shipped[wanted].read_bytes()


def _manifest(
    manifest: TelemanomManifest, layers: list[int], parts: dict[str, bytes]
) -> TelemanomManifest:
    rows = manifest.error_rows
    changed = manifest.model_copy(
        update={
            "name": "benchmark",
            "channels": [
                channel.model_copy(update={"low": None, "high": None})
                for channel in manifest.channels
            ],
            "network": manifest.network.model_copy(
                update={"layers": layers, "state_size": 2 * sum(layers)}
            ),
            "threshold": manifest.threshold.model_copy(
                update={"floor": [_FLOOR] * rows, "calm": [0.0] * rows}
            ),
            "forecaster": None,
            "metrics": {},  # they are of the reference bundle
            "files": {name: bundles.file_part(data) for name, data in parts.items()},
        }
    )
    return TelemanomManifest.model_validate(changed.model_dump())
