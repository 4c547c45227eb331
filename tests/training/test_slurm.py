"""Under a real SLURM, which the tests start: the scripts of docs/slurm.md as printed, stopped in the middle."""

import re

import pytest
import yaml
from commands import PARAMS, ROOT
from slurm_cluster import cluster, missing, until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]
STEPS = 40
FILES = ("samples.jsonl", "problems.jsonl", "metrics.json", "anatomy.json")
SCRIPTS = dict(
    re.findall(r"```bash\n(?=#!/bin/bash\n# (\w+\.sh))(.*?)```", (ROOT / "docs/slurm.md").read_text(), re.DOTALL)
)
EVALUATE = ("python", "-m", "replication.evaluate", "--model=tiny")
FIT = ("python", "-m", "replication.fit", "--model=tiny", "--trainer.strategy=ddp", "--trainer.devices=2")


@pytest.fixture(scope="module")
def place(workshop, tmp_path_factory):
    """A folder with the scripts, a short task, a policy that solves some of it, and settings of half a minute."""
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("data", "runs"):
        (folder / name).symlink_to(workshop / name)
    params = yaml.safe_load(PARAMS.read_text())
    tiny = params["models"]["tiny"]
    tiny["rollout"] |= {"group_size": 4, "max_rows": 4}
    tiny["train"] |= {"steps": STEPS, "prompts": 4, "checkpoint_every": 1000}
    tiny["trainer"]["logger"] = "none"
    tiny["evaluate"] |= {"samples": 16, "modes": ["plain", "erased"]}  # 16 chunks
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for name, text in SCRIPTS.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def slurm(place):
    with cluster(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1") as made:
        yield made


def submit(slurm, place, script):
    """The number of a job."""
    return slurm.run("sbatch", "--parsable", script, cwd=place).stdout.strip()


def ended(slurm, place, log, job):
    """Wait for a job's end, and return what it said."""
    until(lambda: slurm.state(job) not in ("PENDING", "RUNNING", "COMPLETING"), 600)
    said = (place / log).read_text()
    assert slurm.state(job) == "COMPLETED", said
    return said


def chunks(place):
    return list((place / ".scratch/evaluate").glob("*/*/*.jsonl"))


def test_an_evaluation_is_that_of_one_process_also_where_its_job_is_queued_again(slurm, place):
    slurm.run(*EVALUATE, "--out=whole", cwd=place)
    job = submit(slurm, place, "evaluate.sh")
    until(lambda: len(chunks(place)) > 2, 600)
    slurm.run("scontrol", "requeue", job, cwd=place)
    said = ended(slurm, place, "evaluate.log", job)
    assert "resuming after" in said and not chunks(place)
    slurm.run("srun", "-n", "2", *EVALUATE, "--out=srun", cwd=place)
    for name in FILES:
        whole = (place / "whole" / name).read_bytes()
        assert (place / "runs/shared" / name).read_bytes() == whole == (place / "srun" / name).read_bytes(), name


def is_at_work(log, starts):
    """Whether a training has begun so often, and made some steps since."""
    said = log.read_text() if log.exists() else ""
    *before, last = said.split("resuming from .scratch")
    return len(before) == starts - 1 and re.search(r" [1-9]\d*/[\d?]+ \[[^]]*reward=", last) is not None


def test_a_training_goes_on_to_the_same_numbers_after_a_signal_and_after_a_job_of_more_right(slurm, place):
    """SIGUSR1 as --signal sends it to the script, and the SIGTERM of a preemption: each saves the step it meets."""
    slurm.run(*FIT, "--out=two", cwd=place)
    job = submit(slurm, place, "fit.sh")
    log = place / "fit.log"
    high = ["sbatch", "--partition=high", "--nodes=2", "--exclusive", "--output=high.log", "--wrap=sleep 1"]
    for starts, stop in ((1, ["scancel", "--batch", "--signal=USR1", job]), (2, high)):
        until(lambda starts=starts: is_at_work(log, starts), 600)
        slurm.run(*stop, cwd=place)
    said = ended(slurm, place, "fit.log", job)
    kept = [int(number) for number in re.findall(r"resuming from \S+rollout=(\d+)\.ckpt", said)]
    assert len(kept) == 2 and 0 < kept[0] < kept[1] < STEPS, said
    for name in ("history.jsonl", "model.safetensors"):
        assert (place / "runs/cluster" / name).read_bytes() == (place / "two" / name).read_bytes(), name
