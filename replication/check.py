"""`python -m replication.check`: the gate. Holds reports/metrics.json against reports/reference.json, by intervals.

A row of the small default passes where the interval of the run and the recorded one overlap, or where a difference
has the recorded sign beyond its interval. A row of the paper that was not run says so, and never passes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from replication.errors import Parser, UserError, run_command

OK, FAILED, MISSING, NOT_RUN = "ok", "FAILED", "MISSING", "not run"


def read(path: Path) -> Any:
    """A JSON file, or a `UserError` that names it."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run `make repro`") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON ({error}): restore it with git, or run `make repro`") from None


def look_up(metrics: Any, row: dict[str, Any]) -> dict[str, float] | None:
    """The interval (mean, low, high) that a row speaks of, or None where it was not measured."""
    entry = metrics
    for key in ("model", "algorithm", "benchmark", "mode", "metric"):
        entry = entry.get(row[key]) if isinstance(entry, dict) else None
    return entry


def judge_default(metrics: Any, row: dict[str, Any]) -> tuple[str, str]:
    """Verdict and figures of a row of the small default."""
    found = look_up(metrics, row)
    if found is None:
        return MISSING, "not in the metrics"
    text = f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
    if "low" in row:
        overlaps = found["low"] <= row["high"] and row["low"] <= found["high"]
        return OK if overlaps else FAILED, f"{text}, recorded [{row['low']:.3f}, {row['high']:.3f}]"
    beyond = found["low"] > 0 if row["sign"] > 0 else found["high"] < 0
    return OK if beyond else FAILED, f"{text}, expected {'above' if row['sign'] > 0 else 'below'} 0"


def judge_paper(metrics: Any, row: dict[str, Any]) -> tuple[str, str]:
    """Verdict and figures of a row of the paper: reproduced where the run's interval holds the paper's value."""
    found = look_up(metrics, row)
    if found is None:
        return NOT_RUN, f"the paper's {row['value']} [{row['source']}]"
    inside = found["low"] <= row["value"] <= found["high"]
    text = (
        f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}], the paper's {row['value']} [{row['source']}]"
    )
    return ("reproduced" if inside else FAILED), text


def main() -> None:
    parser = Parser(description="Compare the metrics with the recorded and the reported ones.")
    parser.add_argument("--metrics", type=Path, default=Path("reports/metrics.json"))
    parser.add_argument("--reference", type=Path, default=Path("reports/reference.json"))
    arguments = parser.parse_args()
    metrics, reference = read(arguments.metrics), read(arguments.reference)
    if not (isinstance(reference, dict) and reference.get("default") and "paper" in reference):
        raise UserError(f"{arguments.reference} lacks rows of the small default or of the paper: restore it with git")
    verdicts = []
    for rows, judge in ((reference["default"], judge_default), (reference["paper"], judge_paper)):
        for row in rows:
            verdict, text = judge(metrics, row)
            verdicts.append(verdict)
            print(f"{verdict:10s} {row['what']}: {text}")
    failed = sum(verdict in (FAILED, MISSING) for verdict in verdicts)
    not_run = verdicts.count(NOT_RUN)
    print(f"gate: {len(verdicts) - failed - not_run} ok, {failed} failed, {not_run} of the paper not run")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    run_command(main)
