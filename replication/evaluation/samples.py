"""Graded samples, and the metrics of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import torch

from replication.errors import UserError
from replication.evaluation.anatomy import Attempt, anatomy
from replication.evaluation.diagnostics import group_auc
from replication.evaluation.metrics import AccuracyAtTokens, AvgAtK, MajAtK, PassAtK
from replication.grading.normalize import normalize

BUDGETS = 10  # token budgets that a benchmark's accuracy is given at, up to its longest sample

FIELDS: dict[str, tuple[type, ...]] = {  # of a sample in a file, with the types of their values
    **dict.fromkeys(("benchmark", "mode", "problem", "verdict"), (str,)),
    **dict.fromkeys(("tokens", "erased_tokens", "erasures"), (int,)),
    "answer": (str, NoneType),
    "uncertainty": (float, int),
    "ended": (bool,),
}
OPTIONAL: dict[str, tuple[type, ...]] = {"gold": (str, NoneType), "sample": (int,), "text": (str,)}
NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
HOW = ("profile", "thinking")  # of the settings, what every row of the metrics says
CORRECT = "\0"  # what right answers vote for: no text of an answer

Row = Mapping[str, Any]


@dataclass
class Sample:
    """One graded completion; all that grading it again needs."""

    benchmark: str
    mode: str  # plain or erased, with a temperature where it has one of its own
    problem: str
    sample: int
    seed: int  # key of its random numbers
    gold: str
    tolerance: float | None
    verdict: str
    answer: str | None
    tokens: int  # kept
    erased_tokens: int
    erasures: int
    uncertainty: float  # mean U over the segments, in nats, by the settings of the erasure
    attempts: list[Attempt]  # at its segments, in the order they were made
    ended: bool
    text: str
    token_ids: list[int]


def write_samples(folder: Path, rows: Sequence[Row], how: Row | None = None) -> dict[str, Any]:
    """Write samples.jsonl and what `write_metrics` writes; returns the metrics."""
    (folder / "samples.jsonl").write_text("".join(map(to_line, rows)), encoding="utf-8")
    return write_metrics(folder, rows, how)


def write_metrics(folder: Path, rows: Sequence[Row], how: Row | None = None) -> dict[str, Any]:
    """Write problems.jsonl, metrics.json, and anatomy.json of samples that have their attempts.

    Args:
        folder: where to.
        rows: the samples.
        how: they were made (`HOW`), which every row of the metrics then says.

    Returns:
        The metrics.
    """
    metrics = {name: {m: {**(how or {}), **row} for m, row in modes.items()} for name, modes in summarise(rows).items()}
    (folder / "problems.jsonl").write_text("".join(map(to_line, by_problem(rows))), encoding="utf-8")
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    if all("attempts" in row for row in rows):  # an evaluation of before they were kept has none
        (folder / "anatomy.json").write_text(json.dumps(anatomies(rows)) + "\n")
    return metrics


def read_how(folder: Path) -> dict[str, Any]:
    """How the samples of an evaluation were made, by its metrics; nothing where they do not say, as older ones do."""
    try:
        first = next(iter(next(iter(json.loads((folder / "metrics.json").read_text()).values())).values()))
        return {key: first[key] for key in HOW if key in first}
    except (OSError, ValueError, AttributeError, TypeError, StopIteration):
        return {}


def read_samples(folder: Path) -> list[dict[str, Any]]:
    """The samples of an evaluation.

    Raises:
        UserError: the folder holds none, a line that is no sample, or not as many samples of each problem.
    """
    path = folder / "samples.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        if not rows:
            raise ValueError("it is empty")
        for number, row in enumerate(rows, 1):
            _check(row, f"sample {number}")
        for benchmark, mode, cell in cells(rows):
            if len({len(hits) for hits in correct_by_problem(cell).values()}) > 1:
                raise ValueError(f"{benchmark}, {mode}: some problems have more samples than others")
        places = [(row["benchmark"], row["mode"], row["problem"], row.get("sample", i)) for i, row in enumerate(rows)]
        if len(set(places)) < len(rows):
            raise ValueError("a sample is there twice")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}): name a folder of `replication.evaluate`") from None
    return rows


def _check(row: Any, where: str) -> None:
    """Raise a `ValueError` that names the first field of a sample that is missing, or is of another type."""
    if not isinstance(row, dict):
        raise ValueError(f"{where} is not an object")
    for field, types in {**FIELDS, **{key: kinds for key, kinds in OPTIONAL.items() if key in row}}.items():
        if field not in row:
            raise ValueError(f"{where} has no `{field}`")
        value = row[field]
        if type(value) not in types or (types == (int,) and not 0 <= value < 2**31):
            wanted = NAMES[types[0]] + (" or null" if NoneType in types else "")
            raise ValueError(f"{where}: `{field}` is {json.dumps(value)[:40]}, not {wanted}")


def to_line(row: Row | Sample) -> str:
    """One line of JSON."""
    return json.dumps(asdict(row) if isinstance(row, Sample) else row, ensure_ascii=False) + "\n"


def cells(samples: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Benchmark, mode and samples of each that occurs, in alphabetical order."""
    for name, mode in sorted({(s["benchmark"], s["mode"]) for s in samples}):
        yield name, mode, [s for s in samples if (s["benchmark"], s["mode"]) == (name, mode)]


