"""The only door to MLflow: opens its store, and says its errors in our words.

MLflow is imported when a store is opened, which takes a second or two.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from models.errors import ConfigError
from models.printable import printable
from trainer import extras, passwords
from trainer.registry.errors import RegistryError
from trainer.registry.settings import RegistryTable

if TYPE_CHECKING:
    from mlflow.entities import Run as FoundRun
    from mlflow.store.artifact.artifact_repo import ArtifactRepository
    from mlflow.tracking import MlflowClient
    from sqlalchemy.engine.interfaces import DBAPIConnection

PACKAGES: Final = ("mlflow", "sqlalchemy", "alembic")
_SQLITE: Final = "sqlite:///"
_SERVER: Final = ("http://", "https://")
_CREATING: Final = 7_304_188_201  # key of the lock that whoever makes the tables of a database has
_ASKED: Final = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
# what requests says of a certificate, and of a file of authorities that is not there or is none
_NOT_TRUSTED: Final = ("CERTIFICATE_VERIFY_FAILED", "TLS CA certificate bundle", "[X509")
# columns of MLflow's tables that have the URI of files
PLACES: Final = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
_SAID_MAX: Final = 500  # characters of a foreign error


class Store:
    """A connection to MLflow's runs and versions, and to its files."""

    def __init__(self, settings: RegistryTable, directory: Path) -> None:
        """Open a store, and make it if there is none.

        Args:
            settings: the table ``[registry]``.
            directory: that paths in the settings are relative to.

        Raises:
            ExtraMissing: MLflow is not installed.
            ConfigError: there is no password where the settings say, or no such driver.
            RegistryError: the store cannot be reached.

        """
        extras.require("the registry", PACKAGES, "registry")
        self.settings = settings
        self.uri, self._file = _uri(settings, directory)
        self.artifacts = _artifacts(settings, directory, self._file)
        if (self.artifacts or "").startswith("s3:"):
            extras.require("registry.artifacts", ("boto3",), "s3")
        client = _loaded()
        with self.writing(), self._creating():
            self.client: MlflowClient = client(self.uri, self.uri)
            self.experiment = self._experiment()

    @property
    def where(self) -> str:
        """The place of the store for people, without its password."""
        return self.settings.url if self._file is None else str(self._file)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Turn errors of MLflow, of a database or of S3 inside into ours.

        Raises:
            RegistryError: the text has the place and what is said there.

        """
        try:
            yield
        except _foreign() as error:
            raise RegistryError(f"{self.where}: {_said(error)}") from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """As ``reading``; one process after the other writes a file of SQLite.

        SQLite itself refuses a writer that has read before, if another one came in between.
        """
        if self._file is None:
            with self.reading():
                yield
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            lock = self._file.with_name(f"{self._file.name}.lock").open("a")
        except OSError as error:
            raise RegistryError(f"{self._file}: cannot be written: {error.strerror}") from error
        with lock, self.reading():
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @property
    def root(self) -> str:
        """The URI below which the experiment has its files, as the store has it."""
        with self.reading():
            return str(self.client.get_experiment(self.experiment).artifact_location)

    def move(self, old: str, new: str) -> None:
        """Write the URI ``new`` in place of ``old`` wherever the store has it, in one transaction.

        MLflow has no way to do so: it keeps the place of the files in each entry.

        Raises:
            ConfigError: the store is on a server, which decides where the files are.

        """
        if self.uri.startswith(_SERVER):
            raise ConfigError(f"{self.uri}: the files of a server are moved there")
        import sqlalchemy

        engine = sqlalchemy.create_engine(self.uri, poolclass=sqlalchemy.NullPool)
        with self.writing(), engine.begin() as connection:
            for name, columns in PLACES.items():
                table = sqlalchemy.table(name, *map(sqlalchemy.column, columns))
                for place in table.c:
                    moved = new + sqlalchemy.func.substr(place, len(old) + 1)
                    below = place.startswith(f"{old}/", autoescape=True)
                    where = sqlalchemy.or_(place == old, below)
                    connection.execute(table.update().where(where).values({place: moved}))

    def runs(self, asked: str = "", deleted: bool = False) -> Iterator[FoundRun]:
        """Yield runs of the experiment, the newest first.

        Args:
            asked: filter of MLflow, such as "attributes.status = 'RUNNING'"; "": all.
            deleted: those that are marked as deleted, too.

        """
        from mlflow.entities import ViewType

        kind, token = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY, None
        while True:
            with self.reading():
                page = self.client.search_runs(
                    [self.experiment], asked, run_view_type=kind, page_token=token
                )
            yield from page
            token = page.token
            if not token:
                return

    def download(self, uri: str, name: str, folder: Path) -> Path:
        """Copy the file ``name`` below a URI into a folder; return its path there."""
        with self.reading():
            found: str = self._files(uri).download_artifacts(name, str(folder))  # type: ignore[no-untyped-call]  # MLflow's
        return Path(found)

    def listed(self, uri: str, name: str | None = None) -> list[str]:
        """Return the paths of all files below a URI, or below its folder ``name``."""
        with self.reading():
            there = self._files(uri).list_artifacts(name)
        found = [each.path for each in there if not each.is_dir]
        for each in there:
            if each.is_dir:
                found += self.listed(uri, each.path)
        return found

    def folders(self, uri: str) -> list[str]:
        """Return the names of the folders directly below a URI."""
        with self.reading():
            return [each.path for each in self._files(uri).list_artifacts() if each.is_dir]

    def remove(self, uri: str, name: str | None = None) -> None:
        """Remove the file or folder ``name`` below a URI; None: all below it."""
        with self.reading():
            self._files(uri).delete_artifacts(name)  # type: ignore[no-untyped-call]  # MLflow's

    def _files(self, uri: str) -> ArtifactRepository:
        """Return the files below a URI."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(uri, tracking_uri=self.uri)

    def _experiment(self) -> str:
        """Return the id of the experiment, which is made if there is none."""
        name = self.settings.experiment
        with contextlib.suppress(_mlflow_error()):  # somebody else makes it, too
            if self.client.get_experiment_by_name(name) is None:
                self.client.create_experiment(name, self.artifacts)
        found = self.client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != "active":
            raise RegistryError(
                f"{self.where}: the experiment {name!r} was deleted: restore it with `mlflow"
                " experiments restore`, or set registry.experiment to another name"
            )
        return str(found.experiment_id)

    def _check_encoding(self, connection: DBAPIConnection, _: object) -> None:
        """Refuse a database of PostgreSQL that is not in UTF-8.

        SQLAlchemy and MLflow fail with one that does not know the encoding of its texts: there, the
        driver returns bytes.

        Raises:
            ConfigError: its encoding is another one.

        """
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute("SHOW server_encoding")
            [(found,)] = cursor.fetchall()
        connection.rollback()
        encoding = found.decode() if isinstance(found, bytes) else str(found)
        if encoding != "UTF8":
            raise ConfigError(
                f"registry.url: {self.where}: the database has the encoding {printable(encoding)},"
                " and MLflow needs UTF8: make another one with `createdb --encoding=UTF8"
                " --template=template0 NAME`, and give its name in registry.url"
            )

    @contextlib.contextmanager
    def _creating(self) -> Iterator[None]:
        """Connect once, so that a wrong password is told at once; one process makes the tables."""
        if self.uri.startswith(_SERVER):
            _let_in(self.uri)
            yield
            return
        import sqlalchemy
        from sqlalchemy import event, exc

        try:
            engine = sqlalchemy.create_engine(self.uri, poolclass=sqlalchemy.NullPool)
        except exc.SQLAlchemyError as error:
            raise ConfigError(f"registry.url: {_said(error)}") from error
        except ImportError as error:
            raise ConfigError(f"registry.url: its driver is not installed: {error}") from error
        if engine.dialect.name == "postgresql":  # before SQLAlchemy's own first questions
            event.listen(engine, "connect", self._check_encoding, insert=True)
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({_CREATING})"))
            yield


