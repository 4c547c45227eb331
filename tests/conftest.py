"""What all tests share."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run in parallel processes; threads that spin would starve them

import pytest
import torch
from small_models import small_model

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model():
    return small_model()
