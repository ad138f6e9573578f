"""Runs all benchmarks with data in a folder; one table shows data set × figure × detector.

A benchmark of detectors needs one entry in ``FIGURES``, beside its own in
``trainer.benchmark.cases``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from models.errors import DataError
from trainer import pages
from trainer.benchmark import nab, remaining, report, tables, tail_check
from trainer.benchmark.document import ALWAYS_ON, RANDOM, spread
from trainer.benchmark.runs import Run
from trainer.datasets import nasa

COLUMNS: Final = (
    *("quantized", "baseline", "novelty", "last_value", "constant", ALWAYS_ON, RANDOM),
    *("linear", "seasonal_naive"),
)
FORECASTS: Final = "ett"
PLOTS_MAX: Final = 12  # per data set


class Figure(NamedTuple):
    """A row of the table."""

    title: str
    key: str  # key in the totals; a dot separates nested keys
    form: str = ".3f"


_TAIL: Final = Figure("normal samples, % (1 % predicted)", f"tail.{tail_check.key(100)}", ".2f")
FIGURES: Final[Mapping[str, Sequence[Figure]]] = {
    "nasa": (
        Figure("F1, published rule", "f1"),
        Figure("F1, causal rule", "causal.f1"),
        Figure("F1 of shifted alarms", "f1_shifted.mean"),
        Figure("steps in alarm, %", "alarm_share", ".1f"),
        _TAIL,
    ),
    "skab": (
        Figure("point-wise F1", "point_f1"),
        Figure("F1 of shifted alarms", "point_f1_shifted.mean"),
        Figure("false-alarm rate, %", "far", ".1f"),
        Figure("missed-alarm rate, %", "mar", ".1f"),
        _TAIL,
    ),
    "ims": (
        Figure("failing bearings warned", "warned", "g"),
        Figure("tests, first one right", "first_right", "g"),
        Figure("alarms of healthy ones", "false", "g"),
        _TAIL,
    ),
    "cmapss": (
        Figure("engines warned in time", "warned", "g"),
        Figure("median lead, cycles", "lead.median", "g"),
        Figure("alarms too early", "false", "g"),
        _TAIL,
    ),
}
_FOLDERS: Final = {"nasa": "nasa_smap"}  # where the names of folder and benchmark differ


class Plain(NamedTuple):
    """A benchmark without networks: it saves no outcomes and has no seed."""

    name: str  # in the table
    folder: str
    is_there: Callable[[Path], bool]  # whether a folder has its data
    run: Callable[[Path], Mapping[str, Any]]  # returns its document
    cells: Callable[[Mapping[str, Any]], list[tuple[Figure, Mapping[str, float]]]]  # by column
    wrong: Callable[[Mapping[str, Any]], str]  # HTML: where it fails


def _life(document: Mapping[str, Any]) -> list[tuple[Figure, Mapping[str, float]]]:
    figures = (
        Figure("remaining life, RMSE", "rmse", ".1f"),
        Figure("remaining life, score", "score", ".0f"),
    )
    return [
        (figure, {name: found[figure.key] for name, found in document.items()})
        for figure in figures
    ]


def _nab(document: Mapping[str, Any]) -> list[tuple[Figure, Mapping[str, float]]]:
    """Return the NAB scores at the detector's own threshold and at the best threshold.

    No label influences the detector's own threshold. Scores are left out if there is no window.
    """
    scores = [
        (Figure(f"{name}, {at} threshold", key, ".1f"), profile[key])
        for name, profile in document["profiles"].items()
        for at, key in (("own", "own_score"), ("best", "score"))
    ]
    return [(figure, {"novelty": score}) for figure, score in scores if score is not None]


def _nowhere(document: Mapping[str, Any]) -> str:
    """Return nothing: the errors of the remaining life are not told by engine."""
    return ""


def _nab_wrong(document: Mapping[str, Any]) -> str:
    rows = ((name, *each.values()) for name, each in document["wrong"].items())
    header = ("file, at its own threshold", "windows missed", "rows detected outside a window")
    return pages.table(header, rows)


PLAIN: Final = (
    Plain("cmapss, life", "cmapss", remaining.is_there, remaining.document, _life, _nowhere),
    Plain("nab", "nab", Path.is_dir, nab.run, _nab, _nab_wrong),
)


class Measured(NamedTuple):
    """The results for one data set."""

    name: str  # of its folder or file
    document: Mapping[str, Any]
    cells: list[tuple[Figure, dict[str, dict[str, float]]]]  # by column: spread over the seeds
    wrong: str  # HTML: the failures of the first seed


class Found(NamedTuple):
    """The data sets of a folder."""

    detectors: list[tuple[str, Path]]  # name of the benchmark, path of its data
    plain: list[tuple[Plain, Path]]
    forecasts: list[Path]
    missing: list[str]  # for people


def find(directory: Path) -> Found:
    """Return the data sets that a folder has, and those that it lacks.

    It accepts every folder with NASA's layout, whatever its name, so it finds both SMAP and MSL.

    Raises:
        DataError: the folder does not exist or contains no data set.

    """
    if not directory.is_dir():
        raise DataError(f"{directory}: no such folder")
    detectors = [("nasa", path) for path in sorted(directory.iterdir()) if _is_nasa(path)]
    others = [name for name in FIGURES if name != "nasa"]
    detectors += [(name, directory / name) for name in others if (directory / name).is_dir()]
    plain = [
        (each, directory / each.folder) for each in PLAIN if each.is_there(directory / each.folder)
    ]
    forecasts = sorted((directory / FORECASTS).glob("[!.]*.csv"))
    there = {name for name, _ in detectors} | {each.name for each, _ in plain}
    there |= {FORECASTS} if forecasts else set()
    folders = {name: _FOLDERS.get(name, name) for name in (*FIGURES, FORECASTS)}
    folders |= {each.name: each.folder for each in PLAIN}
    missing = [
        f"{name}: no data in {directory / folder}"
        for name, folder in folders.items()
        if name not in there
    ]
    if not there:
        raise DataError(f"{directory}: no data set in it; {'; '.join(missing)}")
    return Found(detectors, plain, forecasts, missing)


def of_detectors(name: str, document: Mapping[str, Any], first: Run) -> Measured:
    """Return the results of a benchmark of detectors; ``first`` is the run of the first seed."""
    over_seeds = document["over_seeds"]
    rows = [
        (figure, {column: over_seeds[column][figure.key] for column in _having(over_seeds, figure)})
        for figure in FIGURES[document["benchmark"]]
        if _having(over_seeds, figure)
    ]
    wrong = report.wrong(first)
    failed = [f"{name} failed: {message}" for name, message in first.failed.items()]
    told = f"{len(wrong)} of {len(first.in_order())}: {', '.join(each.name for each in wrong)}"
    drawn = report.plots(wrong[:PLOTS_MAX], first.work)
    said = (f"<p>{pages.text(line)}</p>" for line in (*failed, told))
    return Measured(name, document, rows, "\n".join([*said, *drawn]))


def of_plain(plain: Plain, folder: Path) -> Measured:
    """Run a benchmark without networks and return its results.

    Raises:
        DataError: its data cannot be used.

    """
    document = plain.run(folder)
    rows = [
        (figure, {name: spread([value]) for name, value in found.items()})
        for figure, found in plain.cells(document)
    ]
    return Measured(plain.name, document, rows, plain.wrong(document))


def of_forecasts(name: str, documents: Sequence[Mapping[str, Any]]) -> Measured:
    """Return the results of a benchmark of forecasts, from one document per seed."""
    rows = []
    for horizon in documents[0]["horizons"]:
        seeds = [document["horizons"][horizon] for document in documents]
        figure = Figure(f"MSE, {horizon} steps ahead", "mse")
        found = {
            column: spread([each[column]["mse"] for each in seeds])
            for column in COLUMNS
            if column in seeds[0]
        }
        rows.append((figure, found))
    seeds_told = {str(document["seed"]): document for document in documents}
    return Measured(name, {"benchmark": FORECASTS, "seeds": seeds_told}, rows, _beaten(rows))


def document(measured: Sequence[Measured], missing: Sequence[str]) -> dict[str, Any]:
    """Return all results as one document for programs."""
    return {
        "missing": list(missing),
        "table": {
            each.name: {figure.title: found for figure, found in each.cells} for each in measured
        },
        "data_sets": {each.name: each.document for each in measured},
    }


def lines(measured: Sequence[Measured], missing: Sequence[str]) -> Iterator[str]:
    """Yield the table, then the missing data sets."""
    yield from tables.text(["data set", "figure", *COLUMNS], _rows(measured))
    for line in missing:
        yield f"not measured: {line}"


def write(measured: Sequence[Measured], missing: Sequence[str], path: Path) -> None:
    """Write the page: the table, and the failures of the quantized network per data set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pages.write(path, "All benchmarks", _body(measured, missing))


