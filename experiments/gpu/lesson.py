"""A short lesson before the real run: worked sums, so that a small model answers in the form that is graded.

As it is, SmolLM2-135M boxed none of a dozen answers that were tried on a CPU; without a reward nothing is learned.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch

from experiments.gpu.sums import solution
from replication.data.sources import Problem
from replication.data.template import prompt_ids
from replication.seeds import seed_for

BATCH, LR = 8, 2e-5


def rows_of(tokenizer: Any, problems: Sequence[Problem]) -> tuple[torch.Tensor, torch.Tensor]:
    """[r, S] ids of problems with their solutions, and labels, -100 but on the solutions."""
    rows = []
    for problem in problems:
        answer = tokenizer(solution(problem), add_special_tokens=False).input_ids
        rows.append((prompt_ids(tokenizer, problem.question), [*answer, tokenizer.eos_token_id]))
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = [p + a + [tokenizer.pad_token_id] * (width - len(p) - len(a)) for p, a in rows]
    labels = [[-100] * len(p) + a + [-100] * (width - len(p) - len(a)) for p, a in rows]
    return torch.tensor(ids), torch.tensor(labels)


def teach(model: Any, tokenizer: Any, problems: Sequence[Problem], steps: int) -> list[float]:
    """Train on random ones of the problems; returns each step's loss in nats a token."""
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=LR), list[float]()
    for step in range(steps):
        chosen = random.Random(seed_for(0, "lesson", step)).choices(problems, k=BATCH)
        ids, labels = (part.to(model.device) for part in rows_of(tokenizer, chosen))
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses
