"""Connections between the processes of a training: signs of life pass over them, and one that dies closes its own.

The first process is connected to each of the others. Files on a shared disk would do for neither: a disk that is full
or away for a moment would look like a death.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from replication.errors import UserError

PATIENCE = 60.0  # seconds that the connections may take
LONGEST = 2**16  # bytes of a message


class Peer:
    """Another process, as this one hears of it."""

    def __init__(self, rank: int, connection: Connection, host: str, pid: int, heard: float):
        self.rank, self.connection, self.host, self.pid = rank, connection, host, pid
        self.heard = heard  # when it last gave a sign
        self.doing = "first step"  # phase and step
        self.failed = ""  # why, once it said so: it will end
        self.over = False  # the training has ended for it
        self.gone = False  # its connection is closed
        self.verdict: dict[str, Any] | None = None  # the first process's: all end

    def take(self, now: float) -> None:
        """Read what has come, without waiting."""
        try:
            while not self.gone and self.connection.poll():
                message = json.loads(self.connection.recv_bytes(LONGEST))
                self.heard, self.doing = now, message["doing"]
                self.failed, self.over, self.verdict = message["failed"], message["over"], message["verdict"]
        except (EOFError, OSError):
            self.gone = True

    def tell(self, doing: str, failed: str = "", over: bool = False, verdict: dict[str, Any] | None = None) -> None:
        """Give a sign, unless it no longer listens."""
        if self.gone or self.failed or self.over:
            return
        with suppress(OSError):  # gone meanwhile: `take` finds it out
            self.connection.send_bytes(
                json.dumps({"doing": doing, "failed": failed, "over": over, "verdict": verdict}).encode()
            )


def this_host() -> str:
    """What tells machines apart, and containers with process numbers of their own."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + str(Path("/proc/self/ns/pid").readlink())


def kill_here(processes: list[tuple[str, int]]) -> None:
    """SIGKILL those of (host, pid) that run on this host: a stopped one heeds nothing else."""
    for host, pid in processes:
        if host == this_host():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def connect(strategy: Any) -> list[Peer]:
    """Connect the first process with the others; all processes of the strategy call this together.

    Returns:
        All others on the first process, the first one on the others.

    Raises:
        UserError: a process cannot be reached within PATIENCE.
    """
    rank, world = strategy.global_rank, strategy.world_size
    mine = {"rank": rank, "host": this_host(), "pid": os.getpid()}
    if rank == 0:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        with socket.create_server(("", 0), family=family, dualstack_ipv6=both, backlog=world) as server:
            port, token = strategy.broadcast((server.getsockname()[1], secrets.token_hex()))
            return _accept(server, world, mine | {"token": token}, port)
    port, token = strategy.broadcast(None)
    address = strategy.cluster_environment.main_address
    try:
        with socket.create_connection((address, port), PATIENCE) as link:
            link.settimeout(None)
            connection = Connection(link.detach())
        connection.send_bytes(json.dumps(mine | {"token": token}).encode())
        if not connection.poll(PATIENCE):
            raise TimeoutError("no answer")
        return [_peer(json.loads(connection.recv_bytes(LONGEST)), connection)]
    except (EOFError, OSError) as error:
        raise UserError(
            f"process {rank} of {world} does not reach the first one at {address}, port {port} ({error}): let the "
            "nodes connect to each other at any port, or set trainer.silence 0"
        ) from None


def _accept(server: socket.socket, world: int, mine: dict[str, Any], port: int) -> list[Peer]:
    """The connections of all others; strangers, who do not know the token, are turned away."""
    peers: dict[int, Peer] = {}
    deadline = time.monotonic() + PATIENCE
    while len(peers) < world - 1:
        server.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            link, _ = server.accept()
        except TimeoutError:
            absent = ", ".join(str(rank) for rank in range(1, world) if rank not in peers)
            raise UserError(
                f"process {absent} of {world} did not reach the first one at port {port} within {PATIENCE:.0f} s: let "
                "the nodes connect to each other at any port, or set trainer.silence 0"
            ) from None
        with link:
            link.settimeout(None)
            connection = Connection(link.detach())
        with suppress(EOFError, OSError, ValueError, KeyError, TypeError):
            theirs = json.loads(connection.recv_bytes(LONGEST)) if connection.poll(1) else {}
            if secrets.compare_digest(theirs["token"], mine["token"]):
                connection.send_bytes(json.dumps(mine).encode())
                peers[theirs["rank"]] = _peer(theirs, connection)
    return [peers[rank] for rank in sorted(peers)]


def _peer(theirs: dict[str, Any], connection: Connection) -> Peer:
    return Peer(theirs["rank"], connection, theirs["host"], theirs["pid"], time.monotonic())
