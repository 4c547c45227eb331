"""Erasable decoding through transformers' own interface: `model.generate(..., custom_generate=erasable)`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor

from replication.config import ErasureConfig, RolloutConfig
from replication.decoding.sample import check_group
from replication.errors import UserError
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.engine import roll_out
from replication.seeds import seed_for

UNDERSTOOD = {
    "TemperatureLogitsWarper",
    "TopKLogitsWarper",
    "TopPLogitsWarper",
    "MaxLengthCriteria",
    "EosTokenCriteria",
}


def erasable(
    model: Any,
    input_ids: Tensor,
    logits_processor: Any = None,
    stopping_criteria: Any = None,
    generation_config: Any = None,
    erasure: ErasureConfig | None = None,
    segment_tokens: int = 64,
    seed: int = 0,
    **model_kwargs: Any,
) -> Tensor:
    """A decoding method for `generate`: the completions of a prompt (`num_return_sequences`) are its group.

    transformers hands no `streamer` on to such a method; `replication.decoding.generate` takes a watcher.

        model.generate(**inputs, custom_generate=erasable, do_sample=True, top_k=0, max_new_tokens=512,
                       num_return_sequences=8, erasure=ErasureConfig(kappa=0.0), segment_tokens=64)

    Args:
        model, input_ids, logits_processor, stopping_criteria, generation_config: from `generate`; [P * G, T] ids,
            padded on the left where the attention mask among `model_kwargs` is 0. Uncertainty is that of the
            whole distribution, whatever top_k and top_p leave of it.
        erasure: when a segment is erased; the defaults of `ErasureConfig` if not given.
        segment_tokens: L; `max_new_tokens` is rounded up to whole segments for the rollout, which the model must be
            able to read, and cut afterwards.
        seed: the completions are a function of it, of the prompt's ids, of how many times the prompt came before in
            the batch, and of their own place in the group.

    Returns:
        [P * G, T + new] ids, padded on the right.

    Raises:
        UserError: greedy or beam search, processors or stopping criteria other than temperature, top_k, top_p, length
            and end of text, return_dict_in_generate, or what the rollout refuses.
    """
    config = generation_config
    if not config.do_sample or (config.num_beams or 1) > 1:
        raise UserError("erasing resamples: pass do_sample=True and num_beams=1")
    named = [type(p).__name__ for p in [*(logits_processor or ()), *(stopping_criteria or ())]]
    unknown = [name for name in named if name not in UNDERSTOOD]
    if unknown:
        raise UserError(
            f"{', '.join(unknown)}: erasing draws by temperature, top_k and top_p, and ends by id or length"
        )
    if config.return_dict_in_generate:
        raise UserError(
            "erasable returns ids: no return_dict_in_generate; replication.decoding.generate returns every token's "
            "log-probability, every threshold and every erased attempt"
        )
    group = config.num_return_sequences or 1
    new = config.max_length - input_ids.shape[1]
    rollout = RolloutConfig(
        group_size=group,
        temperature=1.0 if config.temperature is None else config.temperature,
        segments=-(-new // segment_tokens),
        segment_tokens=segment_tokens,
        max_rows=len(input_ids),
        top_k=config.top_k or 0,
        top_p=1.0 if config.top_p is None else config.top_p,
    )
    erasure = erasure or ErasureConfig()
    check_group(rollout, erasure, len(input_ids) // group)
    attention_mask = model_kwargs.get("attention_mask")
    kept = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    prompts = [ids[mask.bool()].tolist() for ids, mask in zip(input_ids[::group], kept[::group], strict=True)]
    before: Counter[tuple[int, ...]] = Counter()
    keys = []
    for prompt in map(tuple, prompts):
        keys += [seed_for(seed, "generate", *prompt, "again", before[prompt], member) for member in range(group)]
        before[prompt] += 1
    ends = config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends] if ends is not None else []
    pad = config.pad_token_id if config.pad_token_id is not None else (ends or [0])[0]
    done = roll_out(TorchEngine(model), prompts, torch.tensor(keys), rollout, erasure, ends, pad)
    longest = min(new, int(done.length.max()))
    return torch.cat([input_ids, done.tokens[:, :longest]], dim=1)
