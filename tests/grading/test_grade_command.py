"""`python -m replication.grade`: output, summary, and errors that name the file, the line and the remedy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from replication import grade
from replication.errors import run_command

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process, with what a process of its own would give."""

    def command(*arguments: str | Path) -> CompletedProcess[str]:
        argv = ["grade", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", argv)
        code = 0
        try:
            run_command(grade.main)
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        return CompletedProcess(argv, code, *capsys.readouterr())

    return command


def test_it_is_a_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "replication.grade", tmp_path / "none.jsonl", "--out", tmp_path / "out.jsonl"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 2 and done.stderr.startswith(f"error: {tmp_path}/none.jsonl cannot be read")


def test_rows_keep_their_fields_and_gain_a_verdict(run: Run, tmp_path: Path) -> None:
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


def row(**fields: object) -> str:
    """A row of predictions with these fields beside, or in place of, good ones."""
    return json.dumps({"gold": "5", "prediction": "6"} | fields) + "\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (f"{GOOD}\n{{oops\n", "line 2 is not JSON"),
        (f"{GOOD}\n[1]\n", "line 2 is not an object"),
        ("null\n", "line 1 is not an object"),
        ("[" * 100_000, "line 1 is not JSON (nested too deeply)"),
        (GOOD.replace('"5"', "1" * 5000), "line 1 is not JSON (an integer of more digits than Python reads)"),
        (f'{GOOD}\n\n{{"gold": "5"}}\n', "line 3: `prediction` is missing"),
        (row(gold=5), "line 1: `gold` is 5: give it as a string"),
        (row(gold=["5"]), "line 1: `gold` is ['5']: give it as a string"),
        (row(gold=""), "line 1: `gold`: empty, where an answer must stand: give the answer alone"),
        (row(gold="He has many apples. " * 9), "line 1: `gold`: 36 words, none marked as the answer"),
        (row(gold="\ud800"), "line 1: `gold`: holds half of a surrogate pair"),
        (row(prediction=None), "line 1: `prediction` is null: give it as a string"),
        ('{"gold": "5", "text": 5}\n', "line 1: `text` is 5: give it as a string"),
        ('{"gold": "5", "text": "5", "tolerance": "x"}\n', "line 1: `tolerance` is 'x': give it as a number"),
        (row(tolerance=float("nan")), "line 1: `tolerance` is nan: give it as a number"),
        ("\n", "is empty"),
        ("\udcff", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_bad_input_is_named_and_writes_nothing(run: Run, tmp_path: Path, content: str | None, told: str) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    if content is not None:
        source.write_text(content, errors="surrogateescape")
    out.write_text("as it was\n")
    done = run(source, "--out", out)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {source}") and told in done.stderr and done.stderr.count("\n") == 1
    assert out.read_text() == "as it was\n" and {path.name for path in tmp_path.iterdir()} <= {"in.jsonl", "out.jsonl"}


def test_a_whole_solution_counts_by_the_answer_that_it_marks(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(
        row(gold="He has 4+1=5 apples.\n#### 5", prediction=r"\boxed{5}") + row(gold=r"so $\boxed{x}$", prediction="x")
    )
    done = run(tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl")
    assert "2 graded: 1 correct, 0 wrong, 1 no answer" in done.stdout, done.stderr
    graded = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert graded[0]["gold"] == "He has 4+1=5 apples.\n#### 5"  # as it was


def test_nothing_that_is_no_file_is_replaced(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(GOOD)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for place in ("pipe", "null"):
        done = run(source, "--out", tmp_path / place)
        assert done.returncode == 2 and f"--out {tmp_path / place} is a device, a pipe or a socket" in done.stderr
    assert (tmp_path / "pipe").is_fifo() and Path("/dev/null").is_char_device()
    (tmp_path / "link").symlink_to("aim.jsonl")
    assert run(source, "--out", tmp_path / "link").returncode == 0
    assert (tmp_path / "link").is_symlink() and '"verdict"' in (tmp_path / "aim.jsonl").read_text()


def test_the_input_is_never_replaced(run: Run, tmp_path: Path) -> None:
    source, folder = tmp_path / "in.jsonl", tmp_path / "runs"
    source.write_text(GOOD)
    (tmp_path / "link").symlink_to(source)
    for out in (source, tmp_path / "link"):
        done = run(source, "--out", out)
        assert done.returncode == 2 and done.stderr == (
            f"error: --out {out} is the input, which would be lost: name another place\n"
        )
    assert source.read_text() == GOOD
    folder.mkdir()
    (folder / "samples.jsonl").write_text(json.dumps(SAMPLE) + "\n")
    done = run(folder, "--out", folder)
    assert done.returncode == 2 and f"--out {folder} is the input" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["samples.jsonl"]


SAMPLE = {"benchmark": "held", "mode": "plain", "problem": "p", "sample": 0, "gold": "5", "tolerance": None}
SAMPLE |= {"answer": "5", "tokens": 4, "erased_tokens": 0, "erasures": 0, "uncertainty": 1.0, "ended": True}
SAMPLE |= {"text": r"\boxed{5}", "verdict": "wrong"}


@pytest.mark.parametrize("options", [("--workers", "0"), ("--time-limit", "0"), ("--time-limit", "nan")])
def test_bad_options_are_named(run: Run, tmp_path: Path, options: tuple[str, str]) -> None:
    done = run(tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl", *options)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {options[0]}")


def test_what_was_graded_before_is_compared(run: Run, tmp_path: Path) -> None:
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


def test_an_evaluation_is_graded_again_with_its_metrics(run: Run, tmp_path: Path) -> None:
    rows = [SAMPLE, SAMPLE | {"sample": 1, "text": r"\boxed{6}"}]
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(tmp_path / "old", "--out", tmp_path / "new")
    assert done.returncode == 0 and "of 2 graded before, 1 changed" in done.stdout, done.stderr
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"samples.jsonl", "problems.jsonl", "metrics.json"}
    assert json.loads((tmp_path / "new" / "metrics.json").read_text())["held"]["plain"]["avg"] == 0.5
    again = run(tmp_path / "new", "--out", tmp_path / "third")
    assert "of 2 graded before, 0 changed" in again.stdout
    assert (tmp_path / "third" / "samples.jsonl").read_text() == (tmp_path / "new" / "samples.jsonl").read_text()


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("tokens", float("nan"), "sample 2: `tokens` is NaN, not a whole number"),
        ("tokens", "5", 'sample 2: `tokens` is "5", not a whole number'),
        ("erased_tokens", None, "sample 2: `erased_tokens` is null, not a whole number"),
        ("uncertainty", "high", 'sample 2: `uncertainty` is "high", not a number'),
        ("answer", 5, "sample 2: `answer` is 5, not a text or null"),
        ("gold", 5, "sample 2: `gold` is 5, not a text"),
        ("text", ..., "line 2: `prediction` is missing: give it as a string"),
    ],
)
def test_a_damaged_evaluation_is_named_and_writes_nothing(run: Run, tmp_path: Path, field, value, told) -> None:
    damaged = {key: kept for key, kept in (SAMPLE | {"sample": 1, field: value}).items() if kept is not ...}
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (SAMPLE, damaged)))
    done = run(tmp_path / "old", "--out", tmp_path / "new")
    assert done.returncode == 2 and done.stderr.startswith(f"error: {tmp_path}/old/samples.jsonl"), done.stderr
    assert told in done.stderr and done.stderr.count("\n") == 1 and not (tmp_path / "new").exists()
