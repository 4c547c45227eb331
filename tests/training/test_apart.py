"""A training whose sampler's probabilities are not the trainer's, or not numbers."""

import copy
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from small_models import small_model

from replication.config import Config, CreditConfig, ErasureConfig, ObjectiveConfig, RolloutConfig, TrainConfig
from replication.errors import UserError
from replication.objectives.objective import token_loss
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.engine import roll_out
from replication.rollout.policy import Policy
from replication.training.batch import MicroBatch, idle, micro_batches, sequences
from replication.training.logprobs import completion_logp
from replication.training.module import E3RLModule

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]
ROLLOUT = RolloutConfig(group_size=2, segments=3, segment_tokens=4, temperature=0.7)
CORRECT = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
ALONE = SimpleNamespace(reduce=lambda tensor, reduce_op: tensor, root_device="cpu")  # a strategy of one process


@pytest.fixture(scope="module")
def rollout(model):
    return roll_out(TorchEngine(model), PROMPTS, torch.arange(6), ROLLOUT, ErasureConfig(kappa=-1.0, cap=2), [1], 0)


def module(minibatches=1, **objective) -> E3RLModule:
    config = Config(
        rollout=ROLLOUT,
        train=TrainConfig(prompts=3, minibatches=minibatches, micro_rows=4),
        credit=CreditConfig(allocation="uniform", negatives=True),
        objective=ObjectiveConfig(**objective),
    )
    made = E3RLModule(config, small_model(), SimpleNamespace(pad_token_id=0, eos_token_id=1), [], 0)
    made._trainer = SimpleNamespace(strategy=ALONE, world_size=1, loggers=[])
    return made


def inputs(rollout):
    """Sequences with erased attempts, sampled otherwise than the trainer scores them; advantages, weights."""
    seqs = sequences(rollout, 0, attempts=True)
    torch.manual_seed(0)
    advantage, weight = torch.randn(seqs.tokens.shape), torch.rand(seqs.tokens.shape) * seqs.token_mask
    seqs.old_logp = seqs.old_logp + torch.randn(seqs.tokens.shape)
    assert seqs.erased.any()
    return seqs, advantage, weight


def gradient(made):
    return torch.cat([weight.grad.flatten() for weight in made.policy.parameters()])


@pytest.mark.parametrize(("kind", "low", "high"), [("truncate", 0.0, 1.3), ("mask", 0.6, 2.0)])
def test_later_updates_are_corrected_by_the_log_probabilities_before_them(rollout, kind, low, high):
    """Every token by hand: the weight is of before against the sampler, the clip of now against before."""
    bounds = {"correction_cap": 1.3, "correction_low": 0.6, "correction_high": 2.0}
    made = module(2, clip_low=0.1, clip_high=0.3, correction=kind, **bounds)
    seqs, advantage, weight = inputs(rollout)
    before = made.trainer_logp(seqs)
    exact, _ = completion_logp(small_model(), seqs.ids, seqs.at, seqs.tokens, 0.7)
    torch.testing.assert_close(before[seqs.token_mask], exact[seqs.token_mask], rtol=1e-5, atol=1e-5)
    with torch.no_grad():  # an update
        made.policy.get_output_embeddings().weight.mul_(1.2)
        now, _ = completion_logp(made.policy, seqs.ids, seqs.at, seqs.tokens, 0.7)
    want, weights, outside = 0.0, [], []
    for row, t in seqs.token_mask.nonzero().tolist():
        rho = math.exp(float(before[row, t]) - float(seqs.old_logp[row, t]))
        w = min(rho, high) if kind == "truncate" else rho if low <= rho <= high else 0.0
        ratio, a = math.exp(float(now[row, t]) - float(before[row, t])), float(advantage[row, t])
        want += float(weight[row, t]) * w * -min(ratio * a, max(0.9, min(1.3, ratio)) * a)
        if not seqs.erased[row]:
            weights.append(w)
            outside.append(not low <= rho <= high)
    parts = micro_batches(torch.arange(len(seqs.ids)), 4, seqs, advantage, weight, None, before)
    assert sum(float(made(part).detach()) for part in parts) == pytest.approx(want, rel=1e-4)
    row = made.metrics.reduce(ALONE)
    assert row["correction_weight"] == pytest.approx(sum(weights) / len(weights), rel=1e-4)
    assert row["correction_fraction"] == pytest.approx(sum(outside) / len(outside))
    assert 0.1 < row["correction_fraction"] < 0.9


