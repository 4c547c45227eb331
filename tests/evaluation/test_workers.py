"""One evaluation by several processes, killed at will: the samples of one process that nobody disturbs."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import PARAMS, ROOT, command

from replication.config import PolicyConfig, TrainerConfig
from replication.errors import UserError
from replication.evaluation import presence
from replication.evaluation.queue import Queue
from replication.evaluation.workers import helpers_wanted
from replication.launch import global_rank, world_size
from replication.policy import save_policy, small_model, small_tokenizer

SIZE = PolicyConfig(hidden_size=32, layers=2, heads=4, kv_heads=2, ffn_size=48)
FLAGS = [
    "--model=tiny",
    "--checkpoint=policy",
    "--evaluate.samples=4",
    "--rollout.max_rows=4",
    "--rollout.group_size=4",
]
FLAGS += ["--evaluate.modes=[plain,erased]", "--grading.max_no_answer=1", "--params", str(PARAMS)]
FILES = ("samples.jsonl", "problems.jsonl", "metrics.json", "anatomy.json")
LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with problems, an untrained policy, and what one process makes of them: 32 chunks."""
    folder = tmp_path_factory.mktemp("workers")
    command("prepare", "--model=tiny", "--data.train_problems=8", "--data.heldout_problems=64", cwd=folder)
    tokenizer = small_tokenizer()
    (folder / "policy").mkdir()
    save_policy(small_model(SIZE, tokenizer, 0), tokenizer, folder / "policy")
    command("evaluate", *FLAGS[:-2], "--out=whole", cwd=folder)
    return folder


def start(place, out, *launcher, devices=1, **env):
    argv = [
        sys.executable,
        *launcher,
        "-m",
        "replication.evaluate",
        *FLAGS,
        f"--out={out}",
        f"--trainer.devices={devices}",
    ]
    clean = {key: value for key, value in os.environ.items() if key not in LAUNCHED}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(argv, cwd=place, env={**clean, "PYTHONPATH": str(ROOT), **env}, **pipes)


def end(process):
    said, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return said, errors


def equal(place, out):
    return all((place / out / name).read_bytes() == (place / "whole" / name).read_bytes() for name in FILES)


def chunks_of(place):
    return list((place / ".scratch/evaluate").glob("*/*/*.jsonl"))


def helper_of(process):
    """The process that it started and that runs this command, too."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process.pid and b"replication.evaluate" in (folder / "cmdline").read_bytes():
                return int(folder.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return None


def until(condition, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_on_any_rank_it_goes_on_to_the_same_samples(place):
    """Both of two processes in turn; a helper that is killed leaves its part to the others, and they say so."""
    dice = random.Random(0)
    for kill in (2, 1):
        done = len(chunks_of(place)) + dice.randrange(2, 8)
        process = start(place, "killed", devices=2)
        until(lambda done=done: len(chunks_of(place)) >= done)
        os.kill(process.pid if kill % 2 else helper_of(process), signal.SIGKILL)
        if kill % 2:
            process.communicate()
        else:
            _, errors = end(process)
            assert "process 1 of 2 ended with -9" in errors and "the others did its part" in errors
            assert equal(place, "killed")
    said, _ = end(start(place, "killed", devices=2))
    assert "resuming after" in said and equal(place, "killed") and not chunks_of(place)


@pytest.mark.slow
def test_two_nodes_of_torchrun_share_it_out(place):
    """Two agents with a process each; the folder is all that they share."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1"]
    agents = [start(place, "nodes", *launcher, f"--master-port={port}", f"--node-rank={node}") for node in (0, 1)]
    told = [end(agent)[0] for agent in agents]
    assert sum("-> nodes" in said for said in told) == 1 and equal(place, "nodes") and not chunks_of(place)


@pytest.mark.slow
def test_the_first_process_waits_for_a_late_one_and_not_for_a_dead_one(place):
    """Three as srun starts them: one is killed at work, one comes when all is done."""
    world = {"WORLD_SIZE": "3", "MASTER_PORT": "1"}
    first = start(place, "late", RANK="0", **world)
    killed = start(place, "late", RANK="1", **world)
    until(lambda: any(presence.is_present(path.parent, "1-1") for path in chunks_of(place)))
    killed.kill()
    killed.communicate()
    until(lambda: (place / "late/metrics.json").exists())
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(3)
    end(start(place, "late", RANK="2", **world))
    end(first)
    assert equal(place, "late") and not chunks_of(place)


def test_who_is_at_work_is_known_however_it_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(presence, "PATIENCE", 0.3)
    assert presence.is_present(tmp_path, "1") is None
    with pytest.raises(UserError, match=r"the first process is not in .* after 0 s: run the same command again"):
        presence.wait_for_first(tmp_path / "none", "first")
    with presence.present(tmp_path, "1"):
        assert presence.is_present(tmp_path, "1") is True
        presence.wait_for_first(tmp_path, "1")
        presence.forget(tmp_path, ["1"])
        assert presence.is_present(tmp_path, "1") is True
    assert presence.is_present(tmp_path, "1") is False
    assert presence.wait_for_others(tmp_path, ["1"]) == [] and presence.wait_for_others(tmp_path, ["1", "2"]) == ["2"]
    presence.forget(tmp_path, ["1", "2"])
    assert presence.wait_for_others(tmp_path, ["1"]) == ["1"]


def test_a_script_of_slurm_without_srun_is_one_process(monkeypatch):
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    for name, value in (("SLURM_NTASKS", "2"), ("SLURM_PROCID", "0"), ("SLURM_JOB_ID", "7")):
        monkeypatch.setenv(name, value)
    assert (world_size(), global_rank()) == (1, 0)
    assert helpers_wanted(TrainerConfig(devices=2, strategy="ddp")) == 1
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")  # srun's
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert (world_size(), global_rank()) == (2, 1) and helpers_wanted(TrainerConfig(devices=2, strategy="ddp")) == 0


def test_what_a_launcher_must_start_is_refused(monkeypatch):
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    assert helpers_wanted(TrainerConfig(devices=3, strategy="ddp")) == 2
    assert helpers_wanted(TrainerConfig(devices=8, gpu_gib=80, strategy="ddp")) == 0  # no GPU here
    with pytest.raises(UserError, match=r"trainer.nodes = 2: start the command on every node by torchrun or srun"):
        helpers_wanted(TrainerConfig(nodes=2, strategy="ddp"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert helpers_wanted(TrainerConfig(devices=2, nodes=1, strategy="ddp")) == 0


def test_chunks_are_made_in_turns_and_each_is_kept_when_it_is_whole(tmp_path):
    """The second is whole before the first; what is begun is given up where the work ends."""
    queue, seen, ended = Queue(tmp_path, 4), [], []

    def making(index):
        try:
            for step in range([5, 2, 2, 10**9][index]):
                if index < 3:
                    seen.append((index, step))
                yield
            return [f'{{"index": {index}}}\n']
        finally:
            ended.append(index)

    work = queue.work(making, 2)
    while len(queue.done()) < 3:
        next(work)
    assert [index for index, _ in seen[:5]] == [0, 1, 0, 1, 0] and ended == [1, 0, 2]
    next(work)  # the last one is begun
    with queue.take() as other:
        assert other is None
    work.close()
    assert ended == [1, 0, 2, 3] and queue.done() == [0, 1, 2]
    with queue.take() as other:
        assert other == 3
