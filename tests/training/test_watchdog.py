"""A process that dies, stops or hangs ends the others with one line that names it, and the run goes on later."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import closing, suppress
from types import SimpleNamespace

import pytest
from commands import SMALL, command, started, wait_until

from replication.presence import present
from replication.training import watchdog
from replication.training.resume import complete
from replication.training.watchdog import Watchdog

DDP = [*SMALL, "--seed=7", "--train.steps=16", "--trainer.strategy=ddp", "--trainer.devices=2"]


def sign_of(alive, rank):
    with suppress(OSError, ValueError):
        return json.loads((alive / f"sign-{rank}.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "says"),
    [
        (signal.SIGSTOP, "has given no sign of life for 10 s (trainer.silence), last seen in the "),
        (signal.SIGKILL, "has ended, last seen in the "),
    ],
)
def test_a_process_that_stops_or_dies_is_named_and_the_run_goes_on(workshop, number, says):
    """Processes that were started one by one, as srun does. Of those that Lightning starts itself it ends the first
    one, now and then before the line is written."""
    straight, name = workshop / "watched", f"halted-{number.name}"
    if not straight.exists():
        command("fit", *DDP, f"--out={straight}", cwd=workshop)
    alive = workshop / ".scratch/train" / name / "alive"
    argv = [*DDP, f"--out={workshop / name}", "--trainer.silence=10"]
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    process, other = (
        started("fit", *argv, cwd=workshop, stderr=subprocess.PIPE, own_group=True, LOCAL_RANK=rank, **meeting)
        for rank in "01"
    )
    checkpoints = alive.parent / "checkpoints"
    wait_until(process, lambda: complete(checkpoints) and " step " in (sign_of(alive, 1) or {"doing": ""})["doing"])
    assert process.poll() is None and sign_of(alive, 1)["pid"] == other.pid
    os.kill(other.pid, number)
    _, said = process.communicate(timeout=120)
    other.communicate(timeout=120)  # the stopped one has ended, too
    lines = [line for line in said.splitlines() if "error" in line.lower()]
    assert process.returncode == 2 and "Traceback" not in said, said
    assert len(lines) == 1 and f"process 1 of 2 {says}" in lines[0] and " step " in lines[0]
    assert lines[0].endswith(f"all processes end; {watchdog.AGAIN}")
    for group in (process.pid, other.pid):
        with pytest.raises(ProcessLookupError):
            for _ in range(200):
                os.killpg(group, 0)
                time.sleep(0.05)
    assert "resuming from" in command("fit", *DDP, f"--out={workshop / name}", cwd=workshop).stdout
    for file in ("history.jsonl", "model.safetensors"):
        assert (workshop / name / file).read_bytes() == (straight / file).read_bytes()


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """The watchdog of process 0, in a thread, with a process 1 of which the test writes the signs."""
    monkeypatch.setattr(watchdog, "BEAT", 0.02)
    found = []

    def end(self, what, culprit=None):
        found.append(what)
        self.ended.set()

    monkeypatch.setattr(Watchdog, "_end", end)
    module = SimpleNamespace(doing="update of step 3")
    other = SimpleNamespace(doing="rollout of step 3")

    def start(silence, max_wait):
        mine, theirs = Watchdog(tmp_path, silence, max_wait), Watchdog(tmp_path, silence, max_wait)
        mine.module, theirs.module, mine.world, theirs.rank = module, other, 2, 1
        mine.folder.mkdir(exist_ok=True)
        theirs._sign()
        mine.thread = threading.Thread(target=mine._watch, daemon=True)
        mine.thread.start()
        return mine, theirs

    return start, found


def test_processes_that_all_wait_for_ever_are_named(watched):
    start, found = watched
    mine, theirs = start(silence=60, max_wait=0.01)  # 0.6 s
    with present(mine.folder, "1"):
        for _ in range(100):
            theirs._sign()
            time.sleep(0.02)
    assert found == ["nothing has gone on for 0 min (trainer.max_wait): process 1 in the rollout of step 3"]


def test_one_that_comes_further_is_waited_for(watched):
    start, found = watched
    mine, theirs = start(silence=60, max_wait=0.01)
    with present(mine.folder, "1"):
        for step in range(60):
            theirs.module.doing = f"rollout of step {step}"
            theirs._sign()
            time.sleep(0.02)
        theirs._sign(over=True)
    time.sleep(0.2)
    mine._leave()
    assert found == []  # nor is one that has left in order


def test_a_suspended_job_goes_on(watched, monkeypatch):
    """All were stopped at once: nobody was heard of meanwhile, and nobody is missed."""
    start, found = watched
    clock = [0.0]
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: clock[0])
    mine, _ = start(silence=30, max_wait=60)
    with present(mine.folder, "1"):
        time.sleep(0.2)
        clock[0] = 10_000.0
        time.sleep(0.2)
        assert found == []
        for second in range(32):  # beats of the watchdog's own, without one of the other
            clock[0] = 10_000.0 + second * 0.09
            time.sleep(0.03)
        assert found == []
        mine._leave()