def test_a_single_update_is_against_the_trainer_itself_and_takes_no_more_passes(rollout):
    """The ratio is 1 exactly, and so is the clip's part; the gradient is the weighted policy gradient."""
    made = module(correction="truncate", correction_cap=1.5)
    seqs, advantage, weight = inputs(rollout)
    assert made.trainer_logp(seqs) is None
    made(MicroBatch(seqs, advantage, weight, None)).backward()
    got = gradient(made)
    row = made.metrics.reduce(ALONE)
    assert row["ratio"] == 1.0 and row["kl_step"] == row["clip_fraction"] == 0.0
    assert row["mismatch"] > 0.5  # still that of sampler and trainer
    made.policy.zero_grad()
    logp, _ = completion_logp(made.policy, seqs.ids, seqs.at, seqs.tokens, 0.7)
    rho = torch.exp(logp.detach() - seqs.old_logp).clamp(max=1.5)
    (-weight * rho * advantage * logp).sum().backward()
    torch.testing.assert_close(got, gradient(made), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["auto", "none"])
def test_without_a_correction_the_loss_is_against_the_sampler_bit_for_bit(rollout, kind):
    made = module(2, kl=0.1, correction=kind)
    seqs, advantage, weight = inputs(rollout)
    reference = seqs.old_logp - 0.1
    assert made.trainer_logp(seqs) is None
    made(MicroBatch(seqs, advantage, weight, reference)).backward()
    got = gradient(made)
    assert not {"correction_weight", "correction_fraction"} & made.metrics.reduce(ALONE).keys()
    made.policy.zero_grad()
    logp, _ = completion_logp(made.policy, seqs.ids, seqs.at, seqs.tokens, 0.7)
    out = token_loss(made.config.objective, logp, seqs.old_logp, advantage, seqs.token_mask, reference)
    (out.loss * weight).sum().backward()
    assert torch.equal(got, gradient(made))


def unknown(rollout):
    """A rollout whose sampler gave nan, inf and -inf for tokens of three completions, and nan for one of an attempt."""
    logp = rollout.logp.clone()
    logp[0, 1], logp[2, 0], logp[3, 2] = math.nan, math.inf, -math.inf
    first, *others = rollout.attempts
    return replace(rollout, logp=logp, attempts=[first._replace(logp=[math.nan, *first.logp[1:]]), *others])


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("kind", ["none", "truncate", "mask"])
def test_a_log_probability_that_is_not_finite_drops_its_token_alone(rollout, kind, level):
    """The loss and its gradient are those of the same rollout with finite numbers there, where they weigh nothing."""
    made = module(correction=kind, level=level, clip_low=9.0, clip_high=9.0, kl=0.1)
    whole, seqs = sequences(rollout, 0, attempts=True), sequences(unknown(rollout), 0, attempts=True)
    lost = [(0, 1), (2, 0), (3, 2), (6, 0)]  # the attempts' rows come after the six completions'
    assert (whole.token_mask & ~seqs.known).nonzero().tolist() == [list(at) for at in lost]
    assert whole.known.equal(whole.token_mask) and seqs.old_logp.isfinite().all()
    minibatch_of = torch.zeros_like(seqs.owner)
    weight = made.loss_weight(whole, minibatch_of)
    for at in lost:
        assert weight[at] > 0
        weight[at] = 0.0
    assert made.loss_weight(seqs, minibatch_of).equal(weight)  # the others weigh what they did: the token counts
    torch.manual_seed(0)
    advantage, reference = torch.randn(weight.shape), whole.old_logp - 0.2

    made(MicroBatch(seqs, advantage, weight, reference)).backward()
    got, row = gradient(made), made.metrics.reduce(ALONE)
    assert all(math.isfinite(value) for value in row.values()) and got.isfinite().all() and got.abs().max() > 1e-3
    assert row["mismatch"] < 1e-5 and row["kl_step"] < 1e-5 and row["ratio"] == pytest.approx(1.0, abs=1e-5)
    made.policy.zero_grad()
    made(MicroBatch(whole, advantage, weight, reference)).backward()
    if level == "token":
        torch.testing.assert_close(got, gradient(made), rtol=1e-4, atol=1e-6)


