"""Where a command writes if no --out says: a run by hand never takes the place of the pipeline's."""

import json
import re
import shlex

import pytest
import yaml
from commands import ROOT

from replication import evaluate, fit, prepare
from replication.cli import load_run
from replication.errors import UserError

SETTINGS = {
    "matrix": {"bases": ["tiny"], "models": ["tiny"], "algorithms": ["e3rl"], "seeds": [0]},
    "models": {
        "tiny": {"data": {"task": "recurrence"}, "train": {"steps": 100}},
        "other": {"data": {"task": "recurrence"}},
    },
    "algorithms": {"e3rl": {}, "grpo": {}},
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.joinpath("params.yaml").write_text(yaml.safe_dump(SETTINGS))
    tmp_path.joinpath("mine.yaml").write_text(yaml.safe_dump(SETTINGS))
    return tmp_path


def trained(flags=""):
    return str(fit.out_of(load_run([*fit.SECTIONS, "grading"], shlex.split(flags), fit.OPTIONS)))


def evaluated(flags=""):
    return str(evaluate.out_of(load_run([*evaluate.SECTIONS, "grading"], shlex.split(flags), evaluate.OPTIONS)))


@pytest.mark.parametrize(
    "flags", ["", "--train.steps 100", "--data data/tiny", "--train.micro_rows 7", "--params ./params.yaml"]
)
def test_the_pipelines_own_run_lies_where_the_pipeline_has_it(place, flags):
    """The steps are those of the file, and micro_rows only moves memory."""
    assert trained(flags) == "runs/train/tiny/e3rl/0"


@pytest.mark.parametrize("flags", ["--erasure.cap 3", "--train.steps 7", "--data elsewhere", "--params mine.yaml"])
def test_any_other_training_lies_apart_and_each_in_its_own_folder(place, flags):
    found = trained(f"--seed 4 {flags}")
    assert re.fullmatch(r"runs/hand/train/tiny/e3rl/4/[0-9a-f]{8}", found)
    assert trained(f"--seed 4 {flags}") == found != trained(f"--seed 4 {flags} --train.lr 0.5")
    assert trained(f"{flags} --rollout.max_rows 512 --seed 4") == found  # so that it goes on from its checkpoint
    assert trained(f"{flags} --out here") == "here"


def test_an_evaluation_of_what_is_not_the_pipelines_lies_apart(place):
    for folder in ("runs/train/tiny/e3rl/0", "runs/hand/train/tiny/e3rl/0/12345678"):
        (place / folder).mkdir(parents=True)
        (place / folder / "run.json").write_text(json.dumps({"algorithm": "e3rl", "seed": 0}))
    assert evaluated() == "runs/evaluate/tiny/untrained/0"
    assert evaluated("--checkpoint runs/train/tiny/e3rl/0/") == "runs/evaluate/tiny/e3rl/0"
    apart = re.compile(r"runs/hand/evaluate/tiny/(untrained|e3rl)/0/[0-9a-f]{8}")
    found = {
        evaluated("--checkpoint runs/hand/train/tiny/e3rl/0/12345678"),
        evaluated("--checkpoint runs/train/tiny/e3rl/0 --evaluate.temperature 0.5"),
        evaluated("--evaluate.temperature 0.5"),
        evaluated("--grading.time_limit 0.5"),
        evaluated("--data elsewhere"),
    }
    assert len(found) == 5 and all(apart.fullmatch(path) for path in found)


def test_data_of_other_settings_do_not_take_the_place_of_the_pipelines(place, monkeypatch):
    def prepared(*flags):
        monkeypatch.setattr("sys.argv", ["prepare", *flags])
        prepare.main()

    few = ["--data.train_problems=4", "--data.heldout_problems=2"]
    with pytest.raises(UserError, match=r"data/tiny is the pipeline's, .* by --out"):
        prepared(*few)
    assert not (place / "data").exists()
    prepared(*few, "--model=other")  # of no stage
    prepared(*few, "--out=mine")
    assert (place / "data/other").exists() and (place / "mine").exists()


def test_the_commands_of_the_docs_leave_the_pipelines_runs_alone(monkeypatch):
    monkeypatch.chdir(ROOT / "tests")
    text = (ROOT / "docs/running.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"^python -m replication\.fit +(.*?) *(?:#.*)?$", text, re.MULTILINE)
    assert len(commands) >= 2
    for command in commands:
        assert trained(command).startswith("runs/train/") == (not re.search(r"--(?!model|algorithm|seed)", command))
