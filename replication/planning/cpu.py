"""How fast this CPU is at a run's parts: timed, with a model of the policy's shape and random weights."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from replication.credit.allocation import answer_attention
from replication.planning.pace import Pace
from replication.planning.plan import Plan
from replication.planning.sizes import random_model
from replication.policy import recompute_activations
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.engine import roll_out
from replication.training.logprobs import completion_logp
from replication.training.machine import training_dtype

NEVER = [-1]  # no token ends a completion
PIECE = 8  # tokens of a timed segment, at most
TOGETHER = 1.0  # seconds that what is timed is repeated for


def pace(p: Plan) -> Pace:
    """Time a decoding pass, a prompt, and the training of a step, as the run would do them."""
    model = random_model(p.config.policy).to(getattr(torch, training_dtype(p.config.trainer)))
    if p.config.policy.lora_rank:
        from replication.training.lora import add_adapters  # peft takes seconds to import

        add_adapters(model, p.config.policy, seed=0)
    if p.config.trainer.gradient_checkpointing:
        recompute_activations(model)
    with torch.autocast("cpu", torch.bfloat16, enabled=p.mixed, cache_enabled=False):
        model.eval()
        decoding, prompt = decoding_pass(p, model), prefill(p, model)
        return Pace(decoding, prompt, training(p, model.train()))


class Passes:
    """Watches a rollout: how many passes came after its first, and how long they took."""

    def __init__(self) -> None:
        self.count, self.began, self.ended = -1, 0.0, 0.0

    def sampled(self, rows: Tensor, tokens: Tensor) -> None:
        self.ended = time.perf_counter()
        self.count += 1
        self.began = self.began or self.ended

    def erased(self, rows: Tensor) -> None: ...

    def accepted(self, rows: Tensor) -> None: ...


def decoding_pass(p: Plan, model: Any) -> float:
    """Seconds of a pass in the middle of the longest completion: the mean over a rollout of three short segments, with
    the rows, the lanes and the erasures that the run's settings make of random weights, prefill left out."""
    rollout, g = p.config.rollout, p.config.rollout.group_size
    settings = replace(rollout, segments=3, segment_tokens=min(rollout.segment_tokens, PIECE))
    engine = TorchEngine(model)
    middle = p.prompt + (p.longest - 3 * settings.segment_tokens) // 2
    prompts = [[1] * max(1, min(middle, engine.room(settings)))] * max(1, p.in_flight // g)
    spent, count = 0.0, 0
    engine.sync()  # as before a rollout
    while spent < TOGETHER:
        passes = Passes()
        roll_out(engine, prompts, torch.arange(len(prompts) * g), settings, p.config.erasure, NEVER, 0, watcher=passes)
        spent, count = spent + passes.ended - passes.began, count + passes.count
    engine.rest()
    return spent / count


def prefill(p: Plan, model: Any) -> float:
    """Seconds of a prompt, all its tokens but the last, together with those of as many groups as are in flight."""
    ids = torch.ones(max(1, p.in_flight // p.config.rollout.group_size), max(1, p.prompt - 1), dtype=torch.long)
    with torch.inference_mode():
        return median_seconds(lambda: model(input_ids=ids, use_cache=False, logits_to_keep=1)) / len(ids)


def training(p: Plan, model: Any) -> float:
    """Seconds of all rows of a process: the passes of every epoch and its optimizer steps, the attention of the
    answers, and the reference policy. An erased attempt that is a row is taken to be half as long as the longest."""
    c = p.config
    ids = torch.ones(p.micro, p.prompt + p.longest, dtype=torch.long)
    at = (p.prompt + torch.arange(p.longest)).expand(p.micro, -1)
    end = torch.full((p.micro,), ids.shape[1])
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=0.0)

    def score() -> Tensor:
        return completion_logp(model, ids, at, ids[:, p.prompt :], c.rollout.temperature)[0]

    def update() -> None:
        if c.train.grad_clip:
            torch.nn.utils.clip_grad_norm_(weights, c.train.grad_clip)
        optimizer.step()

    batches = p.rows / p.micro
    passes = batches * (1 + p.attempts / 2) * median_seconds(lambda: score().sum().backward())
    spent = c.train.epochs * (passes + c.train.minibatches * median_seconds(update))
    if p.looks_back:
        spent += batches * median_seconds(lambda: answer_attention(model, ids, end - c.rollout.segment_tokens, end))
    if more := bool(c.objective.kl) + c.scores_first:
        with torch.no_grad():
            spent += more * batches * (1 + p.attempts / 2) * median_seconds(score)
    return spent


def median_seconds(work: Callable[[], object]) -> float:
    """Of calls that take TOGETHER, at least one."""
    spent: list[float] = []
    while sum(spent) < TOGETHER:
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)
