"""The paper's rows beside ours, and what is published of the untrained models."""

import csv
import io
import json
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from made_up_runs import write_evaluation

from replication import report
from replication.config import profiles
from replication.evaluation.statistics import Interval
from replication.reporting import html, metrics
from replication.reporting.paper import paper_table

ROOT = Path(__file__).parents[2]


def test_a_row_of_the_paper_that_was_run_is_judged():
    def reported(mode):
        key = {"model": "q4b", "algorithm": "e3rl", "benchmark": "aime24", "mode": mode, "metric": "avg"}
        return {**key, "what": mode, "claim": "Avg@32", "value": 0.5, "source": "R", "resolution": 0.05}

    found = {"q4b": {"e3rl": {"aime24": {"plain": {"avg": {"mean": 0.49, "low": 0.46, "high": 0.52}}}}}}
    plain, erased = (row.values for row in paper_table(found, [reported("plain"), reported("erased")]).rows)
    assert plain[-2:] == [Interval(0.49, 0.46, 0.52), "reproduced"] and erased[-2:] == [None, "not run here"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A made-up Qwen3-4B: AIME 2024 sampled as published and as good, AIME 2025 worse, MATH-500 sampled otherwise."""
    folder = tmp_path_factory.mktemp("published")
    thinking = {"profile": "qwen3_thinking", "thinking": True, "truncated": 0.125}
    solved = {"aime24": 22, "aime25": 12, "math500": 20}
    cells = {name: {"plain": [[1, 1]] * right + [[0, 0]] * (30 - right)} for name, right in solved.items()}
    how = {"aime24": thinking, "aime25": thinking, "math500": {"profile": "own", "thinking": False, "truncated": 0.0}}
    write_evaluation(folder / "runs/evaluate/q4b/untrained/0", cells, how)
    matrix = {"bases": ["q4b"], "models": [], "algorithms": [], "seeds": [0]}
    (folder / "params.yaml").write_text(json.dumps({"models": {"q4b": {}}, "algorithms": {}, "matrix": matrix}))
    (folder / "reports").mkdir()
    shutil.copy(ROOT / html.REFERENCE, folder / html.REFERENCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["report"])
        report.main()
    return folder / "reports"


def table(page, name):
    text = (page / "index.html").read_text()
    link = re.search(rf'download="{name}\.csv" href="data:text/csv;charset=utf-8,([^"]*)"', text)
    return list(csv.DictReader(io.StringIO(unquote(link[1]))))


def test_what_is_published_is_beside_ours(page):
    rows = table(page, "published")
    words = {(row["what is published"], row["profile"]): row["ours is"] for row in rows}
    assert len(rows) == len(json.loads((ROOT / html.REFERENCE).read_text())["published"]) == 13
    assert words["Qwen3-4B, AIME 2024", "qwen3_thinking"] == "within the interval of theirs"
    assert words["Qwen3-4B, AIME 2025", "qwen3_thinking"] == "outside the interval of theirs"
    assert words["Qwen3-4B, AIME 2024", "qwen3_plain"] == "of another kind: qwen3_thinking, thinking on"
    assert words["Qwen3-4B, AIME 2025", "not stated"] == "of another kind: qwen3_thinking, thinking on"
    assert words["Qwen3-4B, MATH-500", "qwen3_thinking"] == "of another kind: own, thinking off"
    assert {word for (what, _), word in words.items() if "8B" in what} == {"not run here"}
    first = rows[0]
    assert (first["thinking"], first["theirs"], first["ours"]) == ("on", "0.738", str(22 / 30))
    assert float(first["theirs, low"]) == pytest.approx(0.718, abs=5e-4)
    assert float(first["theirs, high"]) == pytest.approx(0.757, abs=5e-4), "of 64 x 30 draws"
    assert "table 17" in first["source"] and "1.5" in rows[6]["theirs differs by"]


def test_every_row_says_how_it_was_sampled(page):
    found = {r["benchmark"]: (r["profile"], r["thinking"], r["cut off"]) for r in table(page, "results")}
    assert metrics.OWN == profiles.OWN
    assert found["aime24"] == ("qwen3_thinking", "on", "0.125") and found["math500"] == ("own", "off", "0.0")
    text = (page / "report.md").read_text()
    assert "| profile | thinking | cut off |" in text and " | 0.733 | qwen3_thinking | on | 0.125 |" in text
    entry = json.loads((page / "metrics.json").read_text())["q4b"]["untrained"]["aime24"]["plain"]
    assert (entry["profile"], entry["thinking"], entry["truncated"]) == ("qwen3_thinking", True, 0.125)
