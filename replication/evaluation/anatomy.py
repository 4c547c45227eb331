"""The anatomy of erasing: where segments were erased, how often, and whether their uncertainty knew what came of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from replication.evaluation.diagnostics import group_auc
from replication.rollout.trace import Rollout

POINTS = 200  # attempts of a benchmark and mode that are kept one by one

Attempt = list[Any]  # segment, number of the attempt at it, U, threshold (None: not judged), whether it was erased


def attempts_of(done: Rollout, u: torch.Tensor) -> list[list[Attempt]]:
    """The attempts of each completion, segment by segment, in the order they were made.

    Args:
        done: a finished rollout.
        u: [R, N] uncertainty of the kept segments, in nats.
    """
    made: list[list[list[Attempt]]] = [[[] for _ in range(count)] for count in done.segments.tolist()]
    for a in done.attempts:
        made[a.row][a.segment].append([a.segment, a.number + 1, round(a.u, 4), round(a.theta, 4), True])
    for segments, kept, thresholds in zip(made, u.tolist(), done.theta.tolist(), strict=True):
        for n, tries in enumerate(segments):
            theta = None if math.isnan(thresholds[n]) else round(thresholds[n], 4)
            tries.append([n, len(tries) + 1, round(kept[n], 4), theta, False])
    return [[attempt for tries in segments for attempt in tries] for segments in made]


def anatomy(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the attempts of a benchmark and mode come to, see docs/glossary.md.

    Args:
        samples: those of one benchmark and mode; a problem's stand together, as many of each.
    """
    attempts = [attempt for sample in samples for attempt in sample["attempts"]]
    segments = range(1 + max(attempt[0] for attempt in attempts))
    made = Counter(segment for segment, *_ in attempts)
    erased = Counter(segment for segment, *_, gone in attempts if gone)
    needed = Counter(number for _, number, *_, gone in attempts if not gone)
    judged = [attempt for attempt in attempts if attempt[3] is not None]
    return {
        "attempts": [made[n] for n in segments],
        "erased": [erased[n] for n in segments],
        "needed": [needed[number] for number in range(1, 1 + max(needed))],
        "auc": _auc(samples, len(segments)),
        "judged": len(judged),
        "points": judged[:: max(1, math.ceil(len(judged) / POINTS))],
    }


def _auc(samples: Sequence[Mapping[str, Any]], segments: int) -> list[dict[str, Any]]:
    """By segment: the AUC of the kept segment's U for samples that turned out wrong, and the pairs it is of."""
    u = torch.full((len(samples), segments), torch.nan)
    for row, sample in enumerate(samples):
        for segment, _, value, _, gone in sample["attempts"]:
            if not gone:
                u[row, segment] = value
    problems = len({sample["problem"] for sample in samples})
    wrong = torch.tensor([sample["verdict"] != "correct" for sample in samples]).view(problems, -1)  # [P, k]
    found = []
    for column in u.T:
        values = column.view(problems, -1)
        present = ~values.isnan()
        pairs = int(((wrong & present).sum(1) * (~wrong & present).sum(1)).sum())
        found.append({"auc": group_auc(values, wrong, present) if pairs else None, "pairs": pairs})
    return found
