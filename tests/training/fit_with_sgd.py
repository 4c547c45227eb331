"""`replication.fit` with SGD, whose steps show the gradient's scale; Adam would hide a wrong one."""

import torch

from replication import fit
from replication.training.module import E3RLModule


def sgd(module: E3RLModule) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.policy.parameters(), lr=module.config.train.lr)


if __name__ == "__main__":
    E3RLModule.configure_optimizers = sgd
    fit.main()
