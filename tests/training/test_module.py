"""What the module puts together itself: weights, advantages and attention mass of a rollout with erased attempts."""

from types import SimpleNamespace

import pytest
import torch
from small_models import small_model

from replication.config import Config, CreditConfig, ErasureConfig, ObjectiveConfig, RolloutConfig, TrainConfig
from replication.credit.assign import assign_credit
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.engine import roll_out
from replication.training.batch import sequences
from replication.training.module import E3RLModule

PROMPTS = [[5, 6, 7], [8]]
ROLLOUT = RolloutConfig(group_size=3, segments=3, segment_tokens=4)
CORRECT = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])


class OneProcess:
    """A strategy of one process."""

    def reduce(self, tensor, reduce_op):
        return tensor


def module(aggregate="row_mean", **credit) -> E3RLModule:
    config = Config(
        rollout=ROLLOUT,
        credit=CreditConfig(**credit),
        objective=ObjectiveConfig(aggregate=aggregate),
        train=TrainConfig(prompts=2, minibatches=2, micro_rows=2),
    )
    made = E3RLModule(config, small_model(), SimpleNamespace(pad_token_id=0, eos_token_id=1), [], 0)
    made._trainer = SimpleNamespace(strategy=OneProcess(), world_size=1)
    return made


@pytest.fixture(scope="module")
def rollout(model):
    erasure = ErasureConfig(fraction=0.67, kappa=-1.0, cap=2)
    return roll_out(TorchEngine(model), PROMPTS, torch.arange(6), ROLLOUT, erasure, [1], 0)


@pytest.mark.parametrize("aggregate", ["row_mean", "token_mean", "row_sum"])
def test_an_erased_token_weighs_as_one_of_its_completion_and_is_not_counted(rollout, aggregate):
    seqs = sequences(rollout, 0, attempts=True)
    minibatch_of = seqs.owner // 3
    got = module(aggregate).loss_weight(seqs, minibatch_of)
    length = rollout.length.tolist()
    for row in range(len(seqs.ids)):
        owner = int(seqs.owner[row])
        group = [length[i] for i in range(6) if i // 3 == owner // 3]
        want = {"row_mean": 1 / length[owner] / 3, "token_mean": 1 / sum(group), "row_sum": 1 / (3 * 12)}[aggregate]
        mask = seqs.token_mask[row]
        torch.testing.assert_close(got[row, mask], torch.full((int(mask.sum()),), want))
        assert (got[row, ~mask] == 0).all()
    assert seqs.erased.any()


def test_tokens_carry_the_advantage_of_their_segment_and_attempts_their_own(rollout):
    settings = {"allocation": "uniform", "negatives": True}
    seqs = sequences(rollout, 0, attempts=True)
    got = module(**settings).credit(rollout, seqs, CORRECT)
    members, erased, _ = assign_credit(CreditConfig(**settings), rollout, CORRECT, None)
    for row in range(6):
        for t in range(int(rollout.length[row])):
            n = max(i for i in range(int(rollout.segments[row])) if int(rollout.start[row, i]) <= t)
            assert got[row, t] == members[row, n]
    for row, attempt in enumerate(rollout.attempts, start=6):
        assert (got[row] == erased[attempt.row // 3, attempt.segment]).all()
    assert float(erased.min()) < 0


def test_mass_is_the_last_segments_attention_on_each_segment(rollout):
    seqs = sequences(rollout, 0)
    made = module()
    got = made.answer_mass(rollout, seqs)
    made.policy.set_attn_implementation("eager")
    for row in range(6):
        prompt, n, end = len(PROMPTS[row // 3]), int(rollout.segments[row]), int(rollout.length[row])
        with torch.no_grad():
            out = made.policy(seqs.ids[row : row + 1, : prompt + end], output_attentions=True).attentions[-1][0]
        start = [int(x) for x in rollout.start[row, : n + 1]]
        looking_back = out[:, prompt + start[n - 1] : prompt + end].mean((0, 1))
        want = [float(looking_back[prompt + start[i] : prompt + start[i + 1]].sum()) for i in range(n)]
        torch.testing.assert_close(got[row, :n], torch.tensor(want), rtol=1e-5, atol=1e-6)
        assert (got[row, n:] == 0).all()


def test_the_running_baseline_follows_the_first_attempts(rollout):
    made = module()
    made.config.erasure = ErasureConfig(baseline="running", kappa=0.5)
    made.update_running_baseline(rollout)
    for n in range(3):
        u = rollout.first_u[:, n]
        u = u[~u.isnan()]
        assert float(made.running[n]) == pytest.approx(float(u.mean() + 0.5 * u.std(correction=0)), rel=1e-4)


def test_the_policy_stays_in_eval_mode_whoever_asks():
    """Lightning and DeepSpeed switch modes; what is random in training mode would be of another policy."""
    made = module()
    made.train()
    assert not any(part.training for part in made.modules())