def _body(measured: Sequence[Measured], missing: Sequence[str]) -> Iterator[str]:
    yield "<h1>All benchmarks</h1>"
    yield pages.table(("data set", "figure", *COLUMNS), _rows(measured))
    for line in missing:
        yield f"<p>Not measured: {pages.text(line)}.</p>"
    for each in filter(lambda one: one.wrong, measured):
        yield f"<h2>Where it fails: {pages.text(each.name)}</h2>"
        yield each.wrong


def _rows(measured: Sequence[Measured]) -> Iterator[list[str]]:
    for each in measured:
        for figure, found in each.cells:
            yield [each.name, figure.title, *(_cell(found.get(name), figure) for name in COLUMNS)]


def _cell(found: Mapping[str, float] | None, figure: Figure) -> str:
    if found is None:
        return "–"
    mean = format(found["mean"], figure.form)
    return mean if found["low"] == found["high"] else f"{mean} ± {found['sd']:.2g}"


def _having(over_seeds: Mapping[str, Mapping[str, Any]], figure: Figure) -> list[str]:
    return [column for column in COLUMNS if figure.key in over_seeds.get(column, {})]


def _beaten(rows: Sequence[tuple[Figure, Mapping[str, Mapping[str, float]]]]) -> str:
    """Return the references that beat the quantized network."""
    told = []
    for figure, found in rows:
        better = [name for name in found if found[name]["mean"] < found["quantized"]["mean"]]
        told.append(f"{figure.title}: {', '.join(better) or 'no reference'} is better")
    return "".join(f"<p>{pages.text(line)}.</p>" for line in told)


def _is_nasa(path: Path) -> bool:
    try:
        return bool(nasa.names(path))
    except DataError:
        return False