def test_cutting_rows_cuts_what_is_known_too(rollout):
    seqs = sequences(unknown(rollout), 0, attempts=True)
    part = seqs.rows(torch.tensor([3, 0]))
    assert (part.token_mask & ~part.known).nonzero().tolist() == [[0, 2], [1, 1]]
    ones = torch.ones(seqs.tokens.shape)
    batch = idle(next(micro_batches(torch.arange(6), 6, seqs, ones, ones, None, ones)))
    assert not batch.sequences.known.any() and batch.trainer_logp.shape == batch.weight.shape


@pytest.mark.parametrize("minibatches", [1, 3])
def test_a_step_counts_what_it_drops_and_scores_before_its_first_update(rollout, monkeypatch, minibatches):
    made = module(minibatches, correction="mask")
    made.sampler = SimpleNamespace(step=lambda *_: (unknown(rollout), CORRECT))
    made.set_learning_rate = made.report = lambda step: None
    start, given = copy.deepcopy(made.policy), []

    def update(module, parts, grad_clip):
        given.extend(parts)
        with torch.no_grad():
            module.policy.get_output_embeddings().weight.mul_(1.5)
        return torch.tensor(0.0)

    monkeypatch.setattr("replication.training.module.optimizer_step", update)
    made.training_step((0, [0, 1, 2], [0, 1, 2]), 0)
    assert made.metrics.reduce(ALONE)["dropped_logp"] == 4
    for part in given:
        seqs = part.sequences
        if minibatches == 1:
            assert part.trainer_logp is None
        else:
            want, _ = completion_logp(start, seqs.ids, seqs.at, seqs.tokens, 0.7)
            torch.testing.assert_close(part.trainer_logp[seqs.token_mask], want[seqs.token_mask], rtol=1e-5, atol=1e-5)


def losing(monkeypatch, tokens):
    """Let the sampler give nan for some tokens of every completion."""
    sample = Policy.roll_out

    def broken(self, *args):
        done = sample(self, *args)
        done.logp[:, tokens] = math.nan
        return done

    monkeypatch.setattr(Policy, "roll_out", broken)


@pytest.mark.parametrize("kind", ["none", "truncate"])
def test_a_run_goes_on_where_some_log_probabilities_are_lost(quick_fit, monkeypatch, kind):
    losing(monkeypatch, 2)
    out, _ = quick_fit("--out=out", f"--objective.correction={kind}")
    rows = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    assert all(0 < row["dropped_logp"] <= 16 and row["mismatch"] < 1e-5 for row in rows)


def test_a_step_that_lost_them_all_stops_before_it_trains_on_nothing(quick_fit, monkeypatch, tmp_path):
    losing(monkeypatch, slice(None))
    where = (
        r"^step 1: (\d+) of \1 sampled tokens have a log-probability that is nan or infinite, more than 50%: .*--fresh"
    )
    with pytest.raises(UserError, match=where):
        quick_fit("--out=out", "--objective.correction=mask")
    assert not (tmp_path / "out").exists() and not list((tmp_path / ".scratch").rglob("*.ckpt"))


def test_a_training_on_vllm_truncates_unless_it_is_told_otherwise():
    assert Config().correction == "none" and Config(rollout=RolloutConfig(engine="vllm")).correction == "truncate"
    told = Config(rollout=RolloutConfig(engine="vllm"), objective=ObjectiveConfig(correction="none"))
    assert told.correction == "none"
