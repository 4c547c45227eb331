"""What all tests share."""

from __future__ import annotations

import os
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


@pytest.fixture(scope="session")
def model():
    return small_model()
