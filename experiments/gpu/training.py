"""The paper's micro-batch, and whole E3RL steps through Lightning and DeepSpeed: seconds and memory beside the plan."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal
from unittest import mock

import torch

from experiments.gpu.device import GIB, cudnn, flops, free, made, milliseconds, on_cuda, peak_gib, place, planned
from experiments.gpu.groups import Setting
from experiments.gpu.rows import Rows
from experiments.training import measure
from experiments.training.clock import Clock, settle
from experiments.training.step import parity
from replication import policy as policies
from replication.config import Config
from replication.planning import memory, pace
from replication.planning.plan import Plan
from replication.planning.seconds import step_seconds
from replication.rollout.policy import Policy
from replication.rollout.trace import Rollout
from replication.training import module as module_file
from replication.training.checkpoint import RolloutCheckpoint
from replication.training.kernels import use_liger
from replication.training.logprobs import completion_logp
from replication.training.lora import add_adapters
from replication.training.machine import training_dtype
from replication.training.module import E3RLModule
from replication.training.sampler import Sampler

SHORT = "--train.prompts 4 --train.minibatches 2 --train.micro_rows 2 --rollout.group_size 8 --rollout.max_rows 32 "
SHORT += "--rollout.segments 3 --train.checkpoint_every 1000 --train.width_multiple 1"  # no padding: the plan has none
LORA = "--policy.lora_rank 32"
PHASES = {"rollout": "rollout", "scoring": "forward", "backward": "backward", "update": "optimizer"}
"""The plan's name of a phase -> ours"""


def micro_batch(rows: Rows, setting: Setting) -> None:
    """The largest micro-batch of the paper's 4B: two rows of 8,448 tokens, forward, recomputed, and backward."""
    p, _ = planned("4b", "--algorithm e3rl", setting)
    model = made("4B", setting)
    policies.recompute_activations(model)
    count, prompt, longest = (2, 8, 24) if setting.tiny else (2, 256, 8192)
    ids = torch.randint(5, 400, (count, prompt + longest), device=place())
    at = (prompt + torch.arange(longest, device=place())).expand(count, -1)

    def work() -> None:
        completion_logp(model, ids, at, ids[:, prompt:], 1.0)[0].sum().backward()

    ways = [("cuDNN on", True, False), ("cuDNN off", False, False)]
    ways += [("fused kernels, cuDNN off", False, True)] if on_cuda() and find_spec("liger_kernel") else []
    for label, on, fused in ways:
        if fused:
            use_liger(model)
        name = f"{count} x {prompt + longest:,} tokens, {label}"
        free()
        with cudnn(on):
            first = milliseconds(work, 1, 0)
            spent = milliseconds(work, 2, 0) / 1e3
        rows.add(name, spent, "s", note=f"the first {first / 1e3:.2f} s")
        if on_cuda() and not setting.tiny:
            done = 4 * pace.token_flops(p) * ids.numel() / spent
            against = done / 1e12 / flops(rows)
            note = (
                f"of {pace.gpu(p).name}'s {pace.gpu(p).flops / 1e12:.0f} TFLOP/s; {against:.0%} of the matrix product's"
            )
            rows.add(f"{name}: share of the FLOP/s", done / pace.gpu(p).flops, "", ">= 0.45", note)
            plan = micro_batch_gib(p, "liger" if fused else "torch")
            note = f"measured {peak_gib():.1f} GiB, planned {plan:.1f}"
            rows.add(f"{name}: memory, plan over measured", plan / peak_gib(), "", "<= 1.15", note)


def micro_batch_gib(p: Plan, kernels: Literal["torch", "liger"]) -> float:
    """Planned memory of one micro-batch and nothing else: weights, gradients, and the larger of two phases."""
    p = replace(p, config=replace(p.config, trainer=replace(p.config.trainer, kernels=kernels)))
    weights, largest = 2 * p.element * p.sizes.parameters, 2 * p.element * p.sizes.largest
    held = weights + memory.saved_activations(p)
    return max(held + memory.layer_backward(p) + largest, held + memory.training_logits(p)) / GIB


