"""A process that dies, stops, fails or hangs ends the others with one line that names it; the run goes on later."""

import multiprocessing
import os
import queue
import re
import signal
import socket
import subprocess
import time
from contextlib import closing
from multiprocessing.connection import Client, Pipe
from types import SimpleNamespace

import pytest
from commands import SMALL, command, started, wait_until

from replication.errors import UserError
from replication.training import peers, watchdog
from replication.training.peers import Peer, connect
from replication.training.resume import complete
from replication.training.watchdog import Watchdog

DDP = [*SMALL, "--seed=7", "--train.steps=40", "--trainer.strategy=ddp", "--trainer.devices=2"]
BEAT, SILENCE = 0.2, 5.0  # seconds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "says"),
    [
        (signal.SIGSTOP, "has given no sign of life for 10 s (trainer.silence), last seen in the "),
        (signal.SIGKILL, "has ended, last seen in the "),
    ],
)
def test_a_training_whose_process_stops_or_dies_says_so_and_goes_on(workshop, number, says):
    """Processes that were started one by one, as srun does: those that Lightning starts it watches itself, too."""
    straight, name = workshop / "watched", f"halted-{number.name}"
    if not straight.exists():
        command("fit", *DDP, f"--out={straight}", cwd=workshop)
    argv = [*DDP, f"--out={workshop / name}", "--trainer.silence=10"]
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    process, other = (
        started("fit", *argv, cwd=workshop, stderr=subprocess.PIPE, own_group=True, LOCAL_RANK=rank, **meeting)
        for rank in "01"
    )
    checkpoints = workshop / ".scratch/train" / name / "checkpoints"
    wait_until(process, lambda: complete(checkpoints))
    time.sleep(2 * watchdog.BEAT)  # so that a sign came since
    assert process.poll() is None
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


class Meeting:
    """What `connect` takes of a strategy, for processes that share queues."""

    cluster_environment = SimpleNamespace(main_address="127.0.0.1")

    def __init__(self, rank, queues):
        self.global_rank, self.world_size, self.queues = rank, len(queues), queues

    def broadcast(self, value):
        if self.global_rank:
            return self.queues[self.global_rank].get(timeout=120)
        for other in self.queues[1:]:
            other.put(value)
        return value


def watch(rank, queues, came, said, fails):
    """A process of a training: it only watches, all on one node."""
    os.dup2(os.open(said, os.O_CREAT | os.O_WRONLY), 2)
    watchdog.BEAT = BEAT
    dog = Watchdog(SILENCE, max_wait=60)
    found = connect(Meeting(rank, queues))
    dog.watch(rank, len(queues), found, SimpleNamespace(doing=f"rollout of step {rank}"), speaks=rank < 2)
    came.put(rank)
    if rank in fails:
        time.sleep(1)
        dog.leave("OutOfMemoryError: of process 2")
    time.sleep(600)


@pytest.fixture
def world(tmp_path):
    """Starts three processes; returns them and how to read what each has said."""
    spawn, running = multiprocessing.get_context("spawn"), []

    def start(fails=()):
        queues, came = [spawn.Queue() for _ in range(3)], spawn.Queue()
        for rank in range(3):
            running.append(spawn.Process(target=watch, args=(rank, queues, came, tmp_path / f"{rank}", fails)))
            running[-1].start()
        assert sorted(came.get(timeout=120) for _ in range(3)) == [0, 1, 2]
        time.sleep(5 * BEAT)
        return running

    yield start, lambda rank: (tmp_path / f"{rank}").read_text().strip()
    for process in running:
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stopped", "dead", "fails", "codes", "says"),
    [
        (
            [1, 2],
            [],
            [],
            [2, -9, -9],
            {0: r"error: process [12] of 3 has given no sign of life for 5 s \(trainer.silence\), "},
        ),
        (
            [0],
            [],
            [],
            [-9, 2, 2],
            {1: r"error: process 0 of 3 has (given no sign of life for 5 s|ended)"},
        ),
        ([], [2], [], [2, 2, -9], {0: r"error: process 2 of 3 has ended, last seen in the rollout of step 2: all "}),
        ([], [0], [], [-9, 2, 2], {1: r"error: process 0 of 3 has ended, last seen in the rollout of step 0: all "}),
        ([], [], [2], [2, 2, -9], {0: r"error: process 2 of 3 has failed with OutOfMemoryError: of process 2, last "}),
    ],
    ids=["two stop", "the first stops", "the last dies", "the first dies", "one fails and does not end"],
)
def test_all_processes_end_and_one_says_why(world, stopped, dead, fails, codes, says):
    start, said = world
    processes = start(fails)
    for rank in stopped:
        os.kill(processes[rank].pid, signal.SIGSTOP)
    for rank in dead:
        os.kill(processes[rank].pid, signal.SIGKILL)
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == codes
    for rank in range(3):
        assert re.match(says.get(rank, "$"), said(rank)), said(rank)
        assert said(rank).count("error") == (rank in says)


