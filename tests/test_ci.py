"""What .ci/run makes of what fails: all decides but vLLM's installation and tests, which are told."""

import os
import shutil
import subprocess

import pytest
from commands import ROOT

STAND_IN = """#!/bin/sh
echo "$(basename $0) $*"
case "$*" in {fails}) exit 2;; esac
"""


@pytest.mark.parametrize(
    ("fails", "code", "last"),
    [
        ("none", 0, "make vllm"),
        ("vllm-install", 0, "vLLM's CPU build COULD NOT BE INSTALLED: its tests were skipped, see above"),
        ("vllm", 0, "THE TESTS OF vLLM FAILED: see above"),
        ("test", 2, "make test"),
    ],
)
def test_what_decides(tmp_path, fails, code, last):
    for place in (".ci", ".venv/bin", "bin"):
        (tmp_path / place).mkdir(parents=True)
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    for name in (".venv/bin/python", "bin/make", "bin/chromium", "bin/tidy"):
        (tmp_path / name).write_text(STAND_IN.format(fails=fails))
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    done = subprocess.run([tmp_path / ".ci/run"], env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == code and done.stdout.splitlines()[-1] == last


def test_the_targets_are_there():
    done = subprocess.run(["make", "--dry-run", "vllm-install", "vllm"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "pytest tests/with_vllm" in done.stdout
