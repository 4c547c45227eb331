"""The anatomy of erasing over an arm's seeds and benchmarks: rates, attempts, uncertainty against threshold, AUC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from replication.reporting.results import Arm
from replication.reporting.tables import Row, Table

Rows = Sequence[dict[str, Any]]
FATES = {True: "erased", False: "kept"}


def cells_of(arm: Arm, mode: str) -> list[dict[str, Any]]:
    """What each seed and benchmark kept of a mode, see `replication.evaluation.anatomy`."""
    return [modes[mode] for found in arm.anatomies for modes in found.values() if mode in modes]


def added(columns: Iterable[Sequence[int]]) -> list[int]:
    """Counts by segment or attempt, summed."""
    return [sum(counts) for counts in zip_longest(*columns, fillvalue=0)]


def auc_by_segment(arm: Arm, mode: str) -> list[tuple[float | None, int]]:
    """The AUC of each segment's U for samples that turned out wrong, pooled by the number of pairs, and that number."""
    pooled = []
    for found in zip_longest(*(cell["auc"] for cell in cells_of(arm, mode))):
        cells = [cell for cell in found if cell and cell["pairs"]]
        pairs = sum(cell["pairs"] for cell in cells)
        pooled.append((sum(cell["auc"] * cell["pairs"] for cell in cells) / pairs if pairs else None, pairs))
    return pooled


def by_segment(model: str, arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """Attempts, erased ones and AUC of each segment."""
    rows = []
    for arm in arms:
        cells = cells_of(arm, "erased")
        counts = (added(cell[key] for cell in cells) for key in ("attempts", "erased"))
        knows = (auc_by_segment(arm, mode) for mode in ("plain", "erased"))
        for n, (made, gone, plain, erased) in enumerate(zip(*counts, *knows, strict=False), 1):
            row = {"task": model, "algorithm": arm.algorithm, "segment": n, "attempts": made, "erased": gone}
            row |= {"rate": gone / made, "AUC plain": plain[0], "pairs plain": plain[1]}
            rows.append(row | {"AUC erased": erased[0], "pairs erased": erased[1]})
    return rows


def by_attempts(model: str, arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """How many attempts a segment took until one was kept, as shares of the segments."""
    rows = []
    for arm in arms:
        needed = added(cell["needed"] for cell in cells_of(arm, "erased"))
        for number, count in enumerate(needed, 1):
            row = {"task": model, "algorithm": arm.algorithm, "attempts": number, "segments": count}
            rows.append(row | {"share": count / sum(needed)})
    return rows


def points(model: str, arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """Single attempts of each arm: U against the threshold that it was held against."""
    return [
        {
            "task": model,
            "algorithm": arm.algorithm,
            "segment": segment + 1,
            "attempt": number,
            "U": u,
            "threshold": theta,
            "fate": FATES[erased],
        }
        for arm in arms
        for cell in cells_of(arm, "erased")[:1]  # of the first seed and benchmark: enough to see
        for segment, number, u, theta, erased in cell["points"]
    ]


def tables(segments: Rows, counts: Rows, dots: Rows) -> list[Table]:
    """The numbers of the charts."""
    return [
        _table("anatomy-segments", "Erasing by segment, and how many pairs an AUC is of", segments),
        _table("anatomy-attempts", "Attempts until a segment was kept", counts),
        _table("anatomy-points", "Single attempts: U against the threshold, in nats", dots),
    ]


def _table(name: str, caption: str, rows: Rows) -> Table:
    lines = [Row([*row.values()], row["task"], row["algorithm"]) for row in rows]
    return Table(name, caption, [*rows[0]] if rows else [], lines)


def sample_table(models: Mapping[str, Sequence[Arm]]) -> Table:
    """Erasing by sample: how much, and whether a sample's mean U tells that it is wrong."""
    rows = []
    for model, arms in models.items():
        for arm in arms:
            for benchmark, mode in arm.cells():
                found = [
                    seed[benchmark][mode] for seed in arm.metrics if "auc" in seed.get(benchmark, {}).get(mode, {})
                ]
                if found:
                    means = [float(np.mean([cell[key] for cell in found])) for key in ("erasures", "erased_tokens")]
                    known = [cell["auc"] for cell in found if cell["auc"] is not None]
                    auc = float(np.mean(known)) if known else None
                    share, k = arm.correct[benchmark, mode], found[0]["samples"]
                    pairs = round(float((share * k * (1 - share) * k).sum()))
                    values = [model, arm.algorithm, benchmark, mode, *means, auc, pairs]
                    rows.append(Row(values, model, arm.algorithm))
    columns = ["task", "algorithm", "benchmark", "sampling", "erasures a sample", "erased tokens a sample", "AUC of U"]
    caption = "Erasing by sample, and how many pairs of a wrong and a right one an AUC is of"
    return Table("anatomy-samples", caption, [*columns, "pairs"], rows)
