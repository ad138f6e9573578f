"""Table of the configuration about commands that central ops sends over MQTT."""

from __future__ import annotations

from agent.config.kinds import Count, FilePath
from models.settings import Table
from models.validation import Field, model_validator


class CommandsTable(Table):
    """Commands from central ops; docs/commands.md describes them."""

    enabled: bool = Field(
        False,
        description="Whether this gateway accepts commands that a key with the role operate in"
        " keys.directory has signed",
    )
    username: str | None = Field(
        None,
        description="User at the broker for the connection of the commands, if the broker allows a"
        " user one connection only; else the user of [mqtt]",
    )
    password_file: FilePath | None = Field(
        None, description="File that contains only the password of this user"
    )
    tls_cert_file: FilePath | None = Field(
        None, description="The certificate (PEM) of this user, if the broker asks for one"
    )
    tls_key_file: FilePath | None = Field(
        None, description="The key (PEM) of tls_cert_file, if it is not in the same file"
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

    @property
    def has_own_user(self) -> bool:
        """Whether their connection has another user than that of the uplink."""
        return self.username is not None or self.tls_cert_file is not None

    @model_validator(mode="after")
    def _consistent(self) -> CommandsTable:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("a user of its own needs both username and password_file")
        if self.tls_key_file is not None and self.tls_cert_file is None:
            raise ValueError("tls_key_file needs tls_cert_file")
        return self
