"""The erasable rollout (method.md sections 1 to 5): groups of completions, sampled segment by segment."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from replication.config import ErasureConfig, RolloutConfig
from replication.errors import UserError
from replication.rollout.judge import Judge
from replication.rollout.ledger import Ledger
from replication.rollout.protocol import Engine, Watcher
from replication.rollout.trace import Rollout

P = ParamSpec("P")
T = TypeVar("T")


def rolling(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    keys: Tensor,
    rollout: RolloutConfig,
    erasure: ErasureConfig,
    eos_ids: Sequence[int],
    pad_id: int,
    running: Tensor | None = None,
    watcher: Watcher | None = None,
) -> Generator[None, None, Rollout]:
    """Sample a group of completions for every prompt, in steps: each until some segments are whole, or the engine might
    do something else meanwhile. So several rollouts share an engine; `roll_out` is the same at one go.

    Args:
        engine: makes the tokens, `builtin.decoder.TorchEngine(model)` for example.
        prompts: P prompts as token ids, none empty.
        keys: [P * G] int64, the random key of each completion (`seeds.seed_for`), group by group.
        rollout, erasure: the settings; the first fraction * G members of a group roll out with erasure.
        eos_ids: ids that end a completion.
        pad_id: id that fills the returned rows.
        running: [N] beta_n of earlier steps in nats, for the baseline `running`, which is the group's without it.
        watcher: is told of every token, erasure and acceptance as it happens.

    Returns:
        The completions, [P * G] rows, group by group.

    Raises:
        UserError: no prompt, an empty one, one too long for the model or with ids that it lacks, or what the engine
            refuses, as log-probabilities that are nan.
    """
    check_settings(engine, rollout, erasure)
    check_prompts(engine, prompts, rollout)
    keys = keys.to(engine.device)
    together = len(prompts)
    if erasure.baseline == "batch":  # all whose mean it is wait for each other, so all must be in flight
        together = rollout.max_rows // rollout.group_size
    fraction = erasure.fraction if erasure.cap > 0 else 0.0
    parts = []
    for first in range(0, len(prompts), together):
        rows = slice(first * rollout.group_size, (first + together) * rollout.group_size)
        ledger = Ledger(prompts[first : first + together], keys[rows], rollout, fraction, pad_id)
        judge = Judge(ledger, erasure, running, watcher)
        parts.append((yield from write(engine, ledger, judge, rollout, eos_ids, watcher)))
    return Rollout.concatenate(parts)  # copies, which can be trained on


def finish(work: Generator[None, None, T]) -> T:
    """Go through with what is done in steps, and return its result."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result


def at_one_go(steps: Callable[P, Generator[None, None, T]]) -> Callable[P, T]:
    """The function that goes through with what another does in steps."""

    @wraps(steps)
    def whole(*args: P.args, **kwargs: P.kwargs) -> T:
        return finish(steps(*args, **kwargs))

    return whole


roll_out = at_one_go(rolling)
"""Takes what `rolling` takes, and returns the completions"""


@torch.inference_mode()
def write(
    engine: Engine,
    ledger: Ledger,
    judge: Judge,
    rollout: RolloutConfig,
    ends: Sequence[int],
    watcher: Watcher | None = None,
) -> Generator[None, None, Rollout]:
    """Fill the ledger: ask for segments, write down what comes, and judge it, until every completion is done."""
    wanted = {"entropy", judge.erasure.uncertainty} - {"surprisal"}  # which the log-probabilities are
    measures = sorted(name for name in wanted if name in engine.measures)
    session = engine.open(ledger.prompts, rollout, ends, measures, watcher)
    try:
        due = torch.arange(ledger.rows, device=engine.device)
        while not ledger.done.all():
            session.ask(due, *ledger.asking(due))
            while (piece := session.next()) is None:
                yield
            judged = judge.close(ledger.write(piece))
            done = ledger.done[judged]
            session.drop(judged[done])
            due = judged[~done]
            yield
    finally:
        counts = session.close()
    return ledger.rollout(*counts)


def check_settings(engine: Engine, rollout: RolloutConfig, erasure: ErasureConfig) -> None:
    """Raise a `UserError` where the engine cannot sample, or not measure, what the settings ask for."""
    if erasure.uncertainty not in engine.measures:
        raise UserError(
            f"erasure.uncertainty = {erasure.uncertainty!r} needs the whole distribution, of which this engine has the "
            "sampled token alone: take surprisal, or --rollout.engine torch or vllm"
        )
    engine.room(rollout)


def check_prompts(engine: Engine, prompts: Sequence[Sequence[int]], rollout: RolloutConfig) -> None:
    """Raise a `UserError` where the engine's model cannot read a prompt, or not the longest completion of it."""
    room = engine.room(rollout)
    if not prompts:
        raise UserError("no prompt to sample from")
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise UserError(f"prompt {number} is empty: a rollout needs at least one token to start from")
        if max(prompt) >= engine.ids:
            raise UserError(
                f"prompt {number} has the id {max(prompt)}, and the model reads ids below {engine.ids}: its tokenizer "
                "is another model's; restore the tokenizer's files"
            )
        if len(prompt) > room:
            raise UserError(
                f"prompt {number} has {len(prompt)} tokens and may be followed by {rollout.segments} x "
                f"{rollout.segment_tokens}; beside it the model reads {room}: lower rollout.segments or segment_tokens"
            )
