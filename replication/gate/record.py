"""`--record`: take what the gate expects from many runs of the small default, on several machines and of other seeds.

reports/machines.json, written by `python -m experiments.machines`, has a table of them: metric -> run -> interval.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from replication.errors import UserError
from replication.evaluation.statistics import Interval, verdict
from replication.gate.judge import OK, judge_default, sign_holds, study_word
from replication.gate.reference import GROUPS, KEYS, Row, is_sealed, read_json, seal_of
from replication.reporting.results import UNTRAINED

FLOOR, TOKENS = 0.01, 0.02  # least room beyond the runs: of a share, and as a part of a number of tokens
FLOORS = {"mismatch": 1e-4, "allocation_spread": 0.1}  # in nats, and where 0 is uniform and 0.7 what attention gives
TRAINING = "training"  # stands where an evaluation has its benchmark
KINDS = ("machine", "seeds")  # runs that the ranges come from; another warm start is another policy
SHARES = ("avg", "pass", "maj", "reward", "erasure_rate", "groups_without_signal")  # they lie between 0 and 1
DIFFERENCES = ("lift", "over_temperature", "over_baseline")
STUDIED = (
    "e3rl",
    "e3rl_mixed",
    "e3rl_contrastive_absolute",
)  # whose verdicts against the rivals reports/study.md gives
RIVALS = ("grpo", "grpo_cool", "dapo")


def intervals(metrics: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Interval]]:
    """Every metric of reports/metrics.json: its model, algorithm, benchmark, mode and name, and its interval."""
    for key, entry in metrics.items():
        if not isinstance(entry, dict):
            continue
        if {"mean", "low", "high"} <= entry.keys():
            yield (*path, key), Interval(entry["mean"], entry["low"], entry["high"])
        else:
            yield from intervals(entry, (*path, key))


def expected(path: tuple[str, ...], runs: list[Interval]) -> Row:
    """A row: where the mean of another run may lie, and how wide its interval may be.

    The range of the runs' means, and room on either side: as much again, but at least three standard errors of the
    widest interval, since few runs may happen to lie close together, and at least `FLOOR`. A half-width is two standard
    errors of problems, and 4.3 of three seeds (Student's t). What is noted in a training has six.
    """
    means, widest = [run.mean for run in runs], max(run.high - run.low for run in runs)
    least, most = min(means), max(means)
    floor = FLOORS.get(path[-1], TOKENS * most if path[-1] == "tokens" else FLOOR)
    errors = (0.75 if path[1] == UNTRAINED else 0.7 if path[2] == TRAINING else 0.35) * widest
    room = max(most - least, errors, floor)
    low, high = least - room, most + room
    if path[-1] in SHARES:
        low, high = max(0.0, low), min(1.0, high)
    row: Row = dict(zip(("what", *KEYS), (", ".join(path), *path), strict=True))
    row |= {"low": round(low, 5), "high": round(high, 5), "widest": round(widest, 5)}
    if path[-1] in DIFFERENCES and len(words := verdicts(runs)) == 1:
        row["verdict"] = words.pop()
    return row


def verdicts(runs: list[Interval]) -> set[str]:
    """The words that the runs' intervals stand for, and would if they were twice as wide, as those of few seeds may be;
    none where some run has no spread, which is evidence of nothing."""
    wide = [Interval(run.mean, 2 * run.low - run.mean, 2 * run.high - run.mean) for run in runs]
    return {verdict(run) for run in (*runs, *wide)} if all(run.low < run.high for run in runs) else set()


def read_runs(path: Path) -> dict[tuple[str, ...], dict[str, Interval]]:
    """The table of the runs that count: metric -> run -> interval. What repeats another metric is left out.

    Raises:
        UserError: it is missing or damaged, or has fewer than four runs of a metric.
    """
    table = read_json(path)
    try:
        counted = {run for run, about in table["runs"].items() if about["kind"] in KINDS}
        found = {
            tuple(name.split("/")): {run: Interval(*numbers) for run, numbers in row.items() if run in counted}
            for name, row in table["metrics"].items()
            if "/average/" not in name and not name.endswith("/gain_over_baseline")
        }
        few = [name for name, row in found.items() if len(row) < 4 or len(name) != len(KEYS)]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no table of runs ({error!r}): make it by `make machines FULL=1`") from None
    if few or not found:
        what = "/".join(few[0]) if few else "anything"
        raise UserError(f"{path} has fewer than four runs of {what}: run `make machines FULL=1`")
    return found


def record(path: Path, reference: dict[str, Any], metrics: Any, runs: Path, study: Path) -> int:
    """Write the expected rows of the small default and the study's verdicts, and seal all rows.

    Returns:
        How many rows were recorded.

    Raises:
        UserError: the reference was edited by hand, a claim does not hold in one of the runs, or the metrics are not
            what the runs let expect: then the runs are of other code or settings.
    """
    if "seal" in reference and not is_sealed(reference):
        raise UserError(f"{path} was edited: restore it with git; to change it on purpose, delete its `seal` as well")
    found = read_runs(runs)
    for claim in reference["claims"]:
        key = tuple(claim[k] for k in KEYS)
        for run, interval in found.get(key, {}).items():
            if not sign_holds(interval, claim["sign"]):
                raise UserError(f"claim {claim['what']!r} does not hold in run {run}, {interval}: take it back")
        if key not in found:
            raise UserError(f"claim {claim['what']!r} is of no recorded metric: correct {path}")
    reference["default"] = [expected(metric, list(row.values())) for metric, row in found.items()]
    for row in reference["default"]:
        word, what, figures = judge_default(metrics, row)
        if word != OK:
            raise UserError(f"{what}: {figures}: {runs} is of other code or settings: run `make machines FULL=1`")
    reference["study"] = studied(read_json(study))
    groups = [
        f'"{group}": [\n' + ",\n".join("  " + json.dumps(row) for row in reference[group]) + "\n]" for group in GROUPS
    ]
    path.write_text("{\n" + ",\n".join([f'"seal": "{seal_of(reference)}"', *groups]) + "\n}\n")
    return len(reference["default"]) + len(reference["study"])


def studied(summary: dict[str, Any]) -> list[Row]:
    """A row for each comparison of the study at equal tokens, with the word that its interval stands for."""
    rows = []
    for task, arms in summary.items():
        for arm in STUDIED:
            for rival in RIVALS:
                metric = f"minus_{rival}_equal_tokens"
                what = f"study, {task}: {arm} against {rival} at equal tokens"
                row: Row = {"what": what, "task": task, "arm": arm, "metric": metric}
                rows.append(row | {"verdict": study_word(Interval(**arms[arm][metric]))})
    return rows
