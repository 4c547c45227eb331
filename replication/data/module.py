"""The stream of problems: which ones a step trains on is a function of (seed, step)."""

from __future__ import annotations

import random
from typing import Any

import lightning.pytorch as L
from torch.utils.data import DataLoader, Dataset

from replication.seeds import seed_for

Batch = tuple[int, list[int], list[int]]  # the step, this process's slots of it, and the problem of each


def problems_of(step: int, per_step: int, count: int, seed: int) -> list[int]:
    """Indices of a step's problems: epochs over all `count` of them, each in an order of its own."""
    out: list[int] = []
    orders: dict[int, list[int]] = {}
    for position in range(step * per_step, (step + 1) * per_step):
        epoch, place = divmod(position, count)
        if epoch not in orders:
            orders[epoch] = random.Random(seed_for(seed, "order", epoch)).sample(range(count), count)
        out.append(orders[epoch][place])
    return out


def share(slots: int, rank: int, world: int, minibatches: int) -> list[int]:
    """A process's slots, places among a step's problems: slot i belongs to minibatch i % minibatches on every number of
    processes, so that the optimizer steps see the same completions however they are spread."""
    return [i for i in range(slots) if (i // minibatches) % world == rank]


class _Steps(Dataset[Batch]):
    def __init__(self, module: ProblemModule, rank: int, world: int):
        self.module, self.rank, self.world = module, rank, world

    def __len__(self) -> int:
        return self.module.steps  # of the whole run: Lightning itself counts the steps done before a resume

    def __getitem__(self, item: int) -> Batch:
        m = self.module
        step = m.done + item
        problems = problems_of(step, m.per_step, m.count, m.seed)
        slots = share(m.per_step, self.rank, self.world, m.minibatches)
        return step, slots, [problems[i] for i in slots]


class ProblemModule(L.LightningDataModule):
    """Feeds one step's problems to each `training_step`; a resumed run goes on with the step after its checkpoint.

    Args:
        count: training problems.
        steps: steps of the run.
        per_step: problems a step, over all processes.
        minibatches: optimizer steps that a step's problems are cut into.
        seed: of the order.
    """

    def __init__(self, count: int, steps: int, per_step: int, minibatches: int, seed: int):
        super().__init__()
        self.count, self.steps, self.per_step, self.minibatches, self.seed = count, steps, per_step, minibatches, seed
        self.done = 0

    def train_dataloader(self) -> DataLoader[Batch]:
        assert self.trainer is not None
        steps = _Steps(self, self.trainer.global_rank, self.trainer.world_size)
        return DataLoader(steps, batch_size=None, shuffle=False, collate_fn=lambda batch: batch)

    def state_dict(self) -> dict[str, Any]:
        module: Any = self.trainer.lightning_module if self.trainer else None
        return {"done": len(module.history)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = state["done"]
