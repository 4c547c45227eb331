"""The charts of the page, as Vega-Lite specifications. Their colours are the page's own, of its style sheet, so that
they follow it into the dark and onto paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import altair as alt
import vl_convert

Rows = Sequence[dict[str, Any]]
Tips = list[str | alt.Tooltip]
INK, FAINT, GRID = "var(--ink)", "var(--faint)", "var(--line)"
COLOURS = [f"var(--colour-{n})" for n in range(8)]
ALGORITHM = "algorithm"
BELOW = alt.Legend(orient="bottom")  # a second legend, which beside the first would be cut off on a phone
SHOWN = "algorithm === 'all' || datum.algorithm === algorithm"  # the filter of the page
BAND = 13  # pixels of a line of a forest


@dataclass(frozen=True)
class Chart:
    """One chart with the words around it; `table` names the table that has its numbers."""

    name: str
    title: str
    about: str  # read out in place of the picture
    table: str
    task: str
    spec: dict[str, Any]

    @property
    def algorithms(self) -> list[str]:
        """Whose numbers it draws; where the filter asks for another, there is nothing to see."""
        parts = [self.spec, *self.spec.get("layer", ())]
        return _values(
            [row for part in parts for row in part.get("data", {}).get("values", ()) if ALGORITHM in row], ALGORITHM
        )


@cache
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def finished(chart: Any, height: float = 260) -> dict[str, Any]:
    """A chart as wide as its place, in the page's colours, with the parameter that the page's filter sets."""
    text = {"labelColor": INK, "titleColor": INK}
    axis = {**text, "domainColor": FAINT, "tickColor": FAINT, "gridColor": GRID, "labelLimit": 170}
    legend = {
        **text,
        "orient": "top",
        "direction": "horizontal",
        "columns": 2,
        "symbolStrokeWidth": 2,
        "symbolOpacity": 1,
        "symbolBaseFillColor": INK,
        "symbolBaseStrokeColor": INK,
        "title": None,
    }
    chart = chart.properties(width="container", height=height, background="transparent")
    chart = chart.configure(font="system-ui, sans-serif").configure_view(stroke=None)
    chart = chart.configure_axis(**axis, titleFontWeight="normal").configure_legend(**legend, labelLimit=220)
    return dict(chart.add_params(alt.param(name="algorithm", value="all")).to_dict(validate=False))


def _data(rows: Rows) -> alt.Data:
    short = [{key: round(v, 5) if isinstance(v, float) else v for key, v in row.items()} for row in rows]
    return alt.Data(values=short)


def _values(rows: Rows, field: str) -> list[str]:
    return list(dict.fromkeys(str(row[field]) for row in rows))


def _colour(field: str, known: Sequence[str]) -> alt.Color:
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(known))]
    return alt.Color(f"{field}:N", scale=alt.Scale(domain=known, range=colours))


def _number(field: str, title: str, digits: str = ".3f") -> alt.Tooltip:
    return alt.Tooltip(f"{field}:Q", title=title, format=digits)


def learning(rows: Rows, x: str, title: str) -> dict[str, Any]:
    """Reward against steps or tokens: a thin line a seed, a thick one for their mean; dashes for erased rollouts."""
    colour = _colour("algorithm", _values(rows, "algorithm"))
    dash = alt.StrokeDash(
        "rollouts:N",
        legend=BELOW,
        scale=alt.Scale(domain=["plain rollouts", "erased rollouts"], range=[[1, 0], [5, 3]]),
    )
    base = (
        alt.Chart(_data(rows))
        .transform_filter(SHOWN)
        .encode(
            x=alt.X(f"{x}:Q", title=title, axis=alt.Axis(format="~s", tickCount=6)),
            y=alt.Y("reward:Q", title="mean reward of the rollouts", scale=alt.Scale(domain=[0, 1])),
            color=colour,
            strokeDash=dash,
            detail="seed:N",
            tooltip=[
                "algorithm:N",
                "rollouts:N",
                "seed:N",
                "step:Q",
                _number("tokens", "tokens", ",.0f"),
                _number("reward", "reward"),
            ],
        )
    )
    seeds = base.transform_filter("datum.seed !== 'mean'").mark_line(strokeWidth=1, opacity=0.3)
    mean = base.transform_filter("datum.seed === 'mean'").mark_line(strokeWidth=2.5)
    near = base.transform_filter("datum.seed === 'mean'").mark_point(size=60, opacity=0)  # easier to hit than a line
    return finished(alt.layer(seeds, mean, near))


def forest(rows: Rows, title: str, zero: bool = True) -> dict[str, Any]:
    """Intervals, a line an arm, those of an arm beside each other; a rule at 0 where they are differences.
    Arms that are filtered out fade: an interval is read beside the others."""
    measures, arms = _values(rows, "measure"), _values(rows, "algorithm")
    tips: Tips = ["algorithm:N", "measure:N", _number("mean", "mean"), _number("low", "low"), _number("high", "high")]
    base = alt.Chart(_data(rows)).encode(
        y=alt.Y("algorithm:N", sort=arms, title=None, axis=alt.Axis(grid=True, tickBand="extent")),
        yOffset=alt.YOffset("measure:N", sort=measures),
        color=_colour("measure", measures) if len(measures) > 1 else alt.value(COLOURS[0]),
        opacity=alt.condition(SHOWN, alt.value(1), alt.value(0.15)),
        tooltip=tips,
    )
    lines = base.mark_rule(strokeWidth=1.5).encode(x=alt.X("low:Q", title=title), x2="high:Q")
    dots = base.mark_point(filled=True, size=35).encode(x="mean:Q")
    none = alt.Chart(_data([{}])).mark_rule(strokeDash=[3, 3], color=FAINT, aria=False).encode(x=alt.datum(0))
    height = BAND * len(arms) * (len(measures) + 0.5)
    return finished(alt.layer(*([none] if zero else []), lines, dots), height)


def by_segment(rows: Rows, field: str, title: str, domain: Sequence[float]) -> dict[str, Any]:
    """A number of each segment, a line an algorithm."""
    tips: Tips = ["algorithm:N", "segment:Q", _number(field, title)]
    base = alt.Chart(_data([row for row in rows if row[field] is not None])).transform_filter(SHOWN)
    chart = base.mark_line(point=alt.OverlayMarkDef(size=50)).encode(
        x=alt.X("segment:O", title="segment", axis=alt.Axis(labelAngle=0)),
        y=alt.Y(field=field, type="quantitative", title=title, scale=alt.Scale(domain=list(domain))),
        color=_colour("algorithm", _values(rows, "algorithm")),
        tooltip=tips,
    )
    return finished(chart)


def attempts(rows: Rows) -> dict[str, Any]:
    """Share of the segments that took so many attempts, bars of the algorithms side by side."""
    algorithms = _values(rows, "algorithm")
    chart = (
        alt.Chart(_data(rows))
        .transform_filter(SHOWN)
        .mark_bar()
        .encode(
            x=alt.X("attempts:O", title="attempts until the segment was kept", axis=alt.Axis(labelAngle=0)),
            xOffset=alt.XOffset("algorithm:N", sort=algorithms),
            y=alt.Y("share:Q", title="share of the segments", axis=alt.Axis(format="%")),
            color=_colour("algorithm", algorithms),
            tooltip=[
                "algorithm:N",
                "attempts:O",
                _number("segments", "segments", ",.0f"),
                _number("share", "share", ".2%"),
            ],
        )
    )
    return finished(chart)


def against_threshold(rows: Rows) -> dict[str, Any]:
    """Single attempts: U over the threshold; above the line they were erased, but for the last ones allowed."""
    most = max((max(row["U"], row["threshold"]) for row in rows), default=1.0)
    tips: Tips = [
        "algorithm:N",
        "segment:Q",
        "attempt:Q",
        _number("U", "U, nats"),
        _number("threshold", "threshold, nats"),
    ]
    dots = (
        alt.Chart(_data(rows))
        .transform_filter(SHOWN)
        .mark_point(filled=True, size=25, opacity=0.6)
        .encode(
            x=alt.X("threshold:Q", title="threshold, nats", scale=alt.Scale(domain=[0, most])),
            y=alt.Y("U:Q", title="uncertainty U of the segment, nats", scale=alt.Scale(domain=[0, most])),
            color=_colour("fate", ["kept", "erased"]),
            shape=alt.Shape("fate:N", scale=alt.Scale(domain=["kept", "erased"])),
            tooltip=[*tips, alt.Tooltip("fate:N")],
        )
    )
    ends = _data([{"x": 0, "y": 0}, {"x": most, "y": most}])
    line = alt.Chart(ends).mark_line(strokeDash=[4, 3], color=FAINT, aria=False).encode(x="x:Q", y="y:Q")
    return finished(alt.layer(line, dots), 320)


def accuracy_by_tokens(rows: Rows) -> dict[str, Any]:
    """Avg@k with its interval over the tokens that a sample takes, a colour an algorithm, a shape a sampling."""
    tips: Tips = ["algorithm:N", "sampling:N", "benchmark:N", _number("tokens", "tokens a sample", ".1f")]
    tips += [_number("mean", "Avg@k"), _number("low", "low"), _number("high", "high")]
    base = (
        alt.Chart(_data(rows))
        .transform_filter(SHOWN)
        .encode(
            x=alt.X("tokens:Q", title="tokens a sample, erased ones included", scale=alt.Scale(zero=False, padding=20)),
            color=_colour("algorithm", _values(rows, "algorithm")),
            tooltip=tips,
        )
    )
    lines = base.mark_rule(strokeWidth=1.5).encode(
        y=alt.Y("low:Q", title="Avg@k", scale=alt.Scale(domain=[0, 1])), y2="high:Q"
    )
    dots = base.mark_point(filled=True, size=80, opacity=0.9).encode(
        y="mean:Q", shape=alt.Shape("sampling:N", legend=BELOW)
    )
    return finished(alt.layer(lines, dots), 300)
