"""The report is of the matrix of params.yaml, whatever lies in runs/; what is missing of it is named."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from made_up_runs import write_run

from replication import report
from replication.cli import read_matrix
from replication.errors import UserError, run_command

MATRIX = {"bases": ["toy"], "models": ["toy"], "algorithms": ["e3rl", "grpo"], "seeds": [0, 1]}
PARAMS = {"models": {"toy": {}, "other": {}}, "algorithms": {"e3rl": {}, "grpo": {}, "dapo": {}}}


def write_params(folder, **changes):
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump({**PARAMS, "matrix": {**MATRIX, **changes}}))
    return path


@pytest.fixture
def place(tmp_path):
    """Runs of a matrix of two algorithms and two seeds."""
    write_run(tmp_path / "runs", "untrained", 0, [[0, 0], [1, 0]])
    for algorithm in ("e3rl", "grpo"):
        for seed in (0, 1):
            write_run(tmp_path / "runs", algorithm, seed, [[1, 0], [1, seed]])
    write_params(tmp_path)
    return tmp_path


def report_of(place, monkeypatch):
    """All that a report holds, as bytes."""
    flags = ["--runs", "runs", "--out", "reports"]
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["report", *flags])
    report.main()
    return {path.name: path.read_bytes() for path in (place / "reports").rglob("*") if path.is_file()}


def test_runs_that_are_left_over_do_not_count(place, monkeypatch):
    before = report_of(place, monkeypatch)
    assert before.keys() == {"report.md", "index.html", "metrics.json", "learning_curves_toy.png"}
    write_run(place / "runs", "grpo", 7, [[1, 1], [1, 1]])  # another seed, algorithm, and model
    write_run(place / "runs", "dapo", 0, [[1, 1], [1, 1]])
    for kind in ("evaluate", "train"):
        (place / "runs" / kind / "other/grpo").mkdir(parents=True)
        (place / "runs" / kind / "toy/grpo/7").rename(place / "runs" / kind / "other/grpo/0")
    write_run(place / "runs", "grpo", 7, [[1, 1], [1, 1]])
    assert report_of(place, monkeypatch) == before
    write_params(place, algorithms=["grpo"], seeds=[1])  # as `dvc exp run -S` writes it
    narrow = report_of(place, monkeypatch)
    assert json.loads(narrow["metrics.json"])["toy"].keys() == {"untrained", "grpo"} and narrow != before
    write_params(place)  # as `git checkout params.yaml` brings it back
    assert report_of(place, monkeypatch) == before


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("runs/train/toy/grpo/1/history.jsonl", "`python -m replication.fit --model toy --algorithm grpo --seed 1`"),
        (
            "runs/evaluate/toy/e3rl/0/metrics.json",
            "`python -m replication.evaluate --model toy --checkpoint runs/train/toy/e3rl/0`",
        ),
        ("runs/evaluate/toy/untrained/0/problems.jsonl", "`python -m replication.evaluate --model toy`"),
    ],
)
def test_a_missing_run_is_named_with_its_command(place, monkeypatch, gone, words):
    (place / gone).unlink()
    with pytest.raises(UserError) as error:
        report_of(place, monkeypatch)
    assert str(error.value).startswith(f"{gone} is missing") and words in str(error.value)
    assert "\n" not in str(error.value) and "`make repro`" in str(error.value)


@pytest.mark.parametrize(
    "name", ["train/toy/grpo/1/run.json", "train/toy/grpo/1/history.jsonl", "evaluate/toy/e3rl/0/metrics.json"]
)
def test_a_damaged_run_is_named_and_nothing_is_written(place, monkeypatch, capsys, name):
    path = place / "runs" / name
    path.write_text(path.read_text()[:9])
    monkeypatch.setattr(sys, "argv", ["report"])
    monkeypatch.chdir(place)
    with pytest.raises(SystemExit) as ended:
        run_command(report.main)
    told = capsys.readouterr().err
    assert ended.value.code == 2 and told.startswith(f"error: runs/{name} is damaged (") and told.count("\n") == 1
    assert (
        told.endswith(f": delete runs/{Path(name).parent} and run `make repro`\n") and not (place / "reports").exists()
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"algorithms": ["grpo", "nope"]},
            "matrix.algorithms: 'nope' is not in algorithms, which has dapo, e3rl, grpo",
        ),
        ({"bases": ["tony"]}, "matrix.bases: 'tony' is not in models"),
        ({"models": ["other"]}, "matrix.models: 'other' is not in matrix.bases"),
        ({"seeds": ["x"]}, "matrix.seeds: 'x' is not a whole number"),
        ({"seeds": 3}, "must map bases, models, algorithms, seeds to a list each"),
        ({"extra": []}, "must map"),
    ],
)
def test_a_bad_matrix_is_one_line(tmp_path, changes, words):
    with pytest.raises(UserError) as error:
        read_matrix(write_params(tmp_path, **changes))
    assert words in str(error.value) and str(tmp_path) in str(error.value) and "\n" not in str(error.value)
