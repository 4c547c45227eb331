"""Two nodes of one process each, as two agents of torchrun start them: killed, they go on to the numbers of one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from commands import PARAMS, ROOT, SMALL, command

from replication.training.resume import complete
from replication.training.watchdog import AGAIN

BUILD = {"TORCH_EXTENSIONS_DIR": str(ROOT / ".scratch/torch_extensions")}


def agents(argv, cwd):
    """Starts `replication.fit` on both nodes."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fleet = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1"]
    fit = ["-m", "replication.fit", *argv, "--trainer.nodes=2", "--trainer.devices=1", f"--params={PARAMS}"]
    return [
        subprocess.Popen(
            [sys.executable, *fleet, f"--master-port={port}", f"--node-rank={node}", *fit],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), **BUILD},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for node in range(2)
    ]


def child_of(agent):
    """The process that an agent has started."""
    for path in Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split():
        if b"replication.fit" in Path(f"/proc/{path}/cmdline").read_bytes():
            return int(path)
    raise AssertionError("the agent has started nothing")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["deepspeed_zero2", "deepspeed_zero3"])
def test_two_nodes_of_torchrun_are_killed_and_go_on_to_the_numbers_of_one(workshop, strategy):
    argv = [*SMALL, "--seed=9", "--train.steps=20", f"--trainer.strategy={strategy}"]
    one, two = workshop / f"one-{strategy}", workshop / f"two-{strategy}"
    command("fit", *argv, "--trainer.devices=2", f"--out={one}", cwd=workshop, **BUILD)
    checkpoints = workshop / ".scratch/train" / two.name / "checkpoints"
    nodes = agents([*argv, f"--out={two}"], workshop)
    deadline = time.monotonic() + 240
    while not complete(checkpoints):
        assert nodes[0].poll() is None and time.monotonic() < deadline, nodes[0].communicate()
        time.sleep(0.02)
    os.kill(child_of(nodes[1]), signal.SIGKILL)
    said = [node.communicate(timeout=240)[1] for node in nodes]
    assert all(node.returncode for node in nodes) and not two.exists()
    lines = [line for line in said[0].splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and lines[0].startswith("error: process 1 of 2 has ended, last seen in the ")
    assert lines[0].endswith(AGAIN)
    nodes = agents([*argv, f"--out={two}"], workshop)
    told = [node.communicate(timeout=240) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], told
    assert "resuming from" in told[0][0] and "resuming from" not in told[1][0]
    assert (two / "model.safetensors").read_bytes() == (one / "model.safetensors").read_bytes()
    rows = [[json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()] for folder in (two, one)]
    assert rows[0] == rows[1]
