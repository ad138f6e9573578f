"""Channels for forecasters without a bundle."""

from __future__ import annotations

from models.manifest import Channel


def channels(*scales: float) -> list[Channel]:
    """Return channels with these scales, and centers of 0."""
    return [
        Channel(name=f"variable_{at}", unit="", center=0.0, scale=scale)
        for at, scale in enumerate(scales)
    ]
