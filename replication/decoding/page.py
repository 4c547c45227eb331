"""The trace of a rollout as one HTML page: tokens coloured by uncertainty, thresholds, every erased attempt."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from replication.decoding.trace import Token, Try

MOST = 4.0  # nats at which the colour is full

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; font-size: .85rem; } td { padding: .1rem .8rem .1rem 0; vertical-align: top; }
.prompt, .try { font-family: ui-monospace, monospace; white-space: pre-wrap; }
.prompt, .try { padding: .3rem .6rem; border-radius: .3rem; }
.prompt { background: #f2f2f2; }
.segment { display: grid; grid-template-columns: 13rem 1fr; gap: .2rem .8rem; margin: .5rem 0; }
.try { border-left: .25rem solid #4a8f4a; } .erased { border-color: #b53a2e; opacity: .75; }
.erased span { text-decoration: line-through; }
.note { font-size: .8rem; color: #555; text-align: right; padding-top: .3rem; }
.scale span { padding: 0 .7rem; } svg { max-width: 100%; height: auto; }
details { margin: 1rem 0; } summary { cursor: pointer; font-weight: 600; }
"""


def page(title: str, prompt: str, members: Sequence[Sequence[Sequence[Try]]], settings: dict[str, str]) -> str:
    """A self-contained page: no script, nothing fetched.

    Args:
        title: of the page, plain text.
        prompt: what was asked, plain text.
        members: of each completion its segments, of each segment its attempts (`trace.segments`).
        settings: shown as a table.
    """
    rows = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in settings.items())
    scale = "".join(f'<span style="{_colour(h)}">{h:g}</span>' for h in (0, 1, 2, 3, 4))
    bodies = "".join(_member(number, segments) for number, segments in enumerate(members))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1>"
        f'<div class="prompt">{html.escape(prompt)}</div>'
        f'<p class="scale">token uncertainty in nats: {scale} and more. Green bar: kept; red bar, struck through: '
        "erased, and sampled again from the text above it.</p>"
        f"{bodies}<h2>Settings</h2><table>{rows}</table></body></html>\n"
    )


def _member(number: int, segments: Sequence[Sequence[Try]]) -> str:
    kept = sum(len(tries[-1].tokens) for tries in segments)
    erased = sum(len(a.tokens) for tries in segments for a in tries[:-1])
    opened = " open" if number == 0 else ""
    parts = "".join(_segment(n, tries) for n, tries in enumerate(segments))
    return (
        f'<details class="member"{opened}><summary>completion {number}: {kept} tokens kept, {erased} erased</summary>'
        f"{_chart(segments)}{parts}</details>"
    )


def _segment(n: int, tries: Sequence[Try]) -> str:
    parts = []
    for number, attempt in enumerate(tries):
        sign = ">" if attempt.u > attempt.theta else "≤"
        judged = f"U {attempt.u:.2f} {sign} Θ {attempt.theta:.2f}" if not math.isnan(attempt.theta) else "not judged"
        word = "erased" if attempt.erased else "kept"
        name = f"segment {n}" if number == 0 else f"attempt {number + 1}"
        spans = "".join(map(_token, attempt.tokens))
        parts.append(
            f'<div class="note">{name}: {html.escape(judged)}, {word}</div><div class="try {word}">{spans}</div>'
        )
    return f'<div class="segment">{"".join(parts)}</div>'


def _token(token: Token) -> str:
    about = f"H {token.uncertainty:.2f} nats, p {math.exp(token.logp):.3f}"
    return f'<span style="{_colour(token.uncertainty)}" title="{about}">{html.escape(token.text)}</span>'


def _colour(h: float) -> str:
    return f"background:rgba(214,96,32,{min(max(h, 0.0) / MOST, 1.0) * 0.8:.2f})"


def _chart(segments: Sequence[Sequence[Try]]) -> str:
    """Each attempt's U as a dot (red: erased) over the threshold it was held against as a dash."""
    judged = [(n, a) for n, tries in enumerate(segments) for a in tries if not math.isnan(a.theta)]
    if not judged:
        return ""
    top = max(max(a.u, a.theta) for _, a in judged) * 1.1 or 1.0
    step = min(60.0, 900.0 / len(segments))
    width, height = 60 + step * len(segments), 160

    def y(value: float) -> float:
        return height - 24 - (height - 40) * value / top

    marks = [
        f'<line x1="50" y1="{y(0):.1f}" x2="{width:.0f}" y2="{y(0):.1f}" stroke="#999"/>',
        f'<text x="4" y="{y(0):.1f}">0</text><text x="4" y="{y(top / 1.1):.1f}">{top / 1.1:.2f}</text>',
        '<text x="4" y="14">U and Θ, nats</text>',
    ]
    for n, attempt in judged:
        x = 50 + step * (n + 0.5)
        fill = "#b53a2e" if attempt.erased else "#4a8f4a"
        left, right, level = x - step * 0.3, x + step * 0.3, y(attempt.theta)
        dash = f'x1="{left:.1f}" x2="{right:.1f}" y1="{level:.1f}" y2="{level:.1f}"'
        marks.append(f'<line {dash} stroke="#333" stroke-dasharray="3"/>')
        marks.append(f'<circle cx="{x:.1f}" cy="{y(attempt.u):.1f}" r="4" fill="{fill}"/>')
    labels = [
        f'<text x="{50 + step * (n + 0.5):.1f}" y="{height - 6}" text-anchor="middle">{n}</text>'
        for n in range(len(segments))
    ]
    return (
        f'<svg viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}" font-size="12" role="img" '
        f'aria-label="uncertainty and threshold by segment">{"".join(marks + labels)}</svg>'
    )
