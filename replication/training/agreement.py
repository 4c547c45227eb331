"""Before a training: the trainer must score what was sampled as the sampler did."""

from __future__ import annotations

from typing import Any

import torch

from replication.config import Config
from replication.credit.allocation import answer_attention
from replication.errors import UserError
from replication.rollout.agreement import LIMIT, check_sampler, in_float32, naming
from replication.training.batch import sequences
from replication.training.logprobs import completion_logp


def check_policy(model: Any, config: Config, prompt: list[int], ends: list[int], pad_id: int) -> float:
    """Raise a `UserError` where a policy cannot be trained as the settings ask: one that samples, scores or attends
    otherwise than a plain forward pass says.

    Args:
        model: a transformers causal LM in eval mode.
        config: of the run.
        prompt, ends, pad_id: as of `check_sampler`.

    Returns:
        Largest difference between the sampler's log-probability of a token and the trainer's, in nats, in float32.
    """
    done = check_sampler(model, prompt, ends, pad_id)
    seqs = sequences(done, pad_id, attempts=True)
    with naming(model, "trained"), in_float32(model), torch.no_grad():
        logp, _ = completion_logp(model, seqs.ids, seqs.at, seqs.tokens, 1.0)
        difference = float((logp - seqs.old_logp)[seqs.token_mask].abs().max())
        if not difference <= LIMIT:
            raise UserError(
                f"{model.config.model_type}: the trainer's log-probabilities differ from the sampler's by up to "
                f"{difference:.2g} nats, in float32: what it does between its decoder and its logits is more than a "
                "function of each token, so it cannot be trained; use another model"
            )
        if config.credit.advantage == "segment" and config.credit.allocation == "attention":
            answer_attention(model, seqs.ids, seqs.size - 1, seqs.size)  # raises where it cannot be had
    return difference
