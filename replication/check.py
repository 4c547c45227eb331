"""`python -m replication.check`: the gate. Holds reports/metrics.json and study.json against reports/reference.json.

A metric of the small default passes where its mean lies in the range that runs on several machines and with several
seeds span; a claim of the README where its difference has the sign beyond its interval; a comparison of the study where
its verdict is the recorded one. A row of the paper that was not run says so, and never passes. Metrics that are older
than the code and settings they came from fail, and so does a reference that was edited. Exit code 0: passed, 1: failed.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from replication.errors import Parser, UserError, run_command
from replication.gate.judge import FAILED, MISSING, NOT_RUN, OK, REPRODUCED, judge_claim, judge_default, judge_study
from replication.gate.record import record
from replication.gate.reference import is_sealed, read_json, read_reference
from replication.gate.stale import remedy, stale_stages

STALE = "STALE"
STUDY = (
    Path("experiments/study/dvc.yaml"),
    Path("reports/study.json"),
)  # a pipeline of its own: that it is older than its code fails nothing


def main() -> None:
    parser = Parser(prog="python -m replication.check", description="Hold the metrics against the recorded ones.")
    parser.add_argument("--metrics", type=Path, default=Path("reports/metrics.json"))
    parser.add_argument("--reference", type=Path, default=Path("reports/reference.json"))
    parser.add_argument("--pipeline", type=Path, default=Path("dvc.yaml"), help="whose output the metrics are")
    parser.add_argument("--any-age", action="store_true", help="metrics from elsewhere: do not ask what they came from")
    parser.add_argument("--record", action="store_true", help="take what is expected from --runs and --study")
    parser.add_argument("--runs", type=Path, default=Path("reports/machines.json"), help="for --record")
    parser.add_argument("--study", type=Path, default=Path("reports/study.json"), help="the study's summary")
    parser.add_argument("--verbose", action="store_true", help="also list the rows that passed")
    arguments = parser.parse_args()
    if not arguments.reference.exists():
        raise UserError(
            f"{arguments.reference} does not exist: run from the repository's root, or name another by --reference"
        )
    reference, metrics = read_reference(arguments.reference), read_json(arguments.metrics)
    if arguments.record:
        recorded = record(arguments.reference, reference, metrics, arguments.runs, arguments.study)
        print(f"recorded {recorded} rows in {arguments.reference}")
        return
    study = read_json(arguments.study)
    stale = [] if arguments.any_age else stale_stages(arguments.metrics, arguments.pipeline)

    rows = [(STALE, cause, f"run `{remedy(arguments.pipeline)}`") for cause in stale]
    if not is_sealed(reference):
        rows.append((FAILED, f"{arguments.reference} was edited", "restore it with git"))
    rows += [judge_default(metrics, row) for row in (*reference["claims"], *reference["default"])]
    rows += [judge_study(study, row) for row in reference["study"]]
    for claim in dict.fromkeys(row["claim"] for row in reference["paper"]):
        rows += judge_claim(metrics, [row for row in reference["paper"] if row["claim"] == claim])
    claims = {row["what"] for row in reference["claims"]}
    for verdict, what, text in rows:
        if verdict != OK or what in claims or arguments.verbose:
            print(f"{verdict:14s} {what}: {text}")
    pipeline, page = STUDY
    if not arguments.any_age and pipeline.exists() and page.exists() and (causes := stale_stages(page, pipeline)):
        more = f", and {len(causes) - 1} more" if causes[1:] else ""
        print(f"{'older':14s} {page}: {causes[0]}{more}: `{remedy(pipeline)}`; judged as committed")
    count = Counter(verdict for verdict, _, _ in rows)
    failed = count[FAILED] + count[MISSING] + count[STALE]
    passed = count[OK] + count[REPRODUCED]
    print(f"gate: {passed} ok, {failed} failed, {count[NOT_RUN]} of the paper not run")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    run_command(main)
