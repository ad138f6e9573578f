"""The commands of the registry: ``register``, ``registry …`` and ``ui``."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from models.console import say, say_error, say_json
from models.shown import shown

if TYPE_CHECKING:
    from trainer.registry.records import Alias, Version
    from trainer.registry.registry import Registry

Command = Callable[..., int]
_File = click.Path(path_type=Path, dir_okay=False)
_ALIASES: Final = ("champion", "challenger", "shadow")
_FALSE: Final = "test/normal.events_per_day"
_COMPARISON: Final = re.compile(r"(.+?)\s*(<=|>=|<|>|=)\s*([^<>=]+)")
_DAY_S: Final = 86400.0


def _registered(command: Command) -> Command:
    """Add the options that name a registry; the command gets it, open, as ``registry``."""

    @click.option(
        "--config", type=_File, help="Configuration of a training or a fleet, with [registry]."
    )
    @click.option("--url", help="As registry.url.  [default: sqlite:///registry/mlflow.db]")
    @click.option("--artifacts", help="As registry.artifacts.")
    @functools.wraps(command)
    def wrapped(config: Path | None, url: str | None, artifacts: str | None, **rest: Any) -> int:
        from trainer.registry.registry import Registry

        settings, directory = _settings(config, url, artifacts)
        return command(registry=Registry(settings, directory), **rest)

    return wrapped


def _settings(config: Path | None, url: str | None, artifacts: str | None) -> tuple[Any, Path]:
    """Return the table [registry], and the directory that its paths are relative to."""
    from trainer.config import read_registry
    from trainer.registry.settings import RegistryTable

    settings = read_registry(config)
    given = {"url": url, "artifacts": artifacts}
    over = {name: value for name, value in given.items() if value is not None}
    if over:
        try:
            settings = RegistryTable.model_validate(settings.model_dump() | over)
        except ValueError as error:
            raise click.UsageError(f"--url, --artifacts: {error}") from error
    return settings, Path() if config is None else config.parent


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
_tags = click.option(
    "--tag", "tags", multiple=True, metavar="NAME=VALUE", help="A tag; repeat this for more."
)


@click.command()
@click.argument("bundles", type=_File, nargs=-1, required=True)
@click.option("--stream", help="Name of the stream.  [default: name of the bundle]")
@_tags
@_json
@_registered
def register(
    registry: Registry,
    bundles: tuple[Path, ...],
    stream: str | None,
    tags: tuple[str, ...],
    as_json: bool,
) -> int:
    """Register BUNDLES: each becomes a version of its stream, with its report and its metrics.

    A bundle is refused if it has no metrics of data that its training did not use, if it failed its
    gates, or if this machine does not compute its known answers. One that is registered already
    stays as it is.
    """
    made = [registry.register(path, stream=stream, tags=_pairs(tags)) for path in bundles]
    if as_json:
        say_json([_document(version) for version in made])
    else:
        for version in made:
            say(f"{version.name}: bundle {version.digest[:12]}, data {version.data[:12]}")
    return 0


@click.group()
def registry() -> None:
    """Runs and registered bundles: list, compare, promote, verify and delete them."""


@registry.command(name="list")
@click.argument("stream", required=False)
@_json
@_registered
def list_(registry: Registry, stream: str | None, as_json: bool) -> int:
    """List all streams with their champion, or the versions of STREAM."""
    versions = registry.search(stream)
    if as_json:
        say_json([_document(version) for version in versions])
    elif stream is None:
        _say_streams(versions)
    else:
        _say_versions(versions)
    return 0


@registry.command()
@click.argument("stream")
@click.argument("version")
@_json
@_registered
def show(registry: Registry, stream: str, version: str, as_json: bool) -> int:
    """Show VERSION (a number or an alias) of STREAM: its origin, its metrics, its files."""
    found = _chosen(registry, stream, version)
    if as_json:
        say_json(_document(found))
        return 0
    say(f"{found.name}  {', '.join(found.aliases)}")
    for name, value in (
        ("bundle", f"{found.bundle} version {found.bundle_version}, {found.family}"),
        ("trained", f"{found.trained}, {_age(found)} ago"),
        ("verdict", found.verdict),
        ("digest", found.digest),
        ("data", found.data),
        ("lineage", found.lineage),
        ("run", found.run),
        ("files", found.uri),
    ):
        say(f"{name:10}{value}")
    for name, tag in sorted(found.tags.items()):
        if not name.startswith("fieldwatch.") or name == "fieldwatch.decision":
            say(f"{name.removeprefix('fieldwatch.'):10}{tag}")
    for name, figure in sorted(found.metrics.items()):
        say(f"{name:52}{shown(figure, '.5g'):>12}")
    return 0


@registry.command()
@click.option("--stream", help="Only this stream.")
@_tags
@click.option(
    "--metric", "metrics", multiple=True, help=f"A comparison, such as '{_FALSE} < 0.5'; repeat."
)
@click.option("--data", default="", help="Beginning of the digest of the data.")
@click.option("--lineage", default="", help="Beginning of the digest of data and settings.")
@_json
@_registered
def search(
    registry: Registry,
    stream: str | None,
    tags: tuple[str, ...],
    metrics: tuple[str, ...],
    data: str,
    lineage: str,
    as_json: bool,
) -> int:
    """Search all versions by tag, metric, or digest; the exit code is 1 if there is none."""
    from trainer.registry import records

    comparisons = [_comparison(text) for text in metrics]
    like = {records.DATA: data, records.LINEAGE: lineage}
    found = [
        version
        for version in registry.search(
            stream, _pairs(tags), {name: value for name, value in like.items() if value}
        )
        if all(one(version) for one in comparisons)
    ]
    if as_json:
        say_json([_document(version) for version in found])
    else:
        _say_versions(found)
    return 0 if found else 1


@registry.command()
@click.argument("stream")
@click.argument("recordings", type=_File, nargs=-1)
@click.option("--version", "number", type=int, help="Only this version may become champion.")
@click.option("--force", is_flag=True, help="Make --version champion against the rules.")
@click.option("--reason", help="Why; with --force. It is stored.")
@_json
@_registered
def promote(
    registry: Registry,
    stream: str,
    recordings: tuple[Path, ...],
    number: int | None,
    force: bool,
    reason: str | None,
    as_json: bool,
) -> int:
    """Score all versions of STREAM again on RECORDINGS; make the best one champion.

    Only rows count that no version has seen: those after the newest row that any of them used. The
    table [registry.promotion] has the rules. The decision is stored with its reason. Labels of
    X.csv are in X.labels.csv. Without RECORDINGS, a stream's only version becomes champion if its
    test part is within the limits. The exit code is 1 if the champion stays.
    """
    from trainer.registry import promotion
    from trainer.registry.window import Recorded

    if force != (reason is not None) or (force and number is None):
        raise click.UsageError("--force needs --version and --reason, and --reason needs --force")
    if force and number is not None and reason is not None:
        made = promotion.force(registry, stream, number, reason)
    else:
        recorded = Recorded(recordings) if recordings else None
        made = promotion.promote(registry, stream, recorded, number)
    if as_json:
        say_json(made.document())
    else:
        for line in made.lines():
            say(line)
    return 0 if made.promoted else 1


@registry.command()
@click.argument("stream")
@click.argument("name", type=click.Choice(_ALIASES[1:]))
@click.argument("version", type=int, required=False)
@_registered
def alias(registry: Registry, stream: str, name: Alias, version: int | None) -> int:
    """Give the alias NAME to VERSION of STREAM; without VERSION, take it away.

    The champion is made by `registry promote`.
    """
    if version is None:
        registry.remove_alias(stream, name)
        say(f"{stream}: no version is {name}")
    else:
        registry.set_alias(stream, name, version)
        say(f"{stream} version {version} is {name}")
    return 0


@registry.command()
@click.argument("stream")
@click.argument("version", default="champion")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    help="Directory for it.  [default: this one]",
)
@_registered
def fetch(registry: Registry, stream: str, version: str, output: Path) -> int:
    """Copy the bundle of VERSION (a number or an alias) of STREAM out of the registry."""
    from models import bundle as bundles

    found = _chosen(registry, stream, version)
    output.mkdir(parents=True, exist_ok=True)
    path = output / found.bundle
    bundles.write_copy(path, registry.bundle(found))
    say(f"{path}")
    return 0


@registry.command()
@click.argument("stream")
@click.argument("version", type=int)
@click.option("--force", is_flag=True, help="Delete the champion, too.")
@_registered
def delete(registry: Registry, stream: str, version: int, force: bool) -> int:
    """Delete VERSION of STREAM with its run and its files."""
    from trainer.registry import upkeep

    found = registry.version(stream, version)
    upkeep.delete(registry, found, force)
    say(f"{found.name} and its files are deleted")
    return 0


@registry.command()
@click.option("--remove", is_flag=True, help="Remove orphans, and end unfinished runs.")
@_json
@_registered
def verify(registry: Registry, remove: bool, as_json: bool) -> int:
    """Compare all files with their digests, and find those that belong to nothing.

    The exit code is 1 if something does not fit. --remove removes orphans: files without a version.
    It does so only where the folder of the files belongs to this registry alone.
    """
    from trainer.registry import upkeep

    found = list(upkeep.verify(registry))
    if as_json:
        say_json([finding._asdict() for finding in found])
    for finding in [] if as_json else found:
        say_error(finding.kind, finding.what)
    if remove:
        for finding in found:
            upkeep.remove(registry, finding)
    left = [finding for finding in found if not (remove and finding.removable)]
    if not as_json:
        say(f"{len(found)} found, {len(found) - len(left)} removed" if found else "all is whole")
    return 1 if left else 0


@registry.command()
@_registered
def relocate(registry: Registry) -> int:
    """Write the new place of all files into a registry that was moved to another folder.

    MLflow keeps absolute places. Move the database and the files together, then run this there.
    """
    from trainer.registry import upkeep

    found = upkeep.relocate(registry)
    if found is None:
        say("the files are where the registry says")
    else:
        say(f"from {found.old} to {found.new}")
    return 0


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@_registered
def ui(registry: Registry, host: str, port: int) -> int:
    """Serve MLflow's own pages of the registry: curves, comparisons, versions.

    They have no passwords: keep them on this machine, or behind a proxy that has.
    """
    from trainer.registry import ui as pages

    pages.check()
    say(f"{registry.store.where}: http://{host}:{port}; Ctrl+C ends it")
    pages.serve(registry.store, host, port)


def _chosen(registry: Registry, stream: str, version: str) -> Version:
    """Return the version that a number or an alias names."""
    from trainer.registry.errors import NotInRegistry

    if version.isdecimal():
        return registry.version(stream, int(version))
    for name in _ALIASES:
        if version == name and (found := registry.with_alias(stream, name)) is not None:
            return found
    raise NotInRegistry(f"{registry.store.where}: no version of {stream} is {version!r}")


def _pairs(tags: Sequence[str]) -> dict[str, str]:
    pairs = [tag.partition("=") for tag in tags]
    if odd := [name for name, equal, _ in pairs if not equal or not name]:
        raise click.UsageError(f"--tag {odd[0]!r}: write it as NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _comparison(text: str) -> Callable[[Version], bool]:
    """Return the test of a version that a comparison such as ``test/x < 1`` is."""
    match = _COMPARISON.fullmatch(text.strip())
    try:
        limit = float(match[3]) if match else None
    except ValueError:
        limit = None
    if match is None or limit is None:
        raise click.UsageError(f"--metric {text!r}: write it like '{_FALSE} < 0.5'")
    name, sign, bound = match[1], match[2], limit
    tests: Mapping[str, Callable[[float], bool]] = {
        "<": lambda value: value < bound,
        "<=": lambda value: value <= bound,
        ">": lambda value: value > bound,
        ">=": lambda value: value >= bound,
        "=": lambda value: value == bound,
    }
    return lambda version: name in version.metrics and tests[sign](version.metrics[name])


def _say_streams(versions: Sequence[Version]) -> None:
    say(f"{'STREAM':24}{'VERSIONS':>9}{'CHAMPION':>9}{'AGE':>8}{'FALSE/DAY':>10}")
    for stream in dict.fromkeys(version.stream for version in versions):
        own = [version for version in versions if version.stream == stream]
        champion = next((each for each in own if "champion" in each.aliases), None)
        number, age, false = ("none", "–", None) if champion is None else _brief(champion)
        say(f"{stream:24}{len(own):>9}{number:>9}{age:>8}{shown(false, '.3g', absent='–'):>10}")


def _say_versions(versions: Sequence[Version]) -> None:
    say(f"{'STREAM':24}{'VERSION':>8}{'AGE':>8}{'FALSE/DAY':>10}  {'DATA':14}ALIASES")
    for version in versions:
        number, age, false = _brief(version)
        say(
            f"{version.stream:24}{number:>8}{age:>8}{shown(false, '.3g', absent='–'):>10}"
            f"  {version.data[:12]:14}{', '.join(version.aliases)}"
        )


def _brief(version: Version) -> tuple[str, str, float | None]:
    return str(version.number), _age(version), version.metrics.get(_FALSE)


def _age(version: Version) -> str:
    """Return the time since the training, for people."""
    since = datetime.now(UTC) - datetime.fromisoformat(version.trained)
    days = since.total_seconds() / _DAY_S
    return f"{days:.0f} d" if days >= 2 else f"{days * 24:.0f} h"


def _document(version: Version) -> dict[str, Any]:
    return {
        "stream": version.stream,
        "version": version.number,
        "aliases": list(version.aliases),
        "registered": version.registered.isoformat(timespec="seconds"),
        "trained": version.trained,
        "bundle": version.bundle,
        "bundle_version": version.bundle_version,
        "family": version.family,
        "verdict": version.verdict,
        "digest": version.digest,
        "data": version.data,
        "lineage": version.lineage,
        "run": version.run,
        "uri": version.uri,
        "files": dict(version.files),
        "metrics": dict(version.metrics),
        "tags": {k: v for k, v in version.tags.items() if not k.startswith("fieldwatch.")},
        "decision": version.tags.get("fieldwatch.decision"),
    }
