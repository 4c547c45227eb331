"""The anatomy of erasing, by hand."""

import json

import pytest

from replication.evaluation import anatomy as module
from replication.evaluation.anatomy import anatomy
from replication.evaluation.samples import write_samples


def sample(problem, verdict, *attempts):
    return {"problem": problem, "verdict": verdict, "attempts": [list(attempt) for attempt in attempts]}


ROWS = [
    sample("a", "correct", (0, 1, 2.0, 1.0, True), (0, 2, 0.5, 1.3, False), (1, 1, 0.1, 1.0, False)),
    sample("a", "wrong", (0, 1, 0.7, 1.0, False), (1, 1, 0.1, 1.0, False), (2, 1, 0.9, None, False)),
    sample("b", "no answer", (0, 1, 3.0, 1.0, True), (0, 2, 2.0, 1.3, True), (0, 3, 0.2, 1.7, False)),
    sample("b", "correct", (0, 1, 0.4, 1.0, False), (1, 1, 0.3, 1.0, False)),
]


def test_counts_and_auc_by_hand():
    found = anatomy(ROWS)
    assert found["attempts"] == [7, 3, 1] and found["erased"] == [3, 0, 0]
    assert found["needed"] == [6, 1, 1]  # segments kept at the first, second and third attempt
    # segment 0: the wrong one lies above the right one in a, below it in b; segment 1: a tie in a, no wrong one in b
    assert [(s["auc"], s["pairs"]) for s in found["auc"]] == [(0.5, 2), (0.5, 1), (None, 0)]
    assert anatomy(ROWS[2:])["auc"][0] == {"auc": 0.0, "pairs": 1}


def test_only_judged_attempts_are_points_and_not_too_many(monkeypatch):
    found = anatomy(ROWS)
    assert found["judged"] == len(found["points"]) == 10 and found["points"][0] == [0, 1, 2.0, 1.0, True]
    monkeypatch.setattr(module, "POINTS", 4)
    assert [p[2] for p in anatomy(ROWS)["points"]] == [2.0, 0.7, 2.0, 0.3]  # every third


@pytest.mark.parametrize("kept", [True, False])
def test_an_evaluation_without_attempts_has_no_anatomy(tmp_path, kept):
    rest = {"benchmark": "held", "mode": "erased", "answer": "1", "tokens": 3, "erased_tokens": 0, "erasures": 0}
    rows = [{**row, **rest, "uncertainty": 0.5, "ended": True} for row in ROWS]
    if not kept:
        del rows[1]["attempts"]
    write_samples(tmp_path, rows)
    assert (tmp_path / "anatomy.json").exists() is kept
    if kept:
        assert json.loads((tmp_path / "anatomy.json").read_text())["held"]["erased"]["needed"] == [6, 1, 1]
