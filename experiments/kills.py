"""Is an evaluation that is killed again and again the one that nobody disturbs?

    python -m experiments.kills                       ten kills of each way: a table, minutes on 2 cores
    python -m experiments.kills --ways launchers --kills 3 --seed 1

One process evaluates the tiny model undisturbed. Two processes do the same and are killed by SIGKILL at moments and
in an order that the seed draws, wherever they are: as they start, in the middle of a chunk, between two. What is left
goes on where it can; otherwise it is killed, too, and the same command is run again. There are two ways:

    processes   --trainer.devices 2: rank 0, which starts rank 1
    launchers   two agents of torchrun, each with a process: four to kill

Exit code 1 where a file of the results differs, or where a chunk that was done has been made again.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from replication.errors import Parser, UserError, run_command
from replication.outputs import locked

ROOT = Path(__file__).parents[1]
PLACE = Path(".scratch/kills")
FILES = ("samples.jsonl", "problems.jsonl", "metrics.json", "anatomy.json")
FLAGS = ["--model=tiny", "--rollout.group_size=4", "--rollout.max_rows=4", "--evaluate.samples=4"]
FLAGS += ["--evaluate.problems=64", "--evaluate.modes=[plain,erased]"]
TORCHRUN = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1"]
ALONE = ("rank 1", "launcher 1")  # without which the others go on
MARK = "REPLICATION_KILLS"  # in the environment of all that a way starts
CHUNKS = 32  # of 16 samples
STARTING = 0.25  # share of the kills that meet processes that are starting
PATIENCE = 900.0


def run(*argv: str) -> None:
    """A command of the package, in the experiment's folder."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", *argv], cwd=PLACE, env=env, check=True, stdout=subprocess.DEVNULL)


@dataclass
class Watch:
    """What is known of the chunks, from their files and from the locks that the system lists."""

    made: dict[str, int] = field(default_factory=dict)  # chunk -> inode of its file
    taken: set[tuple[int, str]] = field(default_factory=set)  # process, chunk
    again: int = 0  # chunks that were done and made again

    def look(self) -> dict[int, str]:
        """Process -> the chunk that it is at, which has no file yet."""
        locks = {path.stat().st_ino: path.stem for path in chunk_files("lock")}
        for path in chunk_files("jsonl"):
            inode = path.stat().st_ino
            self.again += self.made.setdefault(path.stem, inode) != inode
            self.made[path.stem] = inode
        held = {}
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.replace("->", "").split()
            chunk = locks.get(int(words[5].split(":")[2])) if words[1] == "FLOCK" else None
            if chunk and chunk not in self.made:
                held[int(words[4])] = chunk
        self.taken |= set(held.items())
        return held

    def for_seconds(self, seconds: float) -> None:
        """Look again and again, for so long."""
        deadline = time.monotonic() + seconds
        while self.look() is not None and time.monotonic() < deadline:
            time.sleep(0.02)

    def has_nothing(self) -> bool:
        """Whether no process is at a chunk."""
        return not self.look()


def is_written(way: str) -> bool:
    """Whether a way's results are there."""
    return (PLACE / way / FILES[0]).exists()


def chunk_files(kind: str) -> list[Path]:
    """The files of a kind that the evaluation keeps of its chunks; none while it removes them."""
    try:
        return [path for path in (PLACE / ".scratch/evaluate").glob(f"*/*/*.{kind}") if path.exists()]
    except FileNotFoundError:
        return []


class Job:
    """The commands of a way, started together, and the processes that they have become."""

    def __init__(self, way: str):
        self.way, self.mark, self.started = way, uuid.uuid4().hex, list[subprocess.Popen[bytes]]()

    def start(self) -> None:
        """Run the way's command, or commands, once more."""
        evaluate = ["-m", "replication.evaluate", *FLAGS, f"--out={self.way}"]
        if self.way == "launchers":
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            commands = [[*TORCHRUN, f"--master-port={port}", f"--node-rank={node}", *evaluate] for node in (0, 1)]
        else:
            commands = [[*evaluate, "--trainer.devices=2"]]
        env = {**os.environ, "PYTHONPATH": str(ROOT), MARK: self.mark}
        with (PLACE / f"{self.way}.log").open("ab") as log:
            self.started = [
                subprocess.Popen([sys.executable, *argv], cwd=PLACE, env=env, stdout=log, stderr=log)
                for argv in commands
            ]

    def living(self) -> dict[str, int]:
        """Name -> process of all that can be killed."""
        for process in self.started:
            process.poll()  # so that none stays a zombie
        found: dict[str, int] = {}
        for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda folder: -int(folder.name)):
            try:
                argv = (folder / "cmdline").read_text().split("\0")
                env = dict(line.partition("=")[::2] for line in (folder / "environ").read_text().split("\0"))
            except (OSError, UnicodeDecodeError):
                continue
            if env.get(MARK) != self.mark or "replication.evaluate" not in argv:
                continue
            node = [word.rpartition("=")[2] for word in argv if word.startswith("--node-rank")]
            found[f"launcher {node[0]}" if node else f"rank {env.get('RANK', 0)}"] = int(folder.name)
        return found

    def is_over(self) -> bool:
        """Whether the commands have ended."""
        return all(process.poll() is not None for process in self.started)

    def kill(self, name: str) -> None:
        """Kill one of the living, and wait until it is gone."""
        process = self.living().get(name)
        if process is not None:
            os.kill(process, signal.SIGKILL)
            wait(lambda: self.living().get(name) != process)


