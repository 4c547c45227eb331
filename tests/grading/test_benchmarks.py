"""Agreement on public benchmarks: references with themselves, and not with the next problem's (local files)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from replication.grading.pool import Graded, Grader

BENCHMARKS = Path(__file__).parents[2].parent / "shared" / "data" / "benchmarks"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BENCHMARKS.exists(), reason="the shared benchmarks are not on this machine"),
]


def read(name: str) -> list[tuple[str, str]]:
    """(reference, completion that states it): the solution where it boxes the answer, else the reference in a box."""
    rows = [json.loads(line) for line in (BENCHMARKS / f"{name}.jsonl").read_text().splitlines()]
    pairs = []
    for row in rows:
        answer = row["answer"] if isinstance(row["answer"], str) else ", ".join(row["answer"])
        pairs.append((answer, rf"\boxed{{{answer}}}" if name == "olympiadbench" else row["solution"]))
    return pairs


def grade(pairs: list[tuple[str, str]]) -> list[Graded]:
    with Grader() as grader:
        return grader.grade_many(pairs)


@pytest.mark.parametrize("name", ["math500", "minerva", "olympiadbench"])
def test_references_agree_with_themselves(name: str) -> None:
    pairs = read(name)
    missed = [pair for pair, graded in zip(pairs, grade(pairs), strict=True) if not graded.reward]
    assert len(missed) <= 0.005 * len(pairs), missed


def test_every_aime_solution_that_boxes_an_answer_is_correct() -> None:
    pairs = read("aime24")
    assert [pair for pair, graded in zip(pairs, grade(pairs), strict=True) if not graded.reward] == []


@pytest.mark.parametrize("name", ["math500", "minerva", "olympiadbench"])
def test_the_next_problems_reference_is_wrong(name: str) -> None:
    golds = [gold for gold, _ in read(name)]
    shifted = [
        (gold, rf"\boxed{{{following}}}")
        for gold, following in zip(golds, golds[1:] + golds[:1], strict=True)
        if gold != following
    ]
    passed = [pair for pair, graded in zip(shifted, grade(shifted), strict=True) if graded.reward]
    assert len(passed) <= 0.005 * len(golds), passed
