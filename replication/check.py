"""`python -m replication.check`: the gate. Holds reports/metrics.json against reports/reference.json, by intervals.

A row of the small default passes where the mean lies in the recorded interval, or where a difference has the recorded
sign beyond its interval. A row of the paper that was not run says so, and never passes. Metrics that are older than the
code and settings they came from fail, and so does a reference that was edited. Exit code 0: passed, 1: failed.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from replication.errors import Parser, run_command
from replication.gate.judge import FAILED, MISSING, NOT_RUN, OK, REPRODUCED, judge_claim, judge_default
from replication.gate.reference import is_sealed, read_json, read_reference, record
from replication.gate.stale import remedy, stale_stages

STALE = "STALE"
STUDY = Path("experiments/study/dvc.yaml"), Path("reports/study.json")  # a pipeline of its own, which no row judges


def main() -> None:
    parser = Parser(prog="python -m replication.check", description="Hold the metrics against the recorded ones.")
    parser.add_argument("--metrics", type=Path, default=Path("reports/metrics.json"))
    parser.add_argument("--reference", type=Path, default=Path("reports/reference.json"))
    parser.add_argument("--pipeline", type=Path, default=Path("dvc.yaml"), help="whose output the metrics are")
    parser.add_argument("--any-age", action="store_true", help="metrics from elsewhere: do not ask what they came from")
    parser.add_argument("--record", action="store_true", help="take the small default's intervals from the metrics")
    parser.add_argument(
        "--study", type=Path, default=Path("reports/study"), help="where --record reads how much warm starts differ"
    )
    arguments = parser.parse_args()
    metrics, reference = read_json(arguments.metrics), read_reference(arguments.reference)
    stale = [] if arguments.any_age else stale_stages(arguments.metrics, arguments.pipeline)
    if arguments.record and not stale:
        record(arguments.reference, reference, metrics, arguments.study)
        print(f"recorded {len(reference['default'])} rows in {arguments.reference}")
        return

    rows = [(STALE, cause, f"run `{remedy(arguments.pipeline)}`") for cause in stale]
    if not is_sealed(reference):
        rows.append((FAILED, f"{arguments.reference} was edited", "restore it with git"))
    rows += [judge_default(metrics, row) for row in reference["default"]]
    for claim in dict.fromkeys(row["claim"] for row in reference["paper"]):
        rows += judge_claim(metrics, [row for row in reference["paper"] if row["claim"] == claim])
    for verdict, what, text in rows:
        print(f"{verdict:14s} {what}: {text}")
    pipeline, page = STUDY
    if not arguments.any_age and pipeline.exists() and page.exists() and (causes := stale_stages(page, pipeline)):
        print(f"{'older':14s} {page}: {causes[0]}, and {len(causes) - 1} more: `{remedy(pipeline)}`; no row judges it")
    count = Counter(verdict for verdict, _, _ in rows)
    failed = count[FAILED] + count[MISSING] + count[STALE]
    passed = count[OK] + count[REPRODUCED]
    print(f"gate: {passed} ok, {failed} failed, {count[NOT_RUN]} of the paper not run")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    run_command(main)
