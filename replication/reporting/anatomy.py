"""The anatomy of erasing over an arm's seeds and benchmarks: rates, attempts, uncertainty against threshold, AUC."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from replication.reporting.results import Arm
from replication.reporting.tables import Row, Table

FATES = {True: "erased", False: "kept"}


def cells_of(arm: Arm, mode: str) -> list[dict[str, Any]]:
    """What each seed and benchmark kept of a mode, see `replication.evaluation.anatomy`."""
    return [modes[mode] for found in arm.anatomies for modes in found.values() if mode in modes]


def added(columns: Iterable[Sequence[int]]) -> list[int]:
    """Counts by segment or attempt, summed."""
    return [sum(counts) for counts in zip_longest(*columns, fillvalue=0)]


def auc_by_segment(arm: Arm, mode: str) -> list[float | None]:
    """The AUC of each segment's U for samples that turned out wrong, pooled by the number of pairs."""
    pooled = []
    for found in zip_longest(*(cell["auc"] for cell in cells_of(arm, mode))):
        cells = [cell for cell in found if cell and cell["pairs"]]
        pairs = sum(cell["pairs"] for cell in cells)
        pooled.append(sum(cell["auc"] * cell["pairs"] for cell in cells) / pairs if pairs else None)
    return pooled


def by_segment(model: str, arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """Attempts, erased ones and AUC of each segment."""
    rows = []
    for arm in arms:
        cells, plain = cells_of(arm, "erased"), auc_by_segment(arm, "plain")
        made, erased = added(cell["attempts"] for cell in cells), added(cell["erased"] for cell in cells)
        counts = zip_longest(made, erased, auc_by_segment(arm, "erased"), plain[: len(made)])
        for n, (attempts, gone, auc, auc_plain) in enumerate(counts, 1):
            row = {"task": model, "algorithm": arm.algorithm, "segment": n, "attempts": attempts, "erased": gone}
            rows.append(row | {"rate": gone / attempts, "auc plain": auc_plain, "auc erased": auc})
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


def segment_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The numbers of the charts by segment."""
    names = ["task", "algorithm", "segment", "attempts", "erased", "rate", "auc plain", "auc erased"]
    columns = ["task", "algorithm", "segment", "attempts", "erased", "share erased", "AUC of U, plain"]
    lines = [Row([row[name] for name in names], row["task"], row["algorithm"]) for row in rows]
    return Table("anatomy-segments", "Erasing by segment", [*columns, "AUC of U, erased"], lines)


def attempt_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The numbers of the chart of attempts."""
    names = ["task", "algorithm", "attempts", "segments", "share"]
    lines = [Row([row[name] for name in names], row["task"], row["algorithm"]) for row in rows]
    columns = ["task", "algorithm", "attempts until kept", "segments", "share of segments"]
    return Table("anatomy-attempts", "Attempts until a segment was kept", columns, lines)


def sample_table(models: dict[str, list[Arm]]) -> Table:
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
                    rows.append(Row([model, arm.algorithm, benchmark, mode, *means, auc], model, arm.algorithm))
    columns = ["task", "algorithm", "benchmark", "sampling", "erasures a sample", "erased tokens a sample", "AUC of U"]
    return Table("anatomy-samples", "Erasing by sample", columns, rows)
