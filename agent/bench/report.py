"""Writes the benchmark's document as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def table(document: Mapping[str, Any]) -> Iterator[str]:
    """Return the lines: the stages beside their bare parts, then the rest."""
    settings, stages, bare = document["settings"], document["stages"], document["bare"]
    layers = ", ".join(map(str, settings["layers"]))
    yield (
        f"{settings['streams']} × {settings['channels']} channels, network [{layers}] on"
        f" {document['interpreter']}, {document['machine']['processor']}"
    )
    yield ""
    yield f"{'µs of CPU time per reading':<28}{'agent':>10}{'bare part':>12}"
    for stage, us in stages.items():
        part = f"{bare[stage]:12.3g}" if stage in bare else ""
        yield f"  {stage:<26}{us:>10.3g}{part}"
    yield f"  {'sum':<26}{document['us_per_reading']:>10.3g}{bare['sum']:>12.3g}"
    yield ""
    for name, value in _rest(document):
        yield f"{name:<34}{value}"


def _rest(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    windowed, pty, settings = document["windowed"], document["pty"], document["settings"]
    yield "readings per second and core", f"{document['readings_per_s']:,}"
    yield "times the bare parts", f"{document['ratio_to_bare']:g}"
    yield (
        "the network against a window",
        f"{document['ratio_to_windowed']:g} times cheaper per sample"
        f" ({windowed['window_samples']} steps: {windowed['us_per_sample']:g} µs)",
    )
    yield (
        "against its own steps through one",
        f"{document['ratio_to_stepped_window']:g} times"
        f" ({windowed['us_per_sample_stepped']:g} µs,"
        f" {windowed['us_per_sample_stepped_together']:g} µs with all streams together)",
    )
    if uplink := document["uplink"]:
        yield (
            "messages sent per second",
            f"{uplink['messages_per_s']:,} (paho alone {uplink['bare_messages_per_s']:,})",
        )
    yield "through pseudo-terminals", f"{pty['us_per_reading']:g} µs per reading"
    yield (
        "reading to commit",
        f"{document['commit_ms_p50']:g} ms (p99 {document['commit_ms_p99']:g} ms)",
    )
    yield "memory", f"{document['rss_mb']:g} MB"
    yield (
        "written per 1,000 readings",
        f"{document['bytes_written_per_1000']:,} bytes on {settings['file_system']}"
        f" ({settings['bytes_written_from']})",
    )
    yield "start to the first score", f"{document['cold_start_s']:g} s"
