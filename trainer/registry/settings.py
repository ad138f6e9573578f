"""The table ``[registry]`` of a configuration: where runs and bundles are, and who is promoted."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from models.manifest import NotNegative, Positive
from models.settings import Table
from trainer.passwords import check_no_secret

DEFAULT_URL: Final = "sqlite:///registry/mlflow.db"

Direction = Literal["lower", "higher"]
# figures of a window that promotion may compare; see ``trainer.registry.window``
Figure = Literal["relative_mae", "false_events_per_day", "f1", "precision", "recall"]
BETTER: Final[dict[Figure, Direction]] = {
    "relative_mae": "lower",
    "false_events_per_day": "lower",
    "f1": "higher",
    "precision": "higher",
    "recall": "higher",
}


class PromotionTable(Table):
    """Which version of a stream becomes its champion."""

    metric: Figure = Field(
        "relative_mae",
        description="Figure of the newest window that decides; relative_mae is the mean error of"
        " the expected values, over that of the last value; f1, precision and recall need labels",
    )
    direction: Direction | None = Field(
        None, description="Which values of the metric are better.  [default: the metric's own]"
    )
    gain_min: NotNegative = Field(
        0.02, description="A version must be better than the champion by this share of its value"
    )
    false_events_per_day_max: NotNegative = Field(
        1.0, description="No version with more false events becomes champion"
    )
    recall_min: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="With labels, no version that finds a smaller share becomes champion"
    )
    window_hours_min: Positive = Field(
        1.0, description="Least length of the window that no version has seen, in scored hours"
    )
    window_hours_max: Positive = Field(
        720.0, description="Of longer recordings only the newest hours are compared"
    )

    final_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.3,
        description="Share of the window, its end, on which nothing is chosen: the champion's final"
        " figures come from there",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.window_hours_min > self.window_hours_max:
            raise ValueError("window_hours_min is above window_hours_max")
        return self

    @property
    def better(self) -> Direction:
        """Which values of the metric are better."""
        return self.direction or BETTER[self.metric]


class RegistryTable(Table):
    """The registry of MLflow that runs and bundles are recorded in."""

    url: str = Field(
        DEFAULT_URL,
        description="Where MLflow keeps runs and versions, without a password: a file of SQLite,"
        " relative to the configuration, a database such as"
        " postgresql+psycopg://trainer@db.plant/mlflow, or a server of MLflow (https://…)",
    )
    password_env: str | None = Field(
        None, min_length=1, description="Environment variable with the database's password"
    )
    password_file: str | None = Field(
        None, min_length=1, description="File with the password, in its first line"
    )
    artifacts: str | None = Field(
        None,
        min_length=1,
        description="Where new experiments keep files: a folder, relative to the configuration,"
        " or a URL such as s3://bucket/fieldwatch.  [default: a folder artifacts beside the file"
        " of SQLite, or what the server says]",
    )
    experiment: str = Field(
        "fieldwatch", min_length=1, max_length=200, description="MLflow's experiment of the runs"
    )
    promotion: PromotionTable = PromotionTable()

    @model_validator(mode="after")
    def _secrets_are_elsewhere(self) -> Self:
        check_no_secret(self.url)
        if self.password_env is not None and self.password_file is not None:
            raise ValueError("password_env and password_file exclude each other")
        scheme = self.url.partition(":")[0].partition("+")[0]
        if scheme not in ("sqlite", "postgresql", "mysql", "mssql", "http", "https"):
            raise ValueError(
                "url must begin with sqlite:///, postgresql+psycopg://, http:// or https://"
            )
        if self.artifacts is None and scheme not in ("sqlite", "http", "https"):
            raise ValueError("artifacts is missing: a database alone does not say where files go")
        return self
