"""Writes the data report: one self-contained HTML file about the data of a configuration.

It begins with what a training would refuse, and why. Then come coverage, gaps, ranges,
distributions, correlations, spectra, and what the preparation changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from models.shown import shown
from models.times import iso_time
from trainer import data_figures, pages, report
from trainer.examine import GAPS_MAX, ChannelFacts, Examined, times_of

_PAIRS_MAX = 10  # of correlated channels


def write(examined: Examined, path: Path) -> None:
    """Write the report to ``path``."""
    title = f"Data of {examined.file.config.bundle.name}"
    pages.write(path, title, _body(title, examined))


def summary(examined: Examined) -> str:
    """Return in a sentence or two whether a training can begin, and on what."""
    if not examined.sources:
        return "No recording can be read. A training would be refused."
    rows = sum(source.rows for source in examined.sources)
    said = (
        f"{rows:,} rows, recordings: {len(examined.sources)},"
        f" from {' to '.join(times_of(examined))}."
    )
    if examined.refused:
        return f"{said} A training would be refused."
    unusable = [channel.name for channel in examined.channels if channel.unusable]
    odd = f"; of no use: {', '.join(unusable)}" if unusable else ""
    return f"{said} A training can begin{odd}."


def _body(title: str, examined: Examined) -> Iterator[str]:
    yield f"<h1>{pages.text(title)}</h1>"
    yield f'<p class="quiet">{pages.text(examined.file.path.name)}</p>'
    yield f'<p class="lead">{pages.text(summary(examined))}</p>'
    yield from _unusable(examined)
    yield from _recordings(examined)
    if examined.samples is not None:
        yield from _coverage(examined)
        yield from _ranges(examined)
        yield from _figures(examined)
    yield from report.changed([step.as_json() for step in examined.steps if step.touched])
    yield from _parts(examined)


def _unusable(examined: Examined) -> Iterator[str]:
    yield "<h2>What is unusable, and why</h2>"
    odd = [(channel.name, channel.unusable) for channel in examined.channels if channel.unusable]
    if not odd and not examined.refused:
        yield "<p>Nothing.</p>"
    if examined.refused:
        yield "<p>A training would be refused for these reasons:</p>"
        yield _list(examined.refused)
    if odd:
        yield pages.table(("channel", "why it is of no use"), odd)
    if examined.remarks:
        yield "<h3>Remarks</h3>"
        yield _list(examined.remarks)


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{pages.text(line)}</li>" for line in lines) + "</ul>"


def _recordings(examined: Examined) -> Iterator[str]:
    yield "<h2>Recordings</h2>"
    yield pages.table(
        ("recording", "rows", "from", "to", "values out of range", "not used"),
        (
            (
                source.name,
                f"{source.rows:,}",
                iso_time(source.first),
                iso_time(source.last),
                source.out_of_range,
                report.causes(source.rejected),
            )
            for source in examined.sources
        ),
    )


def _coverage(examined: Examined) -> Iterator[str]:
    assert examined.samples is not None
    yield "<h2>Coverage and gaps</h2>"
    yield pages.table(
        ("channel", "samples with a value", "share", "gaps", "longest gap"),
        (
            (
                channel.name,
                f"{channel.known:,}",
                f"{channel.share:.1%}",
                channel.gaps,
                f"{channel.longest_gap_s:g} s",
            )
            for channel in examined.channels
        ),
    )
    names = _drawn(examined)
    drawn = data_figures.coverage(examined.samples, names)
    yield pages.image(drawn, f"share of samples with a value over time, of {', '.join(names)}")
    if examined.gaps:
        yield f"<p>Stretches without any sample, the longest first, at most {GAPS_MAX}:</p>"
        yield pages.table(
            ("from", "to", "seconds"),
            (
                (iso_time(gap.begin), iso_time(gap.end), gap.end - gap.begin)
                for gap in examined.gaps
            ),
        )


def _ranges(examined: Examined) -> Iterator[str]:
    yield "<h2>Ranges</h2>"
    yield pages.table(
        (
            *("channel", "unit", "lowest", "1 %", "median", "99 %", "highest", "mean"),
            *("standard deviation", "different values", "longest run of one value"),
        ),
        (
            (
                channel.name,
                channel.unit or "–",
                *_quantiles(channel),
                shown(channel.mean, ".4g", absent="–"),
                shown(channel.deviation, ".3g", absent="–"),
                f"{channel.different:,}",
                f"{channel.longest_run:,}",
            )
            for channel in examined.channels
        ),
    )


def _quantiles(channel: ChannelFacts) -> list[str]:
    if channel.quantiles is None:
        return ["–"] * 5
    return [shown(figure, ".4g") for figure in channel.quantiles]


def _figures(examined: Examined) -> Iterator[str]:
    assert examined.samples is not None
    names = _drawn(examined)
    told = ", ".join(names)
    if len(names) < len(examined.channels):
        yield f"<p>The figures show the first {len(names)} channels.</p>"
    yield "<h2>Distributions</h2>"
    yield pages.image(data_figures.distributions(examined.samples, names), f"histograms of {told}")
    if len(names) > 1:
        yield "<h2>Correlations</h2>"
        yield pages.table(("channel", "channel", "correlation"), _pairs(examined))
        drawn = data_figures.correlations(examined.correlations, names)
        yield pages.image(drawn, f"correlation of each pair of {told}")
    yield "<h2>Spectra</h2>"
    yield from _spectra(examined)


def _pairs(examined: Examined) -> list[tuple[str, str, str]]:
    """Return the pairs of channels with the strongest correlations."""
    found = np.nan_to_num(np.triu(examined.correlations, 1))
    order = np.argsort(-np.abs(found), axis=None, kind="stable")[:_PAIRS_MAX]
    names = [channel.name for channel in examined.channels]
    pairs = (divmod(int(place), len(names)) for place in order)
    return [(names[a], names[b], shown(found[a, b], ".3f")) for a, b in pairs if found[a, b]]


def _spectra(examined: Examined) -> Iterator[str]:
    if not examined.spectra:
        yield "<p>No channel has a stretch of 1024 samples without a gap.</p>"
        return
    periods = [
        (channel.name, f"{channel.strongest_period_s:.4g} s")
        for channel in examined.channels
        if channel.strongest_period_s is not None
    ]
    if periods:
        yield pages.table(("channel", "strongest period"), periods)
    drawn = data_figures.spectra(examined.spectra)
    yield pages.image(drawn, "power density over frequency (Hz), per channel")


def _parts(examined: Examined) -> Iterator[str]:
    if examined.prepared is None:
        return
    used = examined.prepared.used
    yield "<h2>What a training would use</h2>"
    yield f"<p>The digest of the data is {used.digest}.</p>"
    yield pages.table(
        ("part", "rows", "from", "to", "digest, its beginning"),
        (
            (name, f"{part.rows:,}", part.first, part.last, part.digest[:12])
            for name, part in used.parts.items()
        ),
    )


def _drawn(examined: Examined) -> list[str]:
    return [channel.name for channel in examined.channels][: data_figures.DRAWN_MAX]
