from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from replication import prepare
from replication.data.prepared import read_benchmarks, read_train
from replication.errors import run_command

ROOT = Path(__file__).parents[2]
SHA = "5cf055d1fe3d7a2eb19719ac020211469736ae44"


@pytest.fixture
def project(tmp_path, monkeypatch, write):
    """A folder with params.yaml, 40 training problems of which 5 must go, and two benchmarks; the working directory."""
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"What is ${i} + {i}$?", "final_answer": str(2 * i), "difficulty": 5.0} for i in range(36)]
    rows += [
        {"question": "what is $1+1$", "final_answer": "2"},  # a duplicate
        {"question": "What is  $2+2$?", "final_answer": "5"},  # conflicts with row 3
        {"question": "Let $\\left( x \\right)\\, = 4$. Find $x$.", "final_answer": "4"},  # in aime
        {"question": "Name the first prime.", "final_answer": "2"},  # in amc
    ]
    write("train.jsonl", [{"topic": "Algebra", "r1_solution_1": "..."} | row for row in rows])
    write("aime.jsonl", [{"problem": "Let $(x)=4$. Find $x$", "answer": 4}, {"problem": "Why?", "answer": 7}])
    write("amc.parquet", [{"question": "NAME the first prime.", "final_answer": "2"}])
    solution = "First she sold 48 clips. Then she sold half as many. Altogether she sold 72."
    write("solutions.jsonl", [{"question": "How many?", "topic": solution}])
    data = {
        "task": "files",
        "train_problems": 20,
        "train": {"path": "train.jsonl"},
        "benchmarks": {
            "aime": {"path": "aime.jsonl", "columns": {"question": "problem", "final_answer": "answer"}},
            "amc": {"path": "amc.parquet"},
        },
    }
    models = {"tiny": {"data": data}, "q4b": {"data": data}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"models": models, "algorithms": {}}, sort_keys=False))
    return tmp_path


def run(monkeypatch, *flags):
    monkeypatch.setattr(sys, "argv", ["prepare", "--model", "tiny", *flags])
    run_command(prepare.main)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_are_cleaned_drawn_and_written(project, monkeypatch, capsys):
    run(monkeypatch)
    train, benchmarks = read_train(project / "data/tiny"), read_benchmarks(project / "data/tiny")
    manifest = json.loads((project / "data/tiny/manifest.json").read_text())
    counts = manifest["counts"]
    assert counts == {
        "read": 40,
        "duplicate": 1,
        "conflicting": 2,
        "contaminated": {"aime": 1, "amc": 1},
        "left": 35,
        "drawn": 20,
        "benchmarks": {"aime": 2, "amc": 1},
    }
    assert counts["read"] == counts["left"] + 1 + 2 + sum(counts["contaminated"].values())
    rows = [int(problem.id.removeprefix("train-")) for problem in train]
    assert len(rows) == 20 and rows == sorted(set(rows)) and not {3, 37, 38, 39, 40} & set(rows)
    assert train[0].topic == "Algebra" and train[0].difficulty == 5.0
    assert [problem.final_answer for problem in benchmarks["aime"]] == ["4", "7"]
    removed = [json.loads(line) for line in (project / "data/tiny/removed.jsonl").read_text().splitlines()]
    assert removed == [
        {"id": "train-3", "reason": "conflicting", "match": "train-38"},
        {"id": "train-37", "reason": "duplicate", "match": "train-2"},
        {"id": "train-38", "reason": "conflicting", "match": "train-3"},
        {"id": "train-39", "reason": "exact", "match": "aime-1"},
        {"id": "train-40", "reason": "exact", "match": "amc-1"},
    ]
    assert manifest["seed"] == 0 and manifest["train_problems"] == 20
    for name, source in {"train": manifest["sources"]["train"], **manifest["sources"]["benchmarks"]}.items():
        assert source["sha256"] == hashlib.sha256((project / source["path"]).read_bytes()).hexdigest(), name
    assert capsys.readouterr().out.splitlines() == [
        "data/tiny: 20 training problems (of 40 read, less 1 duplicate, 2 conflicting and 2 benchmark problems);"
        " aime 2, amc 1",
        "  train-1: What is $0 + 0$? -> 0",
        "  train-2: What is $1 + 1$? -> 2",
        "  train-3: What is $2 + 2$? -> 4",
        "  aime-1: Let $(x)=4$. Find $x$ -> 4",
        "  aime-2: Why? -> 7",
        "  amc-1: NAME the first prime. -> 2",
    ]


