"""A SLURM cluster of two nodes on this machine, for as long as a block lasts: its own munge key, its own ports."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scancel", "scontrol", "squeue")
DAEMONS = ("/usr/sbin", "/sbin")  # where a user's PATH does not lead
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
KillWait=30
FirstJobId={first}
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{one},{two}] CPUs=2
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 OverSubscribe=NO
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF OverSubscribe=NO
"""


def missing() -> str:
    """Why there can be no cluster here; nothing where there can."""
    path = os.pathsep.join([os.environ["PATH"], *DAEMONS])
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (Debian: slurm-wlm, munge)"
    return "" if os.geteuid() == 0 else "slurmd must be started by root"


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens at."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@dataclass(frozen=True)
class Cluster:
    """The cluster of a block: what its commands need, and what its jobs run in."""

    env: dict[str, str]

    def run(self, *argv: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of SLURM's, or any other, as a user of the cluster."""
        done = subprocess.run(argv, cwd=cwd, env=self.env, capture_output=True, text=True, timeout=600)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def state(self, job: str) -> str:
        """A job's state, as scontrol has it."""
        words = self.run("scontrol", "--oneliner", "show", "job", job, cwd=Path.cwd()).stdout.split()
        return next(word.partition("=")[2] for word in words if word.startswith("JobState="))


@contextmanager
def cluster(**env: str) -> Iterator[Cluster]:
    """A cluster, with so many variables more for its jobs; no process of it is left behind."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], *DAEMONS])
    with ExitStack() as stack:
        # a socket's name is short, so pytest's folder will not do
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp")))
        own = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_"))}
        own |= {"MASTER_ADDR": "127.0.0.1"}  # the nodes' names lead nowhere
        own |= {"PATH": path, "SLURM_CONF": str(folder / "slurm.conf"), **env}
        control, one, two = free_ports(3)
        first = 10_000 * (1 + secrets.randbelow(90)) + 1 + secrets.randbelow(9_000)  # Lightning's port is of it
        (folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=socket.gethostname(),
                user="root",
                folder=folder,
                control=control,
                one=one,
                two=two,
                first=first,
            )
        )
        (folder / "state").mkdir()
        (folder / "key").write_bytes(secrets.token_bytes(1024))
        (folder / "key").chmod(0o600)
        munge = [f"--{name}={folder}/{file}" for name, file in (("key-file", "key"), ("socket", "munge.socket"))]
        munge += [f"--{name}={folder}/munged.{name}" for name in ("pid-file", "log-file", "seed-file")]
        stack.enter_context(daemon(folder, own, "munged", "--foreground", "--force", *munge))
        until(lambda: (folder / "munge.socket").exists())
        stack.enter_context(daemon(folder, own, "slurmctld", "-D"))
        for node in ("n1", "n2"):
            stack.enter_context(daemon(folder, own, "slurmd", "-D", "-N", node))
        made = Cluster(own)
        until(lambda: made.run("sinfo", "-h", "-N", "-o", "%T", cwd=folder, check=False).stdout.split() == ["idle"] * 4)
        try:
            yield made
        finally:
            made.run("scancel", "--full", "--signal=KILL", "--user=root", cwd=folder, check=False)
            made.run("scancel", "--user=root", cwd=folder, check=False)
            until(lambda: not made.run("squeue", "-h", cwd=folder, check=False).stdout.strip())


@contextmanager
def daemon(folder: Path, env: dict[str, str], *argv: str) -> Iterator[None]:
    """One of the cluster's, in the foreground and in a group of its own, which ends with the block."""
    with (folder / f"{argv[0]}-{argv[-1].strip('-')[:9].replace('/', '_')}.log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def until(condition, seconds: float = 60) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
