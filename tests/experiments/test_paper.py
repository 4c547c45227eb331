"""The paper's selection: what it would run, and what a small machine lacks for it."""

import subprocess
import sys

import pytest
import yaml
from commands import ROOT

from experiments.paper import ALGORITHMS, MODELS
from replication import evaluate
from replication.cli import load_run


def paper(*argv, cwd=ROOT):
    command = [sys.executable, "-m", "experiments.paper", *argv]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_the_selection_names_what_there_is():
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert set(MODELS) <= params["models"].keys() and set(ALGORITHMS) <= params["algorithms"].keys()
    for model in MODELS:
        section = params["models"][model]
        assert len(section["data"]["benchmarks"]) == 7
        pins = [section["data"]["train"], section["policy"], *section["data"]["benchmarks"].values()]
        assert all(len(pin["revision"]) == 40 for pin in pins)


@pytest.mark.parametrize("model", MODELS)
def test_the_profile_of_the_paper_is_what_its_models_have(model):
    flags = ["--params", str(ROOT / "params.yaml"), "--model", model]
    own = load_run(evaluate.SECTIONS, flags).config
    named = load_run(evaluate.SECTIONS, [*flags, "--evaluate.profile=paper"]).config
    assert named.profile_label() == "paper" and named.fingerprint("evaluate") != own.fingerprint("evaluate")
    named.evaluate.profile, named.evaluate.wording = "own", None  # the wording is the training's
    assert named == own


@pytest.mark.slow
def test_a_small_machine_is_told_all_that_is_missing():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = paper()
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and "--model 4b needs 8 CUDA GPUs" in line and "--model 8b needs" in line


@pytest.mark.slow
def test_a_dry_run_lists_every_command_and_changes_nothing(tmp_path):
    clone = tmp_path / "clone"  # DVC locks the repository that it works in
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    done = paper("--dry", cwd=clone)
    assert done.returncode == 0, done.stderr
    lines = [line.removeprefix("> ") for line in done.stdout.splitlines() if line.startswith("> ")]
    for model in MODELS:
        assert f"python -m replication.prepare --model {model}" in lines
        for algorithm in ALGORITHMS:
            assert f"python -m replication.fit --model {model} --algorithm {algorithm} --seed 0" in lines
            assert sum(f"--out runs/evaluate/{model}/{algorithm}/0" in line for line in lines) == 1
    assert lines[-1] == "python -m replication.report"
    changed = subprocess.run(["git", "status", "--short"], cwd=clone, capture_output=True, text=True).stdout
    assert changed == ""