def test_what_was_taken_out_of_solutions_is_shown(project, write, monkeypatch, capsys):
    """So that a person sees at once where the wrong column is taken."""
    long = "Natalia sold clips to 48 of her friends, and then to half as many more; how many is that?\n\x1b[31m"
    rows = [
        {"question": long, "answer": "She sold 48/2 = <<48/2=24>>24 clips more.\nThat is 48+24 = 72 in all.\n#### 72"},
        {"question": "Why?", "answer": [1, 2]},
        {"question": "How?", "answer": "$x$"},
        {"question": "Not shown?", "answer": "4"},
    ]
    columns = {"final_answer": "answer"}
    train = json.dumps({"path": write("gsm8k.jsonl", rows), "columns": columns})
    run(monkeypatch, "--data.train", train, "--data.benchmarks", "{}")
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  train-1: Natalia sold clips to 48 of her friends, and then to half as... -> 72"
        ", out of: ...s more. That is 48+24 = 72 in all. #### 72",
        "  train-2: Why? -> 1, 2, out of: [1, 2]",
        "  train-3: How? -> x, out of: $x$",
    ]
    assert [problem.final_answer for problem in read_train(project / "data/tiny")] == ["72", "1, 2", "x", "4"]


def test_the_same_input_gives_the_same_bytes_and_another_seed_others(project, monkeypatch):
    run(monkeypatch)
    first = contents(project / "data/tiny")
    run(monkeypatch)
    assert contents(project / "data/tiny") == first
    run(monkeypatch, "--data.seed", "1", "--out", "elsewhere/seed1")
    other = contents(project / "elsewhere/seed1")
    assert other["train.jsonl"] != first["train.jsonl"]
    assert other["benchmarks/aime.jsonl"] == first["benchmarks/aime.jsonl"]


def test_too_few_problems_are_all_kept_and_said(project, monkeypatch, capsys):
    run(monkeypatch, "--data.train_problems", "36")
    assert len(read_train(project / "data/tiny")) == 35
    assert "fewer than data.train_problems = 36, so all are kept" in capsys.readouterr().out
    run(monkeypatch, "--data.train_problems", "35")
    assert "fewer" not in capsys.readouterr().out


def test_the_folder_is_named_by_the_section(project, monkeypatch):
    run(monkeypatch, "--model", "4b")
    assert [path.name for path in (project / "data").iterdir()] == ["q4b"]


def test_a_synthetic_task_gives_disjoint_problems(project, monkeypatch, capsys):
    sizes = ["--data.train_problems", "30", "--data.heldout_problems", "10", "--data.steps", "5"]
    run(monkeypatch, "--data.task", "recurrence", *sizes)
    train, heldout = read_train(project / "data/tiny"), read_benchmarks(project / "data/tiny")["heldout"]
    assert (len(train), len(heldout)) == (30, 10)
    assert not {problem.question for problem in train} & {problem.question for problem in heldout}
    manifest = json.loads((project / "data/tiny/manifest.json").read_text())
    assert (manifest["task"], manifest["seed"], manifest["steps"]) == ("recurrence", 0, 5)
    assert manifest["counts"] == {"drawn": 30, "benchmarks": {"heldout": 10}}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "data/tiny: 30 training problems (of the task recurrence); heldout 10" and len(lines) == 7
    assert lines[1] == f"  {train[0].id}: {train[0].question} -> {train[0].final_answer}"
    assert lines[6].startswith(f"  {heldout[2].id}: ")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data.train.path", "gone.jsonl"], ["gone.jsonl", "does not exist", "data.train.path"]),
        (["--data.train.path", "zwhe99/DeepMath-103K"], ["zwhe99/DeepMath-103K", "pin", "data.train.revision"]),
        (["--data.train", "null"], ["data.train is not set"]),
        (["--data.train.path", "amc.parquet"], ["amc.parquet", "none is left"]),
        (
            ["--data.benchmarks", '{"a": {"path": "aime.jsonl"}}'],
            ["aime.jsonl, row 1", "'question'", "problem, answer"],
        ),
        (["--out", "params.yaml"], ["params.yaml", "--out"]),
        (
            ["--data.train.columns", '{"final_answer": "topic"}', "--data.train.path", "solutions.jsonl"],
            ["solutions.jsonl, row 1, column 'topic'", "13 words", "another column by data.train.columns"],
        ),
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(project, monkeypatch, capsys, flags, words):
    before = contents(project)
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, *flags)
    output = capsys.readouterr()
    assert error.value.code == 2 and output.out == ""
    assert output.err.count("\n") == 1 and output.err.startswith("error: ")
    assert all(word in output.err for word in words), output.err
    assert contents(project) == before and not (project / "data").exists()


SCRIPT = """
import sys
from replication import prepare
from replication.errors import run_command

sys.argv = ["prepare"]
run_command(prepare.main)
assert "datasets" not in sys.modules
sys.argv += ["--data.train.path", "zwhe99/DeepMath-103K", "--data.train.revision", "SHA", "--out", "hub"]
run_command(prepare.main)
"""


def test_local_files_need_no_hub_client_and_a_hub_without_a_network_is_one_line(project):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(project / "hf")}
    command = [sys.executable, "-c", SCRIPT.replace("SHA", SHA)]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("data/tiny: 20 training problems") and "cannot be loaded" not in done.stdout
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert SHA in done.stderr and "cannot be loaded" in done.stderr
    assert not (project / "hub").exists()
