"""The trained policy as a plain checkpoint, read back and compared before anyone can see it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from replication.config import Config, ErasureConfig
from replication.data.prepared import read_manifest
from replication.data.sources import Problem
from replication.errors import UserError
from replication.loading import load_policy
from replication.outputs import ELSEWHERE, EXPORT_MARK, output_folder
from replication.policy import save_policy
from replication.rollout.policy import Policy
from replication.seeds import seed_for
from replication.training.batch import Sequences, sequences
from replication.training.card import model_card
from replication.training.logprobs import completion_logp

PROBLEMS, TOKENS = 4, 32  # of the comparison: the first training problems, and tokens sampled after each


def tolerance(dtype: torch.dtype) -> float:
    """How far the export may be from the policy, in nats: the mean absolute difference of a token's log-probability.

    Weights that were only written and read differ by nothing at all, merged adapters by rounding, some 1e-6 nats in
    float32. The same arithmetic in another order moves log-probabilities in bfloat16 by some 1e-2 [O].
    """
    return 1e-4 if dtype == torch.float32 else 0.05


def export_run(record: dict[str, Any], module: Any, data: Path, out: Path, remedy: str = ELSEWHERE) -> float:
    """Write the export, complete and compared, or nothing; for the first process, with the policy's weights whole.

    Args:
        record: what run.json is to hold.
        module: the E3RLModule after its last step; adapters of its policy are merged in place.
        data: folder of the prepared problems.
        out: folder of the export.
        remedy: what to do where it cannot be written.

    Returns:
        Mean absolute difference between the export's log-probabilities and the policy's, in nats a token.

    Raises:
        UserError: they differ by more than rounding, or the folder cannot be written.
    """
    config, policy, tokenizer = module.config, module.policy.eval(), module.tokenizer
    if config.policy.lora_rank:
        policy.cpu().float()  # for the sum: bfloat16 would round much of a small update away; a GPU may lack the room
    sample = own_completions(policy, tokenizer, module.sampler.problems[:PROBLEMS], config, int(record["seed"]))
    logp = sample_logp(policy, sample, config.rollout.temperature)
    if config.policy.lora_rank:
        from replication.training.lora import merge_adapters  # peft takes seconds to import

        merge_adapters(policy)
    source = read_manifest(data)
    with output_folder(out, EXPORT_MARK, remedy) as new:
        save_policy(policy, tokenizer, new)
        (new / EXPORT_MARK).write_text(json.dumps(record, indent=2) + "\n")
        (new / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in module.history))
        (new / "README.md").write_text(model_card(record, module.history, source), encoding="utf-8")
        exported, _ = load_policy(str(new), dtype=str(policy.dtype).removeprefix("torch."))
        read_back = sample_logp(exported.to(policy.device), sample, config.rollout.temperature)
        difference = float((read_back - logp).abs().mean())
        limit = tolerance(policy.dtype)
        if not difference <= limit:  # nan is no agreement either
            raise UserError(
                f"the export differs from the trained policy by {difference:.2g} nats a token, more than {limit:g}: "
                f"{out} was not written; the checkpoints are still there"
            )
    return difference


def own_completions(policy: Any, tokenizer: Any, problems: Sequence[Problem], config: Config, seed: int) -> Sequences:
    """A short plain completion of each problem by the policy, the same each time."""
    tokens = min(TOKENS, config.rollout.segments * config.rollout.segment_tokens)
    settings = replace(config.rollout, group_size=1, cool_fraction=0.0, segments=1, segment_tokens=tokens)
    keys = [seed_for(seed, "export", problem.id) for problem in problems]
    writer = Policy.of(policy, tokenizer, config.policy.thinking)
    done = writer.roll_out(problems, keys, settings, ErasureConfig(fraction=0.0))
    return sequences(done, tokenizer.pad_token_id)


@torch.no_grad()
def sample_logp(model: Any, sample: Sequences, temperature: float) -> Tensor:
    """[n] log-probability of each token of prompts and completions but a prompt's first, row by row, in nats.

    Of a confident policy's own tokens alone, with log-probabilities near 0, a comparison would see little.
    """
    at = torch.arange(1, sample.ids.shape[1], device=sample.ids.device).expand(len(sample.ids), -1)  # [r, S - 1]
    logp, _ = completion_logp(model, sample.ids, at, sample.ids[:, 1:], temperature)
    return logp[at < sample.size[:, None]]
