"""The same completions by this engine, by transformers' `generate`, and by its continuous batching.

The engine's completions end where the model ends them. The peers then sample completions of just those lengths, so that
all three do the same work and only the order of it differs.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from experiments.training.clock import settle
from replication.config import ErasureConfig, RolloutConfig
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.engine import roll_out
from replication.rollout.trace import Rollout

Result = TypeVar("Result")
PLAIN = ErasureConfig(fraction=0.0)


def timed(work: Callable[..., Result], *args: Any) -> tuple[float, Result]:
    """Wall-clock seconds of one call, and what it returned; Python's garbage is collected before, as in timeit: a
    collection takes 0.2 s with all that torch and transformers hold, and would fall on whoever is measured then."""
    gc.collect()
    gc.disable()
    settle()
    started = time.perf_counter()
    try:
        result = work(*args)
        settle()
    finally:
        spent = time.perf_counter() - started
        gc.enable()
    return spent, result


def engine(
    model: Any, prompts: Sequence[Sequence[int]], rows: int, cap: int, eos: int, erasure: ErasureConfig = PLAIN
) -> tuple[float, Rollout]:
    """Seconds, and the completions; `rows` at once, one completion a prompt, at most `cap` tokens, in segments of
    eight."""
    settings = RolloutConfig(group_size=1, segments=cap // 8, segment_tokens=8, max_rows=rows)
    return timed(roll_out, TorchEngine(model), prompts, torch.arange(len(prompts)), settings, erasure, [eos], 0)


class _AtLength(StoppingCriteria):
    """Ends each row of a batch at a length of its own."""

    def __init__(self, ends: Sequence[int]):
        self.ends = torch.tensor(ends)

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        return input_ids.shape[1] >= self.ends.to(input_ids.device)


def generate(model: Any, prompts: Sequence[Sequence[int]], rows: int, lengths: Sequence[int]) -> float:
    """Seconds of `generate`, `rows` prompts a call in the order they come in, padded on the left."""

    def call(some: Sequence[Sequence[int]], sizes: Sequence[int]) -> None:
        width = max(map(len, some))
        ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in some], device=model.device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in some], device=model.device)
        settings = GenerationConfig(
            do_sample=True, top_k=0, top_p=1.0, max_new_tokens=max(sizes), pad_token_id=0, eos_token_id=-1
        )
        ends = StoppingCriteriaList([_AtLength([width + size for size in sizes])])
        out = model.generate(ids, attention_mask=mask, generation_config=settings, stopping_criteria=ends)
        assert out.shape == (len(some), width + max(sizes))

    places = range(0, len(prompts), rows)
    spent, _ = timed(lambda: [call(prompts[i : i + rows], lengths[i : i + rows]) for i in places])
    return spent


def continuous(model: Any, prompts: Sequence[Sequence[int]], rows: int, lengths: Sequence[int]) -> float:
    """Seconds of the continuous batching, at most `rows` requests in a pass; its start is not counted."""
    page = 32
    blocks = rows * -(-(max(map(len, prompts)) + max(lengths) + 1) // page) + 1
    settings = GenerationConfig(do_sample=True, top_k=0, top_p=1.0, eos_token_id=-1, max_new_tokens=max(lengths))
    batching = ContinuousBatchingConfig(
        page_size=page, num_blocks=blocks, max_batch_tokens=max(256, 2 * rows), max_requests_per_batch=rows
    )
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)
    manager = model.continuous_batching_context_manager(
        generation_config=settings, continuous_batching_config=batching, block=True, timeout=5
    )

    def serve(running: Any) -> list[int]:
        for prompt, size in zip(prompts, lengths, strict=True):
            running.add_request(list(prompt), max_new_tokens=size, eos_token_id=-1)
        sizes: list[int] = []
        while len(sizes) < len(prompts):
            result = running.get_result(timeout=60)
            if result is None or result.error:
                raise RuntimeError(f"continuous batching gave up: {result and result.error}")
            if result.is_finished():
                sizes.append(len(result.generated_tokens))
        return sizes

    with torch.no_grad(), manager as running:
        spent, sizes = timed(serve, running)
    assert sorted(sizes) == sorted(lengths)
    return spent