def summarise(samples: Sequence[Row]) -> dict[str, dict[str, dict[str, Any]]]:
    """benchmark -> mode -> metrics, see docs/glossary.md. A problem's samples stand together, in order."""
    table: dict[str, dict[str, dict[str, Any]]] = {}
    longest: dict[str, int] = {}
    for s in samples:
        longest[s["benchmark"]] = max(longest.get(s["benchmark"], 0), spent(s))
    for name, mode, rows in cells(samples):
        correct = torch.tensor(list(correct_by_problem(rows).values()))  # [P, k]
        k, n = correct.shape[1], len(rows)
        average = AvgAtK()
        average.update(correct)
        passed = {i: PassAtK(i) for i in range(1, k + 1)}
        votes = {i: MajAtK(i) for i in range(1, k + 1) if i == k or i & (i - 1) == 0}
        ballots = answers_by_problem(rows)
        budgets = [math.ceil(longest[name] * i / BUDGETS) for i in range(1, BUDGETS + 1)]
        at_tokens = AccuracyAtTokens(budgets)
        at_tokens.update(correct, torch.tensor([spent(s) for s in rows]).view(correct.shape))
        for metric in passed.values():
            metric.update(correct)
        for vote in votes.values():
            vote.update(ballots, correct)
        uncertainty = torch.tensor([s["uncertainty"] for s in rows]).view(correct.shape)
        table.setdefault(name, {})[mode] = {
            "avg": float(average.compute()),
            "pass": float(passed[k].compute()),
            "maj": float(votes[k].compute()),
            "pass_at": {str(i): round(float(metric.compute()), 6) for i, metric in passed.items()},
            "maj_at": {str(i): round(float(vote.compute()), 6) for i, vote in votes.items()},
            "accuracy_at_tokens": dict(zip(map(str, budgets), at_tokens.compute().tolist(), strict=True)),
            "samples": k,
            "problems": len(correct),
            "tokens": sum(map(spent, rows)) / n,
            "erased_tokens": sum(s["erased_tokens"] for s in rows) / n,
            "erasures": sum(s["erasures"] for s in rows) / n,
            "auc": None if math.isnan(auc := group_auc(uncertainty, ~correct)) else auc,
            "truncated": sum(not s["ended"] for s in rows) / n,
            "no_answer": sum(s["verdict"] == "no answer" for s in rows) / n,
            "timed_out": sum(s["verdict"] == "timed out" for s in rows) / n,
        }
    return table


def anatomies(samples: Sequence[Row]) -> dict[str, dict[str, dict[str, Any]]]:
    """benchmark -> mode -> anatomy of its erasing."""
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for name, mode, rows in cells(samples):
        table.setdefault(name, {})[mode] = anatomy(rows)
    return table


def by_problem(samples: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """A row for each problem of each benchmark and mode: correct samples of how many, Maj@k, mean tokens a sample."""
    for name, mode, rows in cells(samples):
        hits, ballots = correct_by_problem(rows), answers_by_problem(rows)
        majority = MajAtK(len(ballots[0]))
        majority.update(ballots, torch.tensor(list(hits.values())))
        tokens: dict[str, list[int]] = {}
        for s in rows:
            tokens.setdefault(s["problem"], []).append(spent(s))
        for (problem, right), vote in zip(hits.items(), majority.by_problem().tolist(), strict=True):
            mean = sum(tokens[problem]) / len(right)
            yield {
                "benchmark": name,
                "mode": mode,
                "problem": problem,
                "correct": sum(right),
                "samples": len(right),
                "maj": vote,
                "tokens": mean,
            }


def spent(sample: Row) -> int:
    """Tokens generated for a sample, erased ones included."""
    return int(sample["tokens"] + sample["erased_tokens"])


def correct_by_problem(samples: Sequence[Row]) -> dict[str, list[bool]]:
    """Problem id -> whether each of its samples is correct."""
    out: dict[str, list[bool]] = {}
    for s in samples:
        out.setdefault(s["problem"], []).append(s["verdict"] == "correct")
    return out


def answers_by_problem(samples: Sequence[Row]) -> list[list[str | None]]:
    """What each sample of each problem votes for: right answers are one answer, wrong ones are by their normal form."""
    out: dict[str, list[str | None]] = {}
    for s in samples:
        vote = None if s["answer"] is None else normalize(s["answer"])
        out.setdefault(s["problem"], []).append(CORRECT if s["verdict"] == "correct" else vote)
    return list(out.values())