def _loaded() -> type[MlflowClient]:
    """Import MLflow; keep it from printing, and from telling its makers of its use."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):  # after the import, which sets the level
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return MlflowClient


def _let_in(uri: str) -> None:
    """Ask a server of MLflow once, without the minutes of retries that MLflow takes for each error.

    A server that does not answer is left to these.

    Raises:
        RegistryError: its certificate or our password is refused; no retry mends these.

    """
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    credentials = get_default_host_creds(uri)  # type: ignore[no-untyped-call]  # MLflow's
    try:
        answer = http_request(  # type: ignore[no-untyped-call]  # MLflow's
            credentials, _ASKED, "GET", max_retries=0, raise_on_status=False
        )
    except MlflowException as error:
        if any(words in str(error) for words in _NOT_TRUSTED):
            raise RegistryError(
                f"{uri}: its certificate cannot be checked: MLFLOW_TRACKING_SERVER_CERT_PATH names"
                f" the file of its authority. {_said(error)}"
            ) from error
        return
    if answer.status_code in (401, 403):
        raise RegistryError(
            f"{uri}: the server refuses this user ({answer.status_code}):"
            " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, say"
            " who asks"
        )


def _uri(settings: RegistryTable, directory: Path) -> tuple[str, Path | None]:
    """Return MLflow's URI of the store, and the file if it is one of SQLite."""
    if settings.url.startswith(_SERVER):
        return settings.url, None
    if settings.url.startswith(_SQLITE):
        name = settings.url.removeprefix(_SQLITE)
        if not name or name.startswith(":memory:"):
            raise ConfigError(f"registry.url names no file of SQLite, such as {_SQLITE}runs.db")
        file = (directory / name).absolute()
        return f"{_SQLITE}{file}", file
    secret = passwords.password(
        directory, settings.password_env, settings.password_file, "[registry]"
    )
    if secret is None:
        return settings.url, None
    from sqlalchemy import make_url

    url = make_url(settings.url).set(password=secret)
    return url.render_as_string(hide_password=False), None


def _artifacts(settings: RegistryTable, directory: Path, file: Path | None) -> str | None:
    """Return the URI below which a new experiment has its files; None: the server decides."""
    if settings.artifacts is None:
        return None if file is None else (file.parent / "artifacts").as_uri()
    if "://" in settings.artifacts:
        return settings.artifacts
    return (directory / settings.artifacts).absolute().as_uri()


def _mlflow_error() -> type[Exception]:
    from mlflow.exceptions import MlflowException

    return MlflowException


def _foreign() -> tuple[type[Exception], ...]:
    """Return the errors of MLflow and of what it uses, as far as it is loaded."""
    names = {
        "mlflow.exceptions": ("MlflowException",),
        "sqlalchemy.exc": ("SQLAlchemyError",),
        "requests.exceptions": ("RequestException",),
        "botocore.exceptions": ("BotoCoreError", "ClientError"),
        "boto3.exceptions": ("Boto3Error",),
    }
    return tuple(
        getattr(sys.modules[module], name)
        for module, each in names.items()
        if module in sys.modules
        for name in each
    )


def _said(error: Any) -> str:
    """Return the beginning of what another library says, on one line."""
    cause = getattr(error, "orig", None) or error
    return printable(" ".join(str(cause).split())[:_SAID_MAX])
