"""What the study's commands share: seeds, folders, sampling, and cells that are written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from replication.config import Config
from replication.data.sources import Problem
from replication.errors import UserError
from replication.evaluation.samples import Sample, correct_by_problem

SCRATCH = Path(".scratch/study")


def data_folder(model: str) -> Path:
    """Where the study's problems of a model lie."""
    return Path("runs/study/data") / model


def warm_start(model: str, seed: int) -> str:
    """The untrained policy of a seed: each seed has a warm start of its own."""
    return str(Path("runs/study/warmstart") / model / str(seed))


def draw(policy: Any, tokenizer: Any, config: Config, problems: Sequence[Problem], mode: str) -> list[Sample]:
    """Graded samples of the problems by the settings, erasure off (`plain`) or on (`erased`)."""
    from replication.evaluation.run import chunks, sample_chunk
    from replication.grading.pool import Grader
    from replication.rollout.engine import finish
    from replication.rollout.policy import Policy

    settings, writer = replace(config.evaluate, modes=[mode]), Policy.of(policy, tokenizer)
    with Grader.of(config.grading) as grader:
        parts = [
            finish(sample_chunk(writer, chunk, config.rollout, config.erasure, settings, grader))
            for chunk in chunks({"heldout": problems}, config.rollout, settings)
        ]
    return [sample for part in parts for sample in part]


def counts(samples: Sequence[Sample]) -> dict[str, Any]:
    """Correct samples of each problem, and mean tokens a sample, erased ones included."""
    by_problem = correct_by_problem([vars(sample) for sample in samples])
    tokens = sum(sample.tokens + sample.erased_tokens for sample in samples) / len(samples)
    return {"correct": [sum(hits) for hits in by_problem.values()], "tokens": round(tokens, 3)}


def remembered(name: str, mark: str) -> dict[str, Any] | None:
    """What an interrupted run of the same code and settings already found."""
    path = SCRATCH / f"{name}-{mark}.json"
    return json.loads(path.read_text()) if path.exists() else None


def remember(name: str, mark: str, found: dict[str, Any]) -> dict[str, Any]:
    """Keep what was found for a rerun after an interruption."""
    write(SCRATCH / f"{name}-{mark}.json", found)
    return found


def check_seeds(path: Path, seeds: int) -> None:
    """Raise a `UserError` where a cell would have too few seeds for an interval, or replace one that has more."""
    if not 2 <= seeds <= 11:
        raise UserError(f"--seeds {seeds}: give 2 to 11, an interval over seeds needs them")
    if path.exists() and (held := len(json.loads(path.read_text())["seeds"])) > seeds:
        raise UserError(f"{path} holds {held} seeds, more than --seeds {seeds}: choose another folder by --out")


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, complete or not at all; one line a seed keeps it small and its diffs readable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f'"{key}": {json.dumps(value)}' for key, value in content.items() if key != "seeds"]
    if "seeds" in content:
        lines.append('"seeds": [\n' + ",\n".join(json.dumps(seed) for seed in content["seeds"]) + "\n]")
    partial = path.with_suffix(".partial")
    partial.write_text("{" + ",\n".join(lines) + "}\n")
    partial.replace(path)


def code_mark(command: str, *parts: str) -> str:
    """Hash of the package's code, of a command's own file and of this one, and of the parts."""
    digest = hashlib.sha256("\0".join(parts).encode())
    for path in [*sorted(Path("replication").rglob("*.py")), Path(command), Path(__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
