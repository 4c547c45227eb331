"""Log-probabilities of completions under the policy that is being trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from replication.rollout.masks import decoder_of
from replication.rollout.sampling import tempered_logp
from replication.rollout.uncertainty import token_entropy, token_surprisal

LOGITS = 2**28  # float32 logits held at once, 1 GiB


def chunk_tokens(vocabulary: int) -> int:
    """Tokens whose logits are held at once."""
    return max(1, LOGITS // vocabulary)


def chunks(model: Any, tokens: Tensor) -> int:
    """In how many chunks [r, T] tokens are scored."""
    return -(-tokens.numel() // chunk_tokens(model.get_output_embeddings().out_features))


def completion_logp(
    model: Any, ids: Tensor, at: Tensor, tokens: Tensor, temperature: float, at_least: int = 1
) -> tuple[Tensor, Tensor]:
    """Log-probability and entropy at every token of the completions, at the sampling temperature.

    Logits are made in chunks of tokens and made again in the backward pass, so that no [r, T, V] tensor is ever held.
    Padding is on the right and attention is causal, so that no token can see it and no mask is needed.

    Args:
        model: a transformers causal LM.
        ids: [r, S] prompts and completions, padded on the right.
        at: [r, T] position of each completion token in `ids`.
        tokens: [r, T] the completion tokens.
        temperature: of the sampling.
        at_least: chunks, empty ones if need be: under ZeRO-3 all processes must call the output head equally often.

    Returns:
        [r, T] log-probabilities, with gradient, and [r, T] entropies, without; in nats, meaningless on padding.
    """
    with recomputing(model):
        out = decoder_of(model)(input_ids=ids, use_cache=False)
    hidden = out.last_hidden_state  # [r, S, D]
    before = hidden.gather(1, (at - 1)[..., None].expand(-1, -1, hidden.shape[-1])).flatten(0, 1)  # [r * T, D]

    def score(states: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        logp = tempered_logp(logits_of(model, out, states), temperature)
        return -token_surprisal(logp, chosen), token_entropy(logp.detach())

    size = chunk_tokens(model.get_output_embeddings().out_features)
    places = range(0, max(len(before), (at_least - 1) * size + 1), size)
    chosen = tokens.flatten()
    pieces = [checkpoint(score, before[i : i + size], chosen[i : i + size], use_reentrant=False) for i in places]
    logp, entropy = (torch.cat(part).view(tokens.shape) for part in zip(*pieces, strict=True))
    return logp, entropy


@contextmanager
def recomputing(model: Any) -> Iterator[None]:
    """Put blocks that are to make their activations again in the backward pass into training mode: transformers asks
    for it. The rest of the policy stays in eval mode, as when it samples."""
    blocks = [module for module in model.modules() if getattr(module, "gradient_checkpointing", False)]
    for block in blocks:
        block.training = True
    try:
        yield
    finally:
        for block in blocks:
            block.training = False


def logits_of(model: Any, out: Any, states: Tensor) -> Tensor:
    """Logits of hidden states, by the model's own forward pass after its decoder.

    So all that a model does there is done, as when it samples: its head, and a scaling or a cap of the logits.

    Args:
        model: a transformers causal LM.
        out: what its decoder gave; all but the hidden states are handed on.
        states: [n, D] hidden states after the decoder.

    Returns:
        [n, V] logits, before the temperature.
    """
    with decoded(decoder_of(model), type(out)(**{**out, "last_hidden_state": states[None]})):
        logits: Tensor = model(input_ids=states.new_zeros(1, len(states), dtype=torch.long), use_cache=False).logits
    return logits[0]


@contextmanager
def decoded(decoder: Any, out: Any) -> Iterator[None]:
    """Have the decoder give `out`, whatever it is asked."""
    before = vars(decoder).get("forward")  # None: the class's own
    decoder.forward = lambda *_, **__: out
    try:
        yield
    finally:
        del decoder.forward
        if before is not None:
            decoder.forward = before
