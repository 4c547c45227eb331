"""A real step on the CPU, with what each part of it allocates: by torch's own record of allocations."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch.profiler import ProfilerActivity, profile
from transformers.modeling_outputs import BaseModelOutput

from replication.config import Config
from replication.data import recurrence
from replication.data.module import ProblemModule
from replication.data.sources import Problem
from replication.data.template import prompt_ids
from replication.policy import recompute_activations
from replication.rollout.builtin.cache import RowCache
from replication.rollout.builtin.decoder import TorchSession
from replication.rollout.policy import Policy
from replication.rollout.trace import Rollout
from replication.training.accumulate import optimizer_step
from replication.training.logprobs import completion_logp
from replication.training.module import E3RLModule
from replication.training.sampler import Sampler
from replication.training.trainer import build_trainer

NEVER = [-1]  # no token ends a completion, so that each has the longest length, as the plan assumes


class Allocations:
    """Bytes that were allocated beyond those at the start: the most at any time, and at the end."""

    peak = end = 0


@contextmanager
def allocations() -> Iterator[Allocations]:
    """Follow what torch allocates on the CPU, temporaries inside its operators included."""
    found = Allocations()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        yield found
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        found.end += event.nbytes()
        found.peak = max(found.peak, found.end)


def nbytes(tensors: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def step(config: Config, policy: Any, tokenizer: Any) -> dict[str, float]:
    """One training step through Lightning: bytes of each part, and the peaks of its rollout and its update."""
    found: dict[str, float] = {}
    caches: list[int] = []
    release, sample = RowCache.release, Policy.roll_out

    def note(cache: RowCache) -> None:
        caches.append(nbytes(cache.tensors()))
        release(cache)

    def rollout(*args: Any) -> Any:
        with mock.patch.object(RowCache, "release", note), allocations() as seen:
            done = sample(*args)
        found["KV cache"], found["rollout, peak"] = sum(sorted(caches)[-2:]), seen.peak  # the rows', a prompts'
        return done

    def update(module: Any, batches: Any, grad_clip: float) -> Any:
        with allocations() as seen:
            loss = optimizer_step(module, batches, grad_clip)
        optimizer: Any = module.optimizers().optimizer
        found["weights"] = nbytes(module.policy.parameters())
        found["gradients"] = nbytes(p.grad for p in module.policy.parameters() if p.grad is not None)
        found["optimizer"] = nbytes(t for state in optimizer.state.values() for t in state.values() if t.dim())
        found["update, peak"] = seen.peak  # of the last: gradients and moments are there when it begins
        return loss

    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(Policy, "roll_out", rollout))
        patches.enter_context(mock.patch("replication.training.module.optimizer_step", update))
        run_steps(config, policy, tokenizer)
    return found


def seconds(config: Config, policy: Any, tokenizer: Any) -> tuple[float, float, int, int]:
    """Seconds of the processor for the last step's rollout and for its training, nothing followed, of one thread; and
    the tokens and the passes of that rollout."""
    times: dict[str, float] = {}
    rollouts: list[Rollout] = []

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any) -> Any:
            start = time.process_time()
            done = work(*args)
            times[name] = time.process_time() - start
            if name == "roll_out":
                rollouts.append(done)
            return done

        return wrapped

    with ExitStack() as patches:
        for owner, name in ((E3RLModule, "training_step"), (Sampler, "step"), (Policy, "roll_out")):
            patches.enter_context(mock.patch.object(owner, name, timed(name, getattr(owner, name))))
        run_steps(config, policy, tokenizer)
    return times["roll_out"], times["training_step"] - times["step"], rollouts[-1].row_steps, rollouts[-1].steps


def problems_of(config: Config) -> list[Problem]:
    return recurrence.problems(config.train.prompts, seed=1, steps=8)


def prompt_tokens(config: Config, tokenizer: Any) -> int:
    """Tokens of the longest prompt."""
    return max(len(prompt_ids(tokenizer, p.question)) for p in problems_of(config))


def run_steps(
    config: Config, policy: Any, tokenizer: Any, keep: Path | None = None, checkpoint: Path | None = None
) -> E3RLModule:
    """Train through Lightning, by the code that `fit` runs.

    Args:
        config, policy, tokenizer: of the run.
        keep: folder for its checkpoints; without one they are dropped.
        checkpoint: to go on from.

    Returns:
        The module after its last step.
    """
    t, problems = config.train, problems_of(config)
    if config.trainer.gradient_checkpointing:
        recompute_activations(policy)
    with tempfile.TemporaryDirectory() as folder, mock.patch("replication.rollout.policy.eos_ids", lambda *_: NEVER):
        module = E3RLModule(config, policy.train(), tokenizer, problems, seed=0)
        stream = ProblemModule(len(problems), t.steps, t.prompts, t.minibatches, 0)
        trainer = build_trainer(config, keep or Path(folder), lambda: None)
        trainer.fit(module, stream, ckpt_path=checkpoint, weights_only=False)
    return module


def activations(config: Config, policy: Any, rows: int, prompt: int) -> int:
    """Bytes that live between the forward and the backward pass of a micro-batch."""
    longest = config.rollout.segments * config.rollout.segment_tokens
    ids = torch.ones(rows, prompt + longest, dtype=torch.long)
    at = (prompt + torch.arange(longest)).expand(rows, -1).contiguous()
    with torch.autocast("cpu", torch.bfloat16, enabled=config.trainer.precision == "bf16", cache_enabled=False):
        policy.train()
        with allocations() as seen:
            kept = completion_logp(policy, ids, at, ids[:, prompt:], 1.0)
    return seen.end - nbytes(kept)


class _Given(torch.nn.Module):
    """A decoder whose hidden states are given: as narrow as can be, so that the logits alone take memory."""

    def __init__(self, hidden: torch.Tensor):
        super().__init__()
        self.hidden = hidden

    def forward(self, **_: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=self.hidden * 1)


class _HeadAlone(torch.nn.Module):
    """A causal LM of which only the head is of the real size."""

    def __init__(self, hidden: torch.Tensor, vocabulary: int):
        super().__init__()
        self.decoder, self.head = _Given(hidden), torch.nn.Linear(1, vocabulary, bias=False).requires_grad_(False)

    def forward(self, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(self.decoder().last_hidden_state))

    def get_decoder(self) -> torch.nn.Module:
        return self.decoder

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.head


def training_logits(rows: int, longest: int, vocabulary: int) -> int:
    """Peak of scoring a micro-batch whose hidden states and head are as narrow as can be."""
    model = _HeadAlone(torch.zeros(rows, longest + 1, 1, requires_grad=True), vocabulary)
    at = torch.arange(1, longest + 1).expand(rows, -1)
    with allocations() as seen:
        logp, _ = completion_logp(model, torch.zeros(rows, longest + 1), at, torch.zeros_like(at), 1.0)
        logp.sum().backward()
    return seen.peak


class _Named(SimpleNamespace):
    """A model of which nothing but its description is looked at."""

    def forward(self) -> None: ...


def rollout_logits(config: Config, rows: int, vocabulary: int) -> int:
    """Peak of drawing the tokens of a segment, the model's part left out."""
    prompts = [[1]] * (rows // config.rollout.group_size)
    model = _Named(
        device=torch.device("cpu"),
        config=SimpleNamespace(
            get_text_config=lambda decoder: SimpleNamespace(num_hidden_layers=1, _attn_implementation="sdpa")
        ),
    )
    session = TorchSession(model, prompts, config.rollout, NEVER, ["entropy"], None)
    session.ask(torch.arange(rows), torch.zeros(rows, dtype=torch.long), torch.arange(rows))
    forward = mock.patch.object(TorchSession, "_forward", lambda *_: torch.randn(rows, vocabulary))
    with torch.inference_mode(), forward, allocations() as seen:
        session._decode(torch.arange(rows))
    return seen.peak
