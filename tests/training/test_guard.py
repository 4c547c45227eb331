"""A run that has gone wrong stops, says why, and leaves no export."""

import math

import pytest
import torch

from replication.config import TrainConfig
from replication.errors import UserError
from replication.training.guard import check_history, check_known, not_finite

FINE = {"step": 7.0, "loss": 0.1, "reward": 0.5, "mismatch": 0.01, "truncated": 0.2, "groups_without_signal": 0.5}
LIMITS = TrainConfig(max_silent_steps=3, max_mismatch=0.05, max_truncated=0.8)
SILENT = FINE | {"groups_without_signal": 1.0, "reward": 0.0}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"loss": math.nan}, "step 7: loss is nan.*lower train.lr"),
        ({"entropy": math.inf}, "step 7: entropy is inf"),
        ({"mismatch": 0.051}, r"differ by 0\.051 nats a token.*train\.max_mismatch = 0\.05"),
        ({"truncated": 0.81}, r"81\.0% of the completions.*train\.max_truncated = 0\.8"),
    ],
)
def test_a_bad_step_stops_the_run(row, words):
    check_history(LIMITS, [FINE])
    with pytest.raises(UserError, match=words):
        check_history(LIMITS, [FINE, FINE | row])
    check_history(LIMITS, [FINE | row, FINE])  # only the last step is judged


def test_limits_are_not_passed_where_they_are_met():
    check_history(LIMITS, [FINE | {"mismatch": 0.05, "truncated": 0.8}])


def test_steps_without_any_signal_stop_the_run():
    check_history(LIMITS, [SILENT, SILENT])
    check_history(LIMITS, [SILENT, SILENT, FINE, SILENT, SILENT])
    with pytest.raises(UserError, match=r"no group's rewards have differed for 3 steps.*max_silent_steps"):
        check_history(LIMITS, [FINE, SILENT, SILENT, SILENT])
    check_history(TrainConfig(max_silent_steps=0), [SILENT] * 100)


@pytest.mark.parametrize("minibatches", [1, 2])
def test_a_learning_rate_that_breaks_the_policy_ends_before_a_checkpoint_has_it(quick_fit, tmp_path, minibatches):
    with pytest.raises(UserError, match=r"step \d: \d+ weight tensors hold nan or infinity.*--fresh"):
        quick_fit("--out=out", "--train.lr=1e37", "--train.grad_clip=0", f"--train.minibatches={minibatches}")
    assert not (tmp_path / "out").exists()
    for path in (tmp_path / ".scratch").rglob("*.ckpt"):
        assert all(w.isfinite().all() for w in torch.load(path, weights_only=False)["state_dict"].values())


def test_weights_that_are_not_finite_are_counted():
    weights = [torch.nn.Parameter(torch.tensor(x)) for x in ([1.0, 2.0], [1.0, math.nan], [math.inf, 0.0])]
    assert not_finite(weights) == 2 and not_finite(weights[:1]) == 0


def test_half_of_the_tokens_may_be_lost_and_no_more():
    check_known(50, 100, 7)
    with pytest.raises(UserError, match="step 7: 51 of 100 sampled tokens"):
        check_known(51, 100, 7)


def test_a_run_without_signal_ends_with_a_reason(quick_fit, monkeypatch, tmp_path):
    from replication.training.sampler import Sampler

    graded = Sampler._grade

    def all_wrong(self, *args):
        return graded(self, *args) * 0

    monkeypatch.setattr(Sampler, "_grade", all_wrong)
    with pytest.raises(UserError, match="step 2: no group's rewards have differed for 2 steps"):
        quick_fit("--out=out", "--train.max_silent_steps=2")
    assert not (tmp_path / "out").exists()