def wait(condition, seconds: float = PATIENCE) -> bool:
    """Wait until a condition holds; whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def disturb(way: str, kills: int, dice: random.Random) -> bool:
    """Kill a way's evaluation so many times, let it end, and print what came of it; whether all is as it should be."""
    shutil.rmtree(PLACE / ".scratch/evaluate", ignore_errors=True)
    shutil.rmtree(PLACE / way, ignore_errors=True)
    job = Job(way)
    try:
        return _disturb(job, way, kills, dice)
    finally:
        for name in list(job.living()):
            job.kill(name)


def _disturb(job: Job, way: str, kills: int, dice: random.Random) -> bool:
    watch, lost, begun = Watch(), list[str](), 1  # in flight: chunks
    print(f"\n{way}\nkill  after                who         done  in flight  then", flush=True)
    job.start()
    moments = sorted(dice.sample(range(CHUNKS * 3 // 4), kills))
    for kill, done in enumerate(moments, 1):
        starting = dice.random() < STARTING
        moment = f"the start + {(delay := dice.uniform(0, 8)):.1f} s" if starting else f"{done:2} chunks + "
        if not starting:
            moment += f"{(delay := dice.uniform(0, 1)):.2f} s"
            wait(lambda done=done: (watch.look() and len(watch.made) >= done) or job.is_over())
        watch.for_seconds(delay)
        living = job.living()
        if not living:
            raise UserError(f"{way}: it ended before kill {kill}, see {PLACE / way}.log")
        name = dice.choice(sorted(living))
        held = watch.look()
        job.kill(name)
        victims, then = [living[name]], "the others go on"
        if name not in ALONE:
            then = "all is begun again"
            if way == "processes":
                wait(lambda: not job.living(), 120)  # rank 1 leaves once it has imported what it needs
            else:  # what is left goes on for a while, as where a cluster is slow to notice
                watch.for_seconds(dice.uniform(0, 3))
                held |= watch.look()
            victims = list(set(living.values()))
            for other in list(job.living()):
                job.kill(other)
        watch.look()
        gone = sorted({held[v] for v in victims if v in held and held[v] not in watch.made})
        lost += gone
        print(f"{kill:4}  {moment:19}  {name:10}  {len(watch.made):4}  {len(gone):9}  {then}", flush=True)
        if name not in ALONE:
            job.start()
            begun += 1
    ended = wait(lambda: watch.has_nothing() and is_written(way) and "rank 0" not in job.living())
    wait(lambda: not job.living(), 20)
    left = sorted(job.living())
    for name in left:
        job.kill(name)
    equal = [name for name in FILES if same(way, name)]
    chunks = len(watch.made)
    print(f"{begun} starts; {len(lost)} of {chunks} chunks were in flight and made again, {watch.again} that were done")
    print(f"chunks taken: {len(watch.taken)}; files equal: {', '.join(equal) or 'none'}")
    if not ended:
        print(f"it did not end in {PATIENCE:.0f} s")
    if left:
        print(f"did not leave by themselves: {', '.join(left)}")
    return ended and equal == [*FILES] and not watch.again and len(watch.taken) <= chunks + len(lost)


def same(way: str, name: str) -> bool:
    """Whether a file of the results is that of one process."""
    place = PLACE / way / name
    return place.exists() and place.read_bytes() == (PLACE / "whole" / name).read_bytes()


def main() -> None:
    parser = Parser(prog="python -m experiments.kills", description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=10, help="of each way")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of whom they meet")
    parser.add_argument("--ways", nargs="+", choices=("processes", "launchers"), default=["processes", "launchers"])
    arguments = parser.parse_args()
    with locked(PLACE):
        shutil.copy(ROOT / "params.yaml", PLACE)
        if not (PLACE / "runs/warmstart/tiny").exists():
            run("replication.prepare", "--model=tiny")
            run("replication.warmstart", "--model=tiny")
        begun = time.monotonic()
        run("replication.evaluate", *FLAGS, "--out=whole")
        print(f"one process, undisturbed: {time.monotonic() - begun:.0f} s", flush=True)
        good = [disturb(way, arguments.kills, random.Random(f"{arguments.seed} {way}")) for way in arguments.ways]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    run_command(main)
