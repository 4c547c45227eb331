"""What all tests share."""

from __future__ import annotations

import os
import resource
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run in parallel processes; threads that spin would starve them

import signal

import pytest
import torch
from small_models import small_model

torch.set_num_threads(1)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # which nohup, or a shell's `&`, has the tests ignore
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


LONG = ("test_distributed", "test_breakages", "test_checkpoints", "test_benchmarks", "test_limits", "test_gpu")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: with one process a file, a long one at the end would run alone."""
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))


@pytest.fixture
def fixed_settings(monkeypatch):
    """params.yaml is that of the tests, whatever the user's says."""
    monkeypatch.chdir(Path(__file__).parent)


@pytest.fixture
def small_files():
    """A block in which no file grows beyond so many bytes, as on a disk that is full."""

    @contextmanager
    def block(most):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return block


@pytest.fixture(scope="session")
def model():
    return small_model()
