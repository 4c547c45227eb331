"""A checkpoint that outlives its run (`train.keep`), and the policy of the best one as a plain checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from replication.config import Config
from replication.data.prepared import read_manifest
from replication.loading import load_policy
from replication.outputs import EXPORT_MARK, output_folder
from replication.policy import save_policy
from replication.training.card import model_card
from replication.training.machine import training_dtype
from replication.training.resume import CHECKPOINTS, best_of, complete

KEPT = "kept"  # folder in that of a run
BEST = "best"  # folder in that of an export
POLICY = "policy."  # how the names of its weights begin in a checkpoint


def kept_checkpoint(folder: Path) -> Path | None:
    """The checkpoint that a run in this folder has left, if it has."""
    return next((folder / KEPT).glob("rollout=*.ckpt"), None)


def chosen(folder: Path, which: str) -> Path:
    """The last or the best checkpoint of a run that has come to its end."""
    scores = complete(folder / CHECKPOINTS)
    done = best_of(scores) if which == "best" else max(scores)
    return folder / CHECKPOINTS / f"rollout={done}.ckpt"


def clear(folder: Path, which: str) -> None:
    """Remove the checkpoints of a run that has ended; the one to keep takes the place of an earlier run's."""
    checkpoints, kept = folder / CHECKPOINTS, folder / KEPT
    shutil.rmtree(kept, ignore_errors=True)
    if which != "none":
        stays = chosen(folder, which)
        for path in checkpoints.iterdir():  # those are gone first that a run would go on from
            if path.stem != stays.stem:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        kept.mkdir()
        stays.rename(kept / stays.name)
    shutil.rmtree(checkpoints, ignore_errors=True)


def weights_of(checkpoint: Path) -> dict[str, Tensor]:
    """The policy's weights in a checkpoint, by name; in float32 and of all processes where DeepSpeed wrote it."""
    if checkpoint.is_dir():
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

        found = get_fp32_state_dict_from_zero_checkpoint(str(checkpoint))
    else:
        found = torch.load(checkpoint, map_location="cpu", weights_only=False, mmap=True)["state_dict"]
    return {name.partition(POLICY)[2]: weight for name, weight in found.items() if name.startswith(POLICY)}


def export_checkpoint(
    checkpoint: Path, record: dict[str, Any], config: Config, history: Sequence[dict[str, float]], data: Path, out: Path
) -> None:
    """Write the policy of a checkpoint as a plain one, as a run's export is written.

    Args:
        checkpoint: of a run that has come to its end.
        record: what run.json holds of the run; `rollouts` is added, those that the checkpoint has seen.
        config: the run's settings.
        history: the run's rows, one a step.
        data: folder of the prepared problems.
        out: folder of the export.
    """
    dtype = "float32" if config.policy.lora_rank else training_dtype(config.trainer)
    policy, tokenizer = load_policy(record["base"], record["revision"], dtype)
    if config.policy.lora_rank:
        from replication.training.lora import add_adapters, merge_adapters  # peft takes seconds to import

        add_adapters(policy, config.policy, int(record["seed"]))
    policy.load_state_dict(weights_of(checkpoint))
    if config.policy.lora_rank:
        merge_adapters(policy)
    rows = history[: int(checkpoint.stem.partition("=")[2])]
    record = {**record, "rollouts": len(rows)}
    with output_folder(out, EXPORT_MARK) as new:
        save_policy(policy, tokenizer, new)
        (new / EXPORT_MARK).write_text(json.dumps(record, indent=2) + "\n")
        (new / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (new / "README.md").write_text(model_card(record, rows, read_manifest(data)), encoding="utf-8")
