"""Log-probabilities of completions under the policy that is being trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from replication.rollout.sampling import tempered_logp
from replication.rollout.uncertainty import token_entropy, token_surprisal

CHUNK = 4096  # tokens whose logits, [CHUNK, V], are held at once


def chunk_tokens(vocabulary: int) -> int:
    """Tokens whose logits, [tokens, V], are held at once: 2**28 logits at most."""
    return max(1, 2**28 // vocabulary)


def completion_logp(model: Any, ids: Tensor, at: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probability and entropy at every token of the completions, at the sampling temperature.

    Logits are made in chunks of tokens and made again in the backward pass, so that no [r, T, V] tensor is ever held.
    Padding is on the right and attention is causal, so that no token can see it and no mask is needed.

    Args:
        model: a transformers causal LM.
        ids: [r, S] prompts and completions, padded on the right.
        at: [r, T] position of each completion token in `ids`.
        tokens: [r, T] the completion tokens.
        temperature: of the sampling.

    Returns:
        [r, T] log-probabilities, with gradient, and [r, T] entropies, without; in nats, meaningless on padding.
    """
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state  # [r, S, D]
    before = hidden.gather(1, (at - 1)[..., None].expand(-1, -1, hidden.shape[-1])).flatten(0, 1)  # [r * T, D]
    head = model.get_output_embeddings()

    def score(states: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        logp = tempered_logp(head(states), temperature)
        return -token_surprisal(logp, chosen), token_entropy(logp.detach())

    pieces = [
        checkpoint(score, states, chosen, use_reentrant=False)
        for states, chosen in zip(before.split(CHUNK), tokens.flatten().split(CHUNK), strict=True)
    ]
    logp, entropy = (torch.cat(part).view(tokens.shape) for part in zip(*pieces, strict=True))
    return logp, entropy
