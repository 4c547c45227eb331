"""Erasable completions of one prompt, as a Python call."""

from __future__ import annotations

from typing import Any

import torch

from replication.config import ErasureConfig, RolloutConfig
from replication.data.template import encode
from replication.errors import UserError
from replication.loading import eos_ids
from replication.rollout.engine import roll_out
from replication.rollout.engines import build_engine
from replication.rollout.protocol import Engine, Watcher
from replication.rollout.trace import Rollout
from replication.seeds import seed_for


def check_group(rollout: RolloutConfig, erasure: ErasureConfig, prompts: int) -> None:
    """Raise a `UserError` where a threshold needs the statistics of a group, or batch, that is one completion.

    The mean of a lone completion is its own uncertainty, which is never above itself.
    """
    together = rollout.group_size * (prompts if erasure.baseline == "batch" else 1)
    if together == 1 and erasure.baseline != "fixed" and erasure.cap > 0 and erasure.fraction > 0:
        raise UserError(
            f"one completion has no group to take the baseline {erasure.baseline!r} from: ask for several, or set "
            "erasure.baseline to fixed and erasure.level to a number of nats"
        )


def generate(
    model: Any,
    tokenizer: Any,
    prompt: str,
    rollout: RolloutConfig,
    erasure: ErasureConfig,
    seed: int = 0,
    thinking: bool = False,
    watcher: Watcher | None = None,
    engine: Engine | None = None,
) -> Rollout:
    """Sample `rollout.group_size` completions of a prompt, erasing and resampling uncertain segments.

    Args:
        model: a transformers causal LM; for a server one of `load_policy(path, weights=False)` will do.
        tokenizer: its tokenizer.
        prompt: a text; put into the chat template where there is one.
        rollout: temperature, segments and group.
        erasure: when a segment is erased.
        seed: the completions are a function of it and of the prompt.
        thinking: Qwen3's thinking mode, where the chat template knows it.
        watcher: is told of every token, erasure and acceptance as it happens.
        engine: what samples; made by the settings where none is given.

    Returns:
        The rollout: `replication.decoding.trace.completion(rollout, row, tokenizer)` is the text of a row.

    Raises:
        UserError: an empty prompt, one too long for the model, a model that cannot be rolled out, or one completion
            under a threshold that needs a group.
    """
    check_group(rollout, erasure, prompts=1)
    ids = encode(tokenizer, prompt, thinking)
    keys = torch.tensor([seed_for(seed, "generate", prompt, member) for member in range(rollout.group_size)])
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ends = eos_ids(model, tokenizer)
    own = engine or build_engine(model.eval(), tokenizer, rollout, lambda: len(ids))
    try:
        return roll_out(own, [ids], keys, rollout, erasure, ends, pad, watcher=watcher)
    finally:
        if engine is None:
            own.close()
