"""Table of the configuration about commands that central ops sends over MQTT."""

from __future__ import annotations

from agent.config.kinds import Count
from models.settings import Table
from models.validation import Field


class CommandsTable(Table):
    """Commands from central ops; docs/commands.md describes them."""

    enabled: bool = Field(
        False,
        description="Whether this gateway accepts commands that a key with the role operate in"
        " keys.directory has signed",
    )
    validity_max_s: float = Field(
        3600.0,
        ge=10,
        le=604_800,
        allow_inf_nan=False,
        description="Refuse a command that expires later than this from now; the broker keeps"
        " commands for this long while the gateway is away",
    )
    require_synced_clock: bool = Field(
        True,
        description="Refuse every command while the gateway's clock is known not to be"
        " synchronised; false trusts the clock as it is",
    )
    ids_max: Count = Field(
        10_000,
        le=1_000_000,
        description="Commands whose ids are kept until they expire; more are refused until then",
    )
    refusals_per_minute: Count = Field(
        30,
        le=6000,
        description="Answers per minute to commands that no trusted key has signed; further ones"
        " are only counted",
    )
    points_max: Count = Field(
        2000, le=20_000, description="Largest number of points in an answer with samples"
    )
    part_bytes_max: int = Field(
        32_768,
        ge=4096,
        le=262_144,
        description="Largest size of one part of an answer with samples",
    )
