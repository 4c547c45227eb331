"""vLLM itself, with the settings that it must have before it is imported."""

from __future__ import annotations

import atexit
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def load_vllm() -> Any:
    """The module vllm, to run in this process."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    atexit.register(silence)  # before the imports, so that it is the last to be called
    import vllm

    if not torch.cuda.is_available():
        import vllm._custom_ops as operators
        from vllm.model_executor.layers import utils

        # packed weights would hide the parameters, so that no update reached them
        operators._supports_onednn = False
        utils.check_cpu_sgl_kernel = lambda *_: False
    return vllm


def silence() -> None:
    """Close standard error: as Python ends, libraries of vLLM's list there what they did not free."""
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


@contextmanager
def threads_as_they_are() -> Iterator[None]:
    """vLLM's worker on a CPU takes `torch.set_num_threads` away from the process: it is put back."""
    setter = torch.set_num_threads
    try:
        yield
    finally:
        torch.set_num_threads = setter


class RandomNumbers:
    """vLLM's own random numbers: it seeds those of Python, NumPy and torch, and draws from them. The process's stay as
    they are; its own go on from where they were."""

    def __init__(self) -> None:
        self.state: Any = None

    @contextmanager
    def own(self) -> Iterator[None]:
        theirs = _state()
        if self.state is not None:
            _restore(self.state)
        try:
            yield
        finally:
            self.state = _state()
            _restore(theirs)


def _state() -> Any:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda


def _restore(state: Any) -> None:
    python, numpy, cpu, cuda = state
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    if cuda:
        torch.cuda.set_rng_state_all(cuda)
