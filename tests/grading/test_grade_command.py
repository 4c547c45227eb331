"""`python -m replication.grade`: output, summary, and errors that name the file, the line and the remedy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "replication.grade", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=600)


def test_rows_keep_their_fields_and_gain_a_verdict(tmp_path: Path) -> None:
    rows = [
        {"gold": "5", "prediction": r"\boxed{5}", "id": 7},
        {"gold": "x+1", "prediction": r"\boxed{1+x}"},
        {"gold": "5", "prediction": r"\boxed{6}"},
        {"gold": "5", "prediction": "5"},
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    done = run(tmp_path / "in.jsonl", "--out", tmp_path / "new" / "out.jsonl", "--workers", "1", "--time-limit", "2")
    assert done.returncode == 0, done.stderr
    assert "4 graded: 2 correct, 1 wrong, 1 no answer, 0 timed out" in done.stdout
    graded = [json.loads(line) for line in (tmp_path / "new" / "out.jsonl").read_text().splitlines()]
    assert [row["verdict"] for row in graded] == ["correct", "correct", "wrong", "no answer"]
    assert [row["answer"] for row in graded] == ["5", "1+x", "6", None]
    assert [row["reason"] for row in graded[:2]] == ["exact", "math-verify"]
    assert graded[0]["id"] == 7 and all(row["seconds"] >= 0 for row in graded)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.jsonl"]
    assert "4/4" in done.stderr


GOOD = json.dumps({"gold": "5", "prediction": "6"})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (f"{GOOD}\n{{oops\n", "line 2 is not JSON"),
        (f"{GOOD}\n[1]\n", "line 2 is not an object"),
        (f'{GOOD}\n\n{{"gold": "5"}}\n', "line 3: `prediction` is missing"),
        ('{"gold": 5, "prediction": "5"}\n', "line 1: `gold` is 5: give it as a string"),
        ('{"gold": "5", "text": "5", "tolerance": "x"}\n', "line 1: `tolerance` is 'x': give it as a number"),
        ("\n", "is empty"),
        (None, "cannot be read"),
    ],
    ids=["not JSON", "not an object", "missing field", "not a string", "tolerance", "empty", "missing file"],
)
def test_bad_input_is_named_and_writes_nothing(tmp_path: Path, content: str | None, told: str) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    if content is not None:
        source.write_text(content)
    out.write_text("as it was\n")
    done = run(source, "--out", out)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {source}") and told in done.stderr and done.stderr.count("\n") == 1
    assert out.read_text() == "as it was\n" and {path.name for path in tmp_path.iterdir()} <= {"in.jsonl", "out.jsonl"}


@pytest.mark.parametrize("options", [("--workers", "0"), ("--time-limit", "0"), ("--time-limit", "nan")])
def test_bad_options_are_named(tmp_path: Path, options: tuple[str, str]) -> None:
    done = run(tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl", *options)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {options[0]}")


def test_what_was_graded_before_is_compared(tmp_path: Path) -> None:
    rows = [
        {"gold": "5", "prediction": r"\boxed{5}", "verdict": "wrong"},
        {"gold": "5", "text": r"\boxed{6}", "verdict": "wrong"},
        {"gold": "4.2", "text": r"\boxed{4.3}", "verdict": "wrong", "tolerance": 0.1},
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = run(tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "wrong -> correct: 2" and lines[1].startswith("  row 1: reference '5', answer '5'")
    assert lines[2].startswith("  row 3: reference '4.2'") and lines[3] == "of 3 graded before, 2 changed"
    graded = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["verdict"] for row in graded] == ["correct", "wrong", "correct"]


def test_an_evaluation_is_graded_again_with_its_metrics(tmp_path: Path) -> None:
    cell = {"benchmark": "held", "mode": "plain", "problem": "p", "gold": "5", "tolerance": None, "answer": "5"}
    spent = {"tokens": 4, "erased_tokens": 0, "erasures": 0, "uncertainty": 1.0, "ended": True}
    texts = {0: r"\boxed{5}", 1: r"\boxed{6}"}
    rows = [{**cell, **spent, "sample": i, "text": text, "verdict": "wrong"} for i, text in texts.items()]
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(tmp_path / "old", "--out", tmp_path / "new")
    assert done.returncode == 0 and "of 2 graded before, 1 changed" in done.stdout, done.stderr
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"samples.jsonl", "problems.jsonl", "metrics.json"}
    assert json.loads((tmp_path / "new" / "metrics.json").read_text())["held"]["plain"]["avg"] == 0.5
    again = run(tmp_path / "new", "--out", tmp_path / "third")
    assert "of 2 graded before, 0 changed" in again.stdout
    assert (tmp_path / "third" / "samples.jsonl").read_text() == (tmp_path / "new" / "samples.jsonl").read_text()
