"""The code that numbers depend on: one list, for the checkpoints of a training, the chunks of an evaluation, and the
stages of dvc.yaml (tests/test_pipeline.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from importlib.metadata import packages_distributions, version
from pathlib import Path

PACKAGE = Path(__file__).parent
SAMPLES = ("loading.py", "policy.py", "seeds.py", "data", "rollout", "grading")
TRAINING = (*SAMPLES, "credit", "objectives", "training")
EVALUATION = (*SAMPLES, "evaluation")
COMMAND = ("cli.py", "config", "depends.py", "errors.py", "launch.py", "outputs.py")  # around them
HANDED_ON = "--accept code goes on with what the code of before has made"


def code_of(parts: Sequence[str]) -> list[Path]:
    """The files of some parts of the package, in order."""
    return sorted(path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] in parts)


def digest_of(paths: Iterable[Path]) -> str:
    """A hash of the files' contents, one after the other: 16 hex digits."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def files_of(base: str) -> list[Path]:
    """The files of a policy's folder; none of a hub's, which a revision names."""
    return sorted(file for file in Path(base).iterdir() if file.is_file()) if Path(base).is_dir() else []


def engine_version(engine: str) -> dict[str, str]:
    """Package and version of what makes the tokens, where that is vLLM: its builds have names of their own."""
    names = packages_distributions().get("vllm", []) if engine == "vllm" else []  # which takes a second
    return {name: version(name) for name in sorted(set(names))}