class Parts:
    """Seconds and peaks of memory of a step, by part; of parts inside others, only the inner ones count."""

    def __init__(self) -> None:
        self.clock = Clock(settle)
        self.peaks: dict[str, float] = {}

    def wrap(self, part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The function, followed."""

        def followed(*args: Any, **named: Any) -> Any:
            if on_cuda():
                torch.cuda.reset_peak_memory_stats()
            try:
                return work(*args, **named)
            finally:
                self.peaks[part] = max(self.peaks.get(part, 0.0), peak_gib())
                if on_cuda():
                    torch.cuda.reset_peak_memory_stats()  # what comes after it in an outer part is that one's own

        return self.clock.wrap(part, followed)


def tokenizer_of(words: int) -> Any:
    """The small tokenizer, with a word for every id of a larger model."""
    more = [f"w{i}" for i in range(words - len(policies.ALPHABET))]
    with mock.patch.object(policies, "ALPHABET", [*policies.ALPHABET, *more]):
        return policies.small_tokenizer()


def followed(
    config: Config, model: Any, tokenizer: Any, saves: bool, tell: Callable[[Parts, E3RLModule, Rollout], None]
) -> Parts:
    """Steps by the code that `fit` runs, by part; each is told as soon as it is done."""
    parts, done = Parts(), list[Rollout]()
    step, roll_out = E3RLModule.training_step, Policy.roll_out

    def sampled(*args: Any) -> Rollout:
        done.append(roll_out(*args))
        return done[-1]

    def stepped(module: Any, *args: Any) -> None:
        parts.clock.parts.clear()
        parts.clock.last = parts.clock.now()
        step(module, *args)
        parts.clock.tick()
        tell(parts, module, done[-1])

    def save(checkpoints: Any, trainer: Any, module: Any, path: Any) -> None:
        trainer.save_checkpoint(path)

    places: list[tuple[Any, str, str, Callable[..., Any]]] = [
        (Policy, "roll_out", "rollout", sampled),
        (Sampler, "_grade", "grading", partial(parity, Sampler._grade)),
        (E3RLModule, "answer_mass", "answer's attention", E3RLModule.answer_mass),
        (E3RLModule, "forward", "forward", E3RLModule.forward),
        (E3RLModule, "manual_backward", "backward", E3RLModule.manual_backward),
        (module_file, "optimizer_step", "optimizer", module_file.optimizer_step),
        (RolloutCheckpoint, "save", "checkpoint", save if saves else lambda *_: None),
    ]
    with ExitStack() as patches:
        for owner, name, part, work in places:
            patches.enter_context(mock.patch.object(owner, name, parts.wrap(part, work)))
        patches.enter_context(mock.patch.object(E3RLModule, "training_step", stepped))
        measure.run_steps(config, model, tokenizer)
    return parts


def steps(rows: Rows, setting: Setting, size: str, flags: str, saves: bool = False) -> None:
    """E3RL steps of 32 completions, told by part, and the last one beside the plan."""
    tokens = 4 if setting.tiny else 32
    p, config = planned(size.lower(), f"--algorithm e3rl {SHORT} --rollout.segment_tokens {tokens} {flags}", setting)
    tokenizer = tokenizer_of(p.sizes.vocabulary)
    p = replace(p, prompt=measure.prompt_tokens(config, tokenizer))
    dtype = getattr(torch, training_dtype(config.trainer))
    model = policies.small_model(config.policy, tokenizer, 0) if setting.tiny else made(size, setting, dtype)
    if config.policy.lora_rank:
        add_adapters(model, config.policy, 0)

    def tell(parts: Parts, module: E3RLModule, done: Rollout) -> None:
        spent, row, number = parts.clock.steps[-1], module.history[-1], len(module.history)
        told = ", ".join(f"{part} {seconds:.2f}" for part, seconds in spent.items() if part != "step")
        rows.add(f"step {number}", spent["step"], "s", note=told)
        note = f"loss {row['loss']:.3g}, erasure rate {row['erasure_rate']:.2f}"
        rows.add(f"step {number}: sampler against trainer", row["mismatch"], "nats", "<= 0.1", note)
        if number == config.train.steps and on_cuda() and not setting.tiny:
            beside_plan(rows, p, parts, done.row_steps, done.steps)

    began = time.perf_counter()
    parts = followed(config, model, tokenizer, saves, tell)
    start = time.perf_counter() - began - sum(step["step"] for step in parts.clock.steps)
    if saves:
        rows.add("checkpoint saved", parts.clock.parts["checkpoint"], "s")
    rows.add("the run beside its steps", start, "s", note="the trainer's start and end, and its checkpoint if it saves")


def beside_plan(rows: Rows, p: Plan, parts: Parts, sampled: int, passes: int) -> None:
    """Seconds of the plan for as many tokens and passes, and memory by phase."""
    spent, plan = parts.clock.steps[-1], step_seconds(p, sampled, passes)
    training = spent["step"] - spent["rollout"] - spent["grading"]
    for name, found in (("rollout", spent["rollout"]), ("training", training)):
        rows.add(f"{name}: plan over measured", plan[name] / found, "", note=f"planned {plan[name]:.2f} s")
    for phase, held in memory.memory(p).items():
        measured, planned_gib = parts.peaks[PHASES[phase]], sum(held.values()) / GIB
        note = f"measured {measured:.1f} GiB, planned {planned_gib:.1f}"
        rows.add(f"memory, {phase}: plan over measured", planned_gib / measured, "", note=note)


def lora_4b(rows: Rows, setting: Setting) -> None:
    """Two steps of 4B with adapters under ZeRO-2, and its checkpoint."""
    steps(rows, setting, "4B", f"{LORA} --train.steps 2", saves=True)


def offload_4b(rows: Rows, setting: Setting) -> None:
    """A step of all weights of 4B, Adam's moments in the machine's memory: 72 GB of it."""
    steps(rows, setting, "4B", "--train.steps 1" + ("" if setting.tiny else " --trainer.offload optimizer"))


def lora_8b(rows: Rows, setting: Setting) -> None:
    """Two steps of 8B with adapters under ZeRO-2."""
    steps(rows, setting, "8B", f"{LORA} --train.steps 2")
