"""The registry: runs of trainings, and the versions of each stream that came of them.

A version is there as a whole or not at all: its files are stored and compared first, and the entry
comes last. What a process leaves that ended in between is not in the registry; ``verify`` finds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from models import bundle as bundles
from models.bundle import Bundle
from models.errors import ConfigError
from models.names import NAME
from trainer.datasets import file_digest
from trainer.registry import flavour, identity, records
from trainer.registry.admission import admitted
from trainer.registry.errors import Inadmissible, NotInRegistry, Overtaken, RegistryError
from trainer.registry.records import ALIASES, CHALLENGER, CHAMPION, FOLDER, Alias, Version
from trainer.registry.runs import Run
from trainer.registry.settings import RegistryTable
from trainer.registry.store import Store

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_PAGE: Final = 200


class Registry:
    """A registry, open for reading and writing; it may be used by several processes at once.

    Raises:
        RegistryError: by each method, where the store cannot be reached, read or written.

    """

    def __init__(self, settings: RegistryTable, directory: Path) -> None:
        """Open the registry, and make it if there is none.

        Args:
            settings: the table ``[registry]`` of a configuration.
            directory: of the configuration, that paths in the settings are relative to.

        Raises:
            ExtraMissing: MLflow is not installed.
            ConfigError: there is no password where the settings say.

        """
        self.settings = settings
        self.store = Store(settings, directory)

    @contextlib.contextmanager
    def run(
        self, stream: str, tags: Mapping[str, str] = {}, again: str | None = None
    ) -> Iterator[Run]:
        """Record a training of a stream: the run is open inside the block.

        If the block raises, the run has failed. It has the error as a tag and a file with the
        traceback.

        Args:
            stream: name of the registered model.
            tags: of people, for the run.
            again: id of a run that has ended, to go on with; None: a new run.

        """
        check_name(stream)
        run = Run(self.store, stream, tags, again)
        try:
            yield run
        finally:
            error = sys.exc_info()[1]
            if run.ended:
                pass
            elif error is None:
                run.end(None)
            else:
                with contextlib.suppress(RegistryError):  # the error of the block is told
                    run.end(error, traceback.format_exc())

    def register(
        self,
        path: Path,
        run: Run | None = None,
        stream: str | None = None,
        tags: Mapping[str, str] = {},
    ) -> Version:
        """Register a bundle as a new version; one that is registered already is returned.

        The report and the metrics beside it become files of the run. The new version is the
        challenger, if the stream has a champion.

        Args:
            path: of the bundle.
            run: of its training; None: there is no record of it, and a run is made.
            stream: None: that of the run, or else the name of the bundle.
            tags: of people, for the version.

        Raises:
            Inadmissible: it has no out-of-sample metrics, or failed its gates.
            BundleError: it cannot be read, or this machine does not compute its known answers.
            OSError: a file cannot be stored; nothing of it stays.

        """
        bundle = admitted(path)
        stream = stream or (bundle.manifest.name if run is None else run.stream)
        check_name(stream)
        for version in self.search(stream, {records.DIGEST: bundle.digest}):
            return version
        if run is not None:
            if run.version is not None:
                raise Inadmissible(f"{path}: its run has {run.version.name} already: begin another")
            return self._registered(path, bundle, run, stream, tags)
        with self.run(stream) as made:
            made.bundle(bundle)
            return self._registered(path, bundle, made, stream, tags)

    def streams(self) -> list[str]:
        """Return the names of all streams, sorted."""
        with self.store.reading():
            return sorted(model.name for model in self._pages("search_registered_models"))

    def versions(self, stream: str) -> list[Version]:
        """Return the versions of a stream, the newest first; none if there is no such stream."""
        return self.search(stream)

    def search(
        self, stream: str | None = None, tags: Mapping[str, str] = {}, like: Mapping[str, str] = {}
    ) -> list[Version]:
        """Return versions by stream, the newest of each first.

        Args:
            stream: None: of all streams.
            tags: that they have, with these values.
            like: that they have, with values that begin so.

        Raises:
            ConfigError: a name or value has a quotation mark, which MLflow cannot search for.

        """
        asked = [] if stream is None else [f"name = '{check_name(stream)}'"]
        asked += [f"tags.`{_quotable(name)}` = '{_quotable(tags[name])}'" for name in tags]
        asked += [f"tags.`{_quotable(name)}` LIKE '{_quotable(like[name])}%'" for name in like]
        with self.store.reading():
            pages = self._pages("search_model_versions", " and ".join(asked) or None)
            found = [one for one in pages if _is_ours(one)]
            aliases = {name: self._aliases(name) for name in {one.name for one in found}}
            versions = [self._version(one, aliases[one.name]) for one in found]
        return sorted(versions, key=lambda version: (version.stream, -version.number))

    def version(self, stream: str, number: int) -> Version:
        """Return one version.

        Raises:
            NotInRegistry: there is none.

        """
        found = [each for each in self.versions(stream) if each.number == number]
        if not found:
            raise NotInRegistry(f"{self.store.where}: there is no {stream} version {number}")
        return found[0]

    def trained(self, stream: str, lineage: str) -> Version | None:
        """Return the newest version of a stream with this lineage; None: it must be trained.

        Args:
            stream: its name.
            lineage: ``trainer.registry.identity.lineage_digest``.

        """
        return next(iter(self.search(stream, {records.LINEAGE: lineage})), None)

    def with_alias(self, stream: str, alias: Alias) -> Version | None:
        """Return the version of a stream that has an alias; None: no version has it."""
        return next((each for each in self.versions(stream) if alias in each.aliases), None)

    def champion(self, stream: str) -> Version | None:
        """Return the version that gateways should run; None: none was promoted."""
        return self.with_alias(stream, CHAMPION)

    def fetch(self, version: Version, folder: Path) -> Path:
        """Copy the bundle of a version into a folder, and check it; return its path.

        Raises:
            RegistryError: the file is missing, or is not the one that was registered.

        """
        name = f"{FOLDER}/{version.bundle}"
        path = self.store.download(version.uri, name, folder)
        if file_digest(path) != version.files.get(name):
            raise RegistryError(f"{version.name}: its bundle was altered in the registry")
        return path

    def bundle(self, version: Version) -> Bundle:
        """Read the bundle of a version, after checking it.

        Raises:
            RegistryError: the file is missing, or is not the one that was registered.

        """
        with tempfile.TemporaryDirectory() as folder:
            return bundles.read(self.fetch(version, Path(folder)))

    def check_champion(self, stream: str, before: int | None, number: int | None) -> None:
        """Check that the champion is still ``before``, or already ``number``.

        Raises:
            Overtaken: it is another version.

        """
        with self.store.reading():
            found = self._aliases(stream).get(CHAMPION)
        now = None if found is None else int(found)
        if now not in (before, number):
            was = "there was none" if before is None else f"it was version {before}"
            made = "no version is champion now" if now is None else f"version {now} is now"
            raise Overtaken(
                f"{stream}: somebody changed the champion meanwhile: {was}, and {made}. This"
                " decision is not carried out: decide again, which compares with that"
            )

    def replace_champion(self, stream: str, before: int | None, number: int) -> None:
        """Make a version champion if ``before`` still is.

        Nobody comes in between in a file of SQLite. MLflow cannot compare and set: on a server or
        another database somebody may, for milliseconds, and the one who is second stays.

        Raises:
            Overtaken: the champion is another one, before or after this.

        """
        self.version(stream, number)
        with self.store.writing():
            self.check_champion(stream, before, number)
            self.store.client.set_registered_model_alias(stream, CHAMPION, str(number))
            self.check_champion(stream, number, number)

    def set_alias(self, stream: str, alias: Alias, number: int) -> None:
        """Give an alias to a version; the one that had it loses it.

        ``promote`` gives ``champion``, by the rules.
        """
        self.version(stream, number)
        with self.store.writing():
            self.store.client.set_registered_model_alias(stream, alias, str(number))

    def remove_alias(self, stream: str, alias: Alias) -> None:
        """Take an alias away from the version that has it."""
        with self.store.writing():
            self.store.client.delete_registered_model_alias(stream, alias)

    def tag(self, version: Version, name: str, value: str) -> None:
        """Set a tag of a version."""
        with self.store.writing():
            self.store.client.set_model_version_tag(
                version.stream, str(version.number), name, value
            )

    def keep(self, version: Version, name: str, document: Mapping[str, Any]) -> None:
        """Keep a document with the files of a version, as JSON.

        Its digest has a tag of its own: of two that are kept at once, none overwrites the other's.
        """
        text = f"{json.dumps(document, indent=2)}\n"
        with self.store.writing():
            self.store.client.log_text(version.run, text, name)
        digest = hashlib.sha256(text.encode()).hexdigest()
        self.tag(version, f"{records.FILE}{name}", digest)

    def _registered(
        self, path: Path, bundle: Bundle, run: Run, stream: str, tags: Mapping[str, str]
    ) -> Version:
        """Store the files, compare them, and make the entry; without it no file stays."""
        done = False
        try:
            files = self._stored(path, bundle, run)
            number = self._entered(run, stream, dict(tags) | _tags(path, bundle, files))
            done = True
        finally:
            if not done:
                with contextlib.suppress(RegistryError, OSError):  # the first error is told
                    self.store.remove(run.uri, FOLDER)
        if self.champion(stream) is not None:
            self.set_alias(stream, CHALLENGER, number)
        run.version = self.version(stream, number)
        return run.version

    def _stored(self, path: Path, bundle: Bundle, run: Run) -> dict[str, str]:
        """Store the files of a version; return the sha256 of each, by its path."""
        run.file(path, FOLDER)
        files = {f"{FOLDER}/{path.name}": file_digest(path)}
        described = flavour.mlmodel(bundle, path.name)
        run.text(f"{FOLDER}/{flavour.MLMODEL}", described)
        files[f"{FOLDER}/{flavour.MLMODEL}"] = hashlib.sha256(described.encode()).hexdigest()
        beside = [path.with_suffix(end) for end in (".report.html", ".metrics.json")]
        for file in (each for each in beside if each.exists()):
            run.file(file)
            files[file.name] = file_digest(file)
        with tempfile.TemporaryDirectory() as folder:
            for name, digest in files.items():
                if file_digest(self.store.download(run.uri, name, Path(folder))) != digest:
                    raise RegistryError(f"{self.store.where}: {name} was not stored as it is")
        return files

    def _entered(self, run: Run, stream: str, tags: Mapping[str, str]) -> int:
        """Make the entry of a version; return its number."""
        from mlflow.exceptions import MlflowException

        with self.store.writing():
            with contextlib.suppress(MlflowException):  # it is there; otherwise the next call says
                self.store.client.create_registered_model(stream)
            made = self.store.client.create_model_version(
                stream, f"{run.uri}/{FOLDER}", run.id, tags=dict(tags)
            )
        return int(made.version)

    def _version(self, found: ModelVersion, aliases: Mapping[str, str]) -> Version:
        from mlflow.exceptions import MlflowException

        metrics: dict[str, float] = {}
        with contextlib.suppress(MlflowException):  # ``verify`` tells of a run that is missing
            metrics = self.store.client.get_run(found.run_id or "").data.metrics
        tags = found.tags
        number = str(found.version)
        return Version(
            stream=found.name,
            number=int(number),
            run=found.run_id or "",
            registered=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
            trained=tags[records.TRAINED],
            digest=tags[records.DIGEST],
            lineage=tags[records.LINEAGE],
            data=tags[records.DATA],
            bundle=tags[records.BUNDLE],
            bundle_version=int(tags[records.BUNDLE_VERSION]),
            family=tags[records.FAMILY],
            verdict=tags[records.VERDICT],
            metrics=metrics,
            aliases=tuple(each for each in ALIASES if aliases.get(each) == number),
            tags=tags,
            files=_files(tags),
            uri=str(found.source).removesuffix(f"/{FOLDER}"),
        )

    def _aliases(self, stream: str) -> dict[str, str]:
        found = self.store.client.get_registered_model(stream).aliases
        return {alias: str(number) for alias, number in found.items()}

    def _pages(self, search: str, asked: str | None = None) -> Iterator[Any]:
        """Yield all that a search of MLflow finds."""
        token = None
        while True:
            page = getattr(self.store.client, search)(asked, max_results=_PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return


def check_name(stream: str) -> str:
    """Return the name of a stream.

    Raises:
        ConfigError: it cannot be one.

    """
    if not NAME.fullmatch(stream):
        raise ConfigError(
            f"{stream!r} cannot be the name of a stream: use letters, digits, '_', '.' and '-'"
        )
    return stream


def _quotable(text: str) -> str:
    if set(text) & set("'`\"%"):
        raise ConfigError(f"{text!r}: quotation marks and % cannot be searched for")
    return text


def _files(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the sha256 of each file of a version: those registered, and those kept later."""
    added = {
        name.removeprefix(records.FILE): digest
        for name, digest in tags.items()
        if name.startswith(records.FILE)
    }
    return dict(json.loads(tags[records.FILES])) | added


def _is_ours(found: ModelVersion) -> bool:
    """Whether a version of MLflow is a bundle; another program may keep others beside them."""
    return records.DIGEST in found.tags


def _tags(path: Path, bundle: Bundle, files: Mapping[str, str]) -> dict[str, str]:
    manifest = bundle.manifest
    return {
        records.DIGEST: bundle.digest,
        records.LINEAGE: identity.lineage_of(bundle),
        records.DATA: identity.data_digest_of(bundle),
        records.BUNDLE: path.name,
        records.BUNDLE_VERSION: str(manifest.version),
        records.FAMILY: manifest.detector,
        records.TRAINED: manifest.created,
        records.VERDICT: "passed" if manifest.metrics["verdict"]["passed"] else "accepted",
        records.FILES: json.dumps(files, sort_keys=True),
    }
