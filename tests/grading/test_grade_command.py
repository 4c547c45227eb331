"""`python -m replication.grade`: output, summary, and errors that name the file, the line and the remedy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "replication.grade", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=60)


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
        ("\n", "is empty"),
        (None, "cannot be read"),
    ],
    ids=["not JSON", "not an object", "missing field", "not a string", "empty", "missing file"],
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
