"""The goldens of TRL and verl, and our losses on their inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from replication.config import ObjectiveConfig
from replication.objectives.correction import correction_of
from replication.objectives.normalise import loss_weights
from replication.objectives.objective import TokenLoss, token_loss

BOUNDS = {"truncate": (None, ObjectiveConfig.correction_cap)}
BOUNDS["mask"] = ObjectiveConfig.correction_low, ObjectiveConfig.correction_high

FOLDER = Path(__file__).parent

ALGORITHMS = yaml.safe_load((FOLDER.parents[1] / "params.yaml").read_text())["algorithms"]


def goldens(library: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{library}_losses.json").read_text())


def name(case: dict[str, Any]) -> str:
    kl = f"kl{case['kl']}" if case["kl"] else "nokl"
    return "-".join([case["variant"], case["algorithm"], case["mask"], case["advantage"], kl])


class Ours:
    """Our loss on a golden's inputs, in double precision.

    Args:
        inputs: the goldens' inputs.
        case: one of their cases.
        rows: completions that the mean over rows counts; all by default.
    """

    def __init__(self, inputs: dict[str, Any], case: dict[str, Any], rows: int | None = None):
        self.logp = torch.tensor(inputs["logp"], dtype=torch.float64, requires_grad=True)
        self.old_logp = torch.tensor(inputs["old_logp"], dtype=torch.float64)
        self.reference_logp = torch.tensor(inputs["reference_logp"], dtype=torch.float64)
        self.mask = torch.tensor(inputs["masks"][case["mask"]], dtype=torch.bool)
        advantage = torch.tensor(inputs["advantages"][case["advantage"]], dtype=torch.float64)
        self.advantage = advantage if advantage.ndim == 2 else advantage[:, None].expand(self.mask.shape)
        self.correction = None
        self.settings = ObjectiveConfig(kl=case["kl"], **ALGORITHMS[case["algorithm"]].get("objective", {}))
        if case["variant"] in inputs["corrections"]:
            sampled = torch.tensor(inputs["sampled_logp"], dtype=torch.float64)
            self.correction = correction_of(case["variant"], self.settings, self.old_logp, sampled).weight
        self.weight = loss_weights(
            self.mask,
            self.settings.aggregate,
            rows=len(self.mask) if rows is None else rows,
            tokens=self.mask.sum(),
            longest=inputs["longest"],
        )

    def token_loss(self) -> TokenLoss:
        reference = self.reference_logp if self.settings.kl else None
        given = self.logp, self.old_logp, self.advantage, self.mask, reference, self.correction
        return token_loss(self.settings, *given)

    def total(self, loss: Tensor) -> tuple[float, Tensor]:
        """The sum of weight x token loss, and its gradient with respect to logp."""
        total = (loss * self.weight).sum()
        return total.item(), torch.autograd.grad(total, self.logp, retain_graph=True)[0]

    def differences(self, case: dict[str, Any], loss: Tensor | None = None) -> tuple[float, float]:
        """Largest absolute difference of the loss, and of its gradient, from the golden."""
        total, grad = self.total(self.token_loss().loss if loss is None else loss)
        return abs(total - case["loss"]), (grad - torch.tensor(case["grad"])).abs().max().item()