@pytest.mark.slow
def test_a_suspended_job_goes_on(world):
    """All are stopped at once and go on later: nobody was heard of meanwhile, and nobody is missed."""
    start, said = world
    processes = start()
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for process in processes:
            os.kill(process.pid, number)
        time.sleep(SILENCE + 2)
    assert [process.exitcode for process in processes] == [None] * 3
    assert [said(rank) for rank in range(3)] == [""] * 3


@pytest.fixture
def pair(monkeypatch):
    """The watchdog of process 0, what it has found, and the other end of its connection to a process 1."""
    monkeypatch.setattr(watchdog, "BEAT", 0.05)
    found, mine = [], Watchdog(60, max_wait=0.01)  # 0.6 s

    def end(verdict, says):
        found.append(verdict["what"])
        mine.left.set()

    monkeypatch.setattr(mine, "_end", end)
    here, there = Pipe()
    other = Peer(0, there, "elsewhere", 0, 0.0)
    mine.watch(0, 2, [Peer(1, here, "elsewhere", 0, time.monotonic())], SimpleNamespace(doing="update of step 3"))
    yield mine, other, found
    mine.leave()


def test_processes_that_all_wait_for_ever_are_named(pair):
    _, other, found = pair
    deadline = time.monotonic() + 120
    while not found and time.monotonic() < deadline:
        other.tell("rollout of step 3")
        time.sleep(0.02)
    assert found == [
        "nothing has gone on for 0 min (trainer.max_wait, to be raised where a phase may take longer): process 1 in "
        "the rollout of step 3"
    ]


def test_one_that_comes_further_is_waited_for(pair):
    mine, other, found = pair
    for step in range(60):
        other.tell(f"rollout of step {step}")
        time.sleep(0.02)
    other.tell("rollout of step 60", over=True)
    other.connection.close()
    time.sleep(1)
    assert found == [] and mine.thread.is_alive()  # nor is one missed that has left in order


def test_what_a_process_says_as_it_leaves_comes_before_its_end(pair):
    mine, other, found = pair
    other.tell("update of step 4", failed="ValueError: a reason")
    other.connection.close()
    time.sleep(0.2)
    mine.peers[0].heard -= 60
    deadline = time.monotonic() + 120
    while not found and time.monotonic() < deadline:
        time.sleep(0.02)
    assert found == ["process 1 of 2 has failed with ValueError: a reason, last seen in the update of step 4"]


def test_strangers_are_turned_away_and_one_that_does_not_come_is_named(monkeypatch):
    monkeypatch.setattr(peers, "PATIENCE", 3.0)

    class Alone(Meeting):
        def broadcast(self, value):
            self.queues[1].put(value)
            self.stranger = Client(("127.0.0.1", value[0]))
            self.stranger.send_bytes(b'{"rank": 1, "token": "guessed", "host": "", "pid": 1}')
            return value

    alone = Alone(0, [queue.Queue(), queue.Queue()])
    with pytest.raises(UserError, match=r"process 1 of 2 did not reach the first one at port .* trainer.silence 0"):
        connect(alone)
    late = Meeting(1, alone.queues)
    with pytest.raises(UserError, match=r"process 1 of 2 does not reach the first one at 127\.0\.0\.1, port "):
        connect(late)
