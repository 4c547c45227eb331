"""A row's verdict: an interval against the recorded one, or against the paper's value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from replication.evaluation.statistics import Interval, claim_verdict, verdict
from replication.gate.reference import Row, look_up

OK, FAILED, MISSING, NOT_RUN = "ok", "FAILED", "MISSING", "not run"
REPRODUCED, NOT_REPRODUCED, UNDERPOWERED = "reproduced", "not reproduced", "underpowered"
TOO_WIDE = 10  # times the widest recorded; the spread of three seeds is itself uncertain by that much
WIDTH = 0.01  # the least that counts as the widest recorded


def sign_holds(interval: Interval, sign: int) -> bool:
    """Whether a difference has its sign beyond doubt: its whole interval lies on that side of 0."""
    return interval.low > 0 if sign > 0 else interval.high < 0


def study_word(gain: Interval) -> str:
    """Whether something pays, by its interval."""
    return "yes" if gain.low > 0 else "no" if gain.high < 0 else "undecided"


def judge_default(metrics: Any, row: Row) -> tuple[str, str, str]:
    """Verdict, name and figures of a row of the small default: a claim with its sign, or a metric with its range."""
    found = look_up(metrics, row)
    if found is None:
        return MISSING, row["what"], "not in the metrics"
    interval = Interval(found["mean"], found["low"], found["high"])
    if not interval.low <= interval.mean <= interval.high:
        return FAILED, row["what"], f"{interval} is no interval around its mean"
    if "sign" in row:
        wanted = f"{interval}, expected {'above' if row['sign'] > 0 else 'below'} 0"
        return OK if sign_holds(interval, row["sign"]) else FAILED, row["what"], wanted
    if interval.high - interval.low > TOO_WIDE * max(row["widest"], WIDTH):
        return FAILED, row["what"], f"{interval} is far wider than the widest recorded, {row['widest']:.3f}"
    if (word := verdict(interval)) != row.get("verdict", word):
        return FAILED, row["what"], f"{interval} is {word}, recorded {row['verdict']}"
    inside = row["low"] <= interval.mean <= row["high"]
    return OK if inside else FAILED, row["what"], f"{interval.mean:.3f}, recorded [{row['low']:.3f}, {row['high']:.3f}]"


def judge_study(summary: Any, row: Row) -> tuple[str, str, str]:
    """Verdict, name and figures of a comparison of the study."""
    try:
        interval = Interval(**summary[row["task"]][row["arm"]][row["metric"]])
    except (KeyError, TypeError):
        return MISSING, row["what"], "not in the study"
    word = study_word(interval)
    return OK if word == row["verdict"] else FAILED, row["what"], f"{interval} is {word}, recorded {row['verdict']}"


def judge_claim(metrics: Any, rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """Verdict, reading and figures of the readings of one reported value: which benchmark, mode or model it is of, and
    whether a gain is relative or in points, is not always stated, and they exclude each other.

    One that was not run says so, and never passes. A claim fails where it was run and no reading of it holds.
    """
    found = [(row, look_up(metrics, row)) for row in rows]
    claim, value, source = (rows[0][key] for key in ("claim", "value", "source"))
    reported = f"the paper's {value} [{source}]"
    if all(entry is None for _, entry in found):
        return [(NOT_RUN, claim, reported + (f", {len(rows)} readings" if len(rows) > 1 else ""))]
    judged = []
    for row, entry in found:
        if entry is None:
            judged.append((NOT_RUN, f"{claim}, {row['what']}", reported))
            continue
        interval = Interval(entry["mean"], entry["low"], entry["high"])
        word = claim_verdict(interval, row["value"], row["resolution"])
        judged.append((word, f"{claim}, {row['what']}", f"{interval}, {reported}"))
    words = {word for word, _, _ in judged}
    fails = NOT_REPRODUCED in words and not words & {REPRODUCED, UNDERPOWERED}
    return [(FAILED if fails and word == NOT_REPRODUCED else word, what, text) for word, what, text in judged]
