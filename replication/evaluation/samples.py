"""Graded samples, and the metrics of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from replication.evaluation.diagnostics import group_auc
from replication.evaluation.metrics import AvgAtK, PassAtK


@dataclass
class Sample:
    """One graded completion."""

    benchmark: str
    mode: str  # plain or erased
    problem: str
    sample: int
    verdict: str
    answer: str | None
    tokens: int  # kept
    erased_tokens: int
    erasures: int
    uncertainty: float  # mean U over the segments, in nats, by the settings of the erasure
    ended: bool
    text: str


def summarise(samples: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float | None]]]:
    """benchmark -> mode -> metrics: avg, pass, tokens a sample (kept and erased), rates, AUC. See docs/glossary.md.

    A problem's samples stand together, in order.
    """
    table: dict[str, dict[str, dict[str, float | None]]] = {}
    for name, mode in sorted({(s["benchmark"], s["mode"]) for s in samples}):
        rows = [s for s in samples if (s["benchmark"], s["mode"]) == (name, mode)]
        correct = torch.tensor(list(correct_by_problem(rows).values()))
        average, passed = AvgAtK(), PassAtK(correct.shape[1])
        average.update(correct)
        passed.update(correct)
        n = len(rows)
        uncertainty = torch.tensor([s["uncertainty"] for s in rows]).view(correct.shape)
        table.setdefault(name, {})[mode] = {
            "avg": float(average.compute()),
            "pass": float(passed.compute()),
            "samples": correct.shape[1],
            "problems": len(correct),
            "tokens": sum(s["tokens"] + s["erased_tokens"] for s in rows) / n,
            "erased_tokens": sum(s["erased_tokens"] for s in rows) / n,
            "erasures": sum(s["erasures"] for s in rows) / n,
            "auc": None if math.isnan(auc := group_auc(uncertainty, ~correct)) else auc,
            "truncated": sum(not s["ended"] for s in rows) / n,
            "no_answer": sum(s["verdict"] == "no answer" for s in rows) / n,
            "timed_out": sum(s["verdict"] == "timed out" for s in rows) / n,
        }
    return table


def correct_by_problem(samples: Sequence[Mapping[str, Any]]) -> dict[str, list[bool]]:
    """Problem id -> whether each of its samples is correct."""
    out: dict[str, list[bool]] = {}
    for s in samples:
        out.setdefault(s["problem"], []).append(s["verdict"] == "correct")
    return out
