"""What all tests share."""

from __future__ import annotations

import os
import resource
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run in parallel processes; threads that spin would starve them

import pytest
import torch
from small_models import small_model

torch.set_num_threads(1)


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
