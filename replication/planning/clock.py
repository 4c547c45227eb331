"""Seconds of a step's parts on this CPU: timed, with a model of the policy's shape and random weights."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from replication.credit.allocation import answer_attention
from replication.planning.memory import Plan
from replication.planning.sizes import random_model
from replication.rollout.engine import roll_out
from replication.training.logprobs import completion_logp
from replication.training.machine import training_dtype

NEVER = [-1]  # no token ends a completion
PIECE = 8  # tokens of a timed segment, at most


def usual(work: Callable[[], object], together: float = 1.0) -> float:
    """The median seconds of calls that take `together` seconds, at least one."""
    spent: list[float] = []
    while sum(spent) < together:
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def decoding_pass(p: Plan, model: Any) -> float:
    """In the middle of the longest completion, judged and erased as the run's are: what two more segments add to a
    rollout of as many rows as there are lanes, over the passes that they add."""
    settings = replace(p.config.rollout, segment_tokens=min(p.config.rollout.segment_tokens, PIECE))
    before = max(1, p.prompt + p.longest // 2 - 2 * settings.segment_tokens)
    prompts = [[1] * before] * max(1, p.lanes // settings.group_size)
    keys = torch.arange(len(prompts) * settings.group_size)

    def sample(segments: int) -> int:
        rollout = replace(settings, segments=segments)
        return roll_out(model, prompts, keys, rollout, p.config.erasure, NEVER, 0).steps

    passes = sample(3) - sample(1)
    return (usual(lambda: sample(3)) - usual(lambda: sample(1))) / passes


def prefill(p: Plan, model: Any) -> float:
    """Of a prompt, all its tokens but the last, together with those of as many groups as the lanes hold."""
    ids = torch.ones(max(1, p.lanes // p.config.rollout.group_size), max(1, p.prompt - 1), dtype=torch.long)
    with torch.inference_mode():
        return usual(lambda: model(input_ids=ids, use_cache=False, logits_to_keep=1)) / len(ids)


def training(p: Plan, model: Any) -> float:
    """Of all rows of a process: the passes of every epoch and its optimizer steps, the attention of the answers, and
    the reference policy. An erased attempt that is a row is taken to be half as long as the longest completion."""
    c = p.config
    ids = torch.ones(p.micro, p.prompt + p.longest, dtype=torch.long)
    at = (p.prompt + torch.arange(p.longest)).expand(p.micro, -1)
    end = torch.full((p.micro,), ids.shape[1])
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=0.0)

    def score() -> torch.Tensor:
        return completion_logp(model, ids, at, ids[:, p.prompt :], c.rollout.temperature)[0]

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()

    batches = p.rows / p.micro
    passes = usual(lambda: score().sum().backward()) * batches * (1 + p.attempts / 2)
    spent = c.train.epochs * (passes + c.train.minibatches * usual(update))
    if c.credit.advantage == "segment" and c.credit.allocation == "attention":
        spent += batches * usual(lambda: answer_attention(model, ids, end - c.rollout.segment_tokens, end))
    if c.objective.kl:
        with torch.no_grad():
            spent += batches * usual(score)
    return spent


def timed(p: Plan) -> tuple[float, float, float]:
    """Seconds of a decoding pass, of a prompt's prefill, and of the training of a step, timed now."""
    model = random_model(p.config.policy).to(getattr(torch, training_dtype(p.config.trainer)))
    if p.config.policy.lora_rank:
        from replication.training.lora import add_adapters  # peft takes seconds to import

        add_adapters(model, p.config.policy, seed=0)
    if p.config.trainer.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    with torch.autocast("cpu", torch.bfloat16, enabled=p.mixed, cache_enabled=False):
        return decoding_pass(p, model.eval()), prefill(p, model), training(p, model.train())
