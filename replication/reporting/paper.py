"""What the paper reports beside what was found here, and what this repository claims itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from replication.evaluation.statistics import Interval, share_interval
from replication.gate.judge import NOT_RUN, OK, judge_claim, judge_default
from replication.gate.reference import Row as Reported
from replication.gate.reference import look_up
from replication.reporting.default import mode_of
from replication.reporting.tables import Row, Table

MISSING = "not run here"
NOT_STATED = "not stated"
MARKS = {"A": "[A] abstract", "R": "[R] reading"}


def interval_of(metrics: Any, row: Reported) -> Interval | None:
    """The measured counterpart of a row of reports/reference.json; None where it was not run."""
    found = look_up(metrics, row)
    return Interval(found["mean"], found["low"], found["high"]) if found else None


def paper_table(metrics: Any, reported: Sequence[Reported]) -> Table:
    """Every reported value under each of its readings."""
    rows = []
    for claim in dict.fromkeys(row["claim"] for row in reported):
        readings = [row for row in reported if row["claim"] == claim]
        words = [word for word, _, _ in judge_claim(metrics, readings)]
        words = words if len(words) == len(readings) else words * len(readings)  # one for all that were not run
        for row, word in zip(readings, words, strict=True):
            ours = interval_of(metrics, row)
            judged = MISSING if word == NOT_RUN else word.lower()
            values = [claim, row["what"], MARKS[row["source"]], row["value"], ours, judged]
            rows.append(Row(values, row["model"], row["algorithm"]))
    columns = ["what the paper reports", "reading", "source", "theirs", "ours", "verdict"]
    return Table("paper", "The paper's values and ours, row by row", columns, rows)


def published_table(metrics: Any, published: Sequence[Reported]) -> Table:
    """What cards and papers state of the untrained models, beside ours where it was run as theirs was."""
    rows = []
    for row in published:
        theirs = share_interval(row["value"], row["problems"] * (row["samples"] or 1))
        values = [row["what"], row["profile"], mode_of(row["thinking"]), row["note"], row["source"], theirs]
        rows.append(Row([*values, *published_verdict(metrics, row, theirs)], row["model"], row["algorithm"]))
    columns = ["what is published", "profile", "thinking", "theirs differs by", "source", "theirs", "ours", "ours is"]
    return Table("published", "The untrained models: what is published of them, and ours", columns, rows)


def published_verdict(metrics: Any, row: Reported, theirs: Interval) -> tuple[Interval | None, str]:
    """Our counterpart of a published value, and whether it lies within the interval of theirs.

    One that was sampled in another way is shown with how, and not judged; a source that does not state its way counts
    as any.
    """
    ours = interval_of(metrics, row)
    if ours is None:
        return None, MISSING
    entry = metrics[row["model"]][row["algorithm"]][row["benchmark"]][row["mode"]]
    asked = {key: row[key] for key in ("profile", "thinking") if row[key] != NOT_STATED}
    if any(entry.get(key) != wanted for key, wanted in asked.items()):
        return ours, f"of another kind: {entry.get('profile')}, thinking {mode_of(entry.get('thinking'))}"
    return ours, f"{'within' if theirs.low <= ours.mean <= theirs.high else 'outside'} the interval of theirs"


def claims_table(metrics: Any, claims: Sequence[Reported]) -> Table:
    """What the README says of the small default: differences and their signs."""
    rows = []
    for row in claims:
        word, what, _ = judge_default(metrics, row)
        held = "holds" if word == OK else "does not hold" if interval_of(metrics, row) else MISSING
        side = "above 0" if row["sign"] > 0 else "below 0"
        rows.append(Row([what, side, interval_of(metrics, row), held], row["model"], row["algorithm"]))
    columns = ["what this repository says", "difference should be", "difference", "verdict"]
    return Table("claims", "Our own claims about the small default", columns, rows)
