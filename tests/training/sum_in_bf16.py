"""One update from many micro-batches under DeepSpeed in bfloat16: how far its gradient is from their exact sum.

Prints the relative error of the sum of bfloat16 gradients, as the master weights have moved under SGD at rate 1; and
the bytes a weight of the gradients that are held while micro-batches come, as the update begins, and after it.
"""

import copy
import sys

import lightning.pytorch as L
import torch
from torch import nn

from replication.config import TrainConfig, TrainerConfig
from replication.training.accumulate import optimizer_step
from replication.training.strategy import build_strategy

PARTS = 64


def loss_of(net, part):
    return net(part).float().square().mean() / PARTS


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        torch.manual_seed(0)
        self.policy = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)).bfloat16()
        self.alone = [copy.deepcopy(self.policy)]  # in a list: none of this module's, which ZeRO-3 takes apart
        self.parts = torch.randn(PARTS, 8, 64).bfloat16()

    def held(self):
        """Bytes a weight of all gradients, wherever DeepSpeed keeps them."""
        zero = self.trainer.strategy.deepspeed_engine.optimizer
        kept = {
            id(t): t
            for p in self.policy.parameters()
            for t in (p.grad, getattr(p, "grad_accum", None))
            if t is not None
        }
        if hasattr(zero, "grad_partitions_flat_buffer"):  # ZeRO-3's
            found = [zero.grad_partitions_flat_buffer]
        else:
            groups = [group for group in zero.averaged_gradients.values() if group is not None]
            found = [flat for group in groups if (flat := getattr(group, "flat_partition", None)) is not None]
            found += [t for group in groups if not hasattr(group, "flat_partition") for t in group]
            found += [t for group in zero.all_grad_tensors.values() for t in group or []]
        return sum(t.nbytes for t in [*kept.values(), *found]) / sum(p.numel() for p in self.alone[0].parameters())

    def manual_backward(self, loss):
        super().manual_backward(loss)
        self.seen.append(self.held())

    def forward(self, part):
        return loss_of(self.policy, part)

    def training_step(self, batch, index):
        (alone,) = self.alone
        exact = [torch.zeros_like(p, dtype=torch.float32) for p in alone.parameters()]
        for part in self.parts:
            alone.zero_grad()
            loss_of(alone, part).backward()
            for total, weight in zip(exact, alone.parameters(), strict=True):
                total += weight.grad.float()
        from deepspeed.utils import safe_get_full_fp32_param

        before = [safe_get_full_fp32_param(p).clone() for p in self.policy.parameters()]
        self.seen = []
        optimizer_step(self, list(self.parts), 0.0)
        moved = [b - safe_get_full_fp32_param(p) for b, p in zip(before, self.policy.parameters(), strict=True)]
        apart = sum((m - e).square().sum() for m, e in zip(moved, exact, strict=True)).sqrt()
        error = float(apart / sum(e.square().sum() for e in exact).sqrt())
        print(f"{error:.1e} {max(self.seen[:-1]):.2f} {self.seen[-1]:.2f} {self.held():.2f}")

    def configure_optimizers(self):
        return torch.optim.SGD(self.policy.parameters(), lr=1.0)


if __name__ == "__main__":
    name, offload = sys.argv[1:3]
    strategy = build_strategy(TrainerConfig(strategy=name, offload=offload), TrainConfig(grad_clip=0.0))
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        strategy=strategy,
        precision="bf16-true",
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(Module(), torch.utils.data.DataLoader([0]))
