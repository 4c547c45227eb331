"""Parts of the training step on a small model."""

import math
from types import SimpleNamespace

import pytest
import torch
from small_models import small_model

from replication.config import Config, CreditConfig, ErasureConfig, ObjectiveConfig, RolloutConfig, TrainConfig
from replication.credit.assign import assign_credit
from replication.data.module import problems_of, share
from replication.objectives.objective import TokenLoss
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.engine import roll_out
from replication.training.accumulate import optimizer_step
from replication.training.batch import MicroBatch, Widths, idle, micro_batches, sequences
from replication.training.logprobs import completion_logp
from replication.training.metrics import StepMetrics
from replication.training.module import E3RLModule

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]


@pytest.fixture(scope="module")
def rollout(model):
    settings = RolloutConfig(group_size=2, segments=3, segment_tokens=4, temperature=0.7)
    return roll_out(TorchEngine(model), PROMPTS, torch.arange(6), settings, ErasureConfig(cap=2), [1], 0)


def test_training_log_probabilities_are_the_samplers(model, rollout):
    seqs = sequences(rollout, 0)
    logp, entropy = completion_logp(model, seqs.ids, seqs.at, seqs.tokens, 0.7)
    m = seqs.token_mask
    torch.testing.assert_close(logp[m], seqs.old_logp[m], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropy[m], rollout.uncertainty("entropy")[:, : m.shape[1]][m], atol=1e-5, rtol=1e-5)


def test_sequences_hold_the_sampled_ids_in_place(rollout):
    seqs = sequences(rollout, 0)
    for row in range(6):
        prompt, size = PROMPTS[row // 2], int(rollout.length[row])
        assert seqs.ids[row, : len(prompt) + size].tolist() == prompt + rollout.tokens[row, :size].tolist()
        assert (seqs.ids[row, len(prompt) + size :] == 0).all()
        assert seqs.at[row, 0] == len(prompt) and seqs.size[row] == len(prompt) + size


def test_erased_attempts_get_rows_of_their_own(model):
    """Prompt, the kept tokens before the attempt, the attempt; only the last is scored, as the sampler scored it."""
    settings = RolloutConfig(group_size=2, segments=3, segment_tokens=4, temperature=0.7)
    done = roll_out(TorchEngine(model), PROMPTS, torch.arange(6), settings, ErasureConfig(kappa=-1.0, cap=2), [1], 0)
    seqs = sequences(done, 0, attempts=True)
    assert len(seqs.ids) == 6 + len(done.attempts) and any(a.start for a in done.attempts)
    assert seqs.erased.tolist() == [False] * 6 + [True] * len(done.attempts)
    for row, attempt in enumerate(done.attempts, start=6):
        before = PROMPTS[attempt.row // 2] + done.tokens[attempt.row, : attempt.start].tolist()
        assert seqs.owner[row] == attempt.row
        assert seqs.ids[row, : seqs.size[row]].tolist() == before + attempt.tokens
        assert seqs.tokens[row, seqs.token_mask[row]].tolist() == attempt.tokens
        assert seqs.at[row, 0] == len(before)
    logp, _ = completion_logp(model, seqs.ids, seqs.at, seqs.tokens, 0.7)
    torch.testing.assert_close(logp[seqs.token_mask], seqs.old_logp[seqs.token_mask], atol=1e-5, rtol=1e-5)


def test_an_idle_pass_has_no_gradient(model, rollout):
    seqs = sequences(rollout, 0)
    ones = torch.ones(seqs.tokens.shape)
    batch = idle(next(micro_batches(torch.arange(6), 6, seqs, ones, ones, ones)))
    assert batch.sequences.token_mask.sum() == 0 and batch.weight.sum() == 0
    assert batch.sequences.tokens.shape == batch.weight.shape == batch.advantage.shape == batch.reference_logp.shape


@pytest.mark.parametrize("size", [1, 4, 5])
def test_micro_batches_add_up_to_the_whole_gradient(rollout, size):
    """Cut and padded otherwise, the same loss and gradient: nothing depends on the company in a micro-batch."""
    from replication.objectives.losses import clipped_loss, importance_ratio
    from replication.objectives.normalise import row_mean_weights

    model = small_model()
    seqs = sequences(rollout, 0)
    torch.manual_seed(0)
    advantage = torch.randn(seqs.tokens.shape)
    seqs.old_logp = seqs.old_logp + 0.1 * torch.randn(seqs.tokens.shape)
    weight = row_mean_weights(seqs.token_mask, 6)

    def gradient(rows, multiple=1):
        model.zero_grad()
        total = 0.0
        wide = sequences(rollout, 0, widths=Widths(multiple))
        wide.old_logp = seqs.old_logp
        for batch in micro_batches(torch.arange(6), rows, wide, advantage, weight, None):
            part = batch.sequences
            assert part.ids.shape[1] % multiple == 0 and part.ids.shape[1] - int(part.size.max()) < multiple
            logp, _ = completion_logp(model, part.ids, part.at, part.tokens, 0.7)
            loss = (clipped_loss(importance_ratio(logp, part.old_logp), batch.advantage, 0.2, 0.2) * batch.weight).sum()
            loss.backward()
            total += float(loss.detach())
        return total, torch.cat([p.grad.flatten() for p in model.parameters()])

    loss, grad = gradient(6)
    for other_loss, other_grad in (gradient(size), gradient(size, multiple=64)):
        assert other_loss == pytest.approx(loss, abs=1e-6)  # a sum that cancels
        torch.testing.assert_close(other_grad, grad, atol=1e-6, rtol=1e-4)
    assert float(grad.abs().max()) > 1e-3


def test_a_width_ends_where_the_models_positions_do(rollout):
    longest = int(sequences(rollout, 0).size.max())
    assert sequences(rollout, 0, widths=Widths(64, longest + 2)).ids.shape[1] == longest + 2
    assert Widths(64, 100).of(65) == 100 and Widths(64, 128).of(65) == 128 and Widths(64).of(64) == 64


def test_long_texts_are_scored_in_chunks(model, rollout, monkeypatch):
    from replication.training import logprobs

    seqs = sequences(rollout, 0)
    whole = completion_logp(model, seqs.ids, seqs.at, seqs.tokens, 0.7)
    monkeypatch.setattr(logprobs, "LOGITS", 7 * model.config.vocab_size)
    needed = -(-seqs.tokens.numel() // 7)
    assert logprobs.chunks(model, seqs.tokens) == needed
    for at_least in (1, needed, needed + 3):  # the last are empty: a process with less to score keeps step
        cut = completion_logp(model, seqs.ids, seqs.at, seqs.tokens, 0.7, at_least)
        for a, b in zip(whole, cut, strict=True):
            torch.testing.assert_close(a, b)


def test_every_epoch_serves_every_problem_once_in_a_new_order():
    steps = [problems_of(step, 4, 10, seed=3) for step in range(5)]
    flat = [i for step in steps for i in step]
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10))
    assert flat[:10] != flat[10:]
    assert problems_of(2, 4, 10, seed=3) == steps[2]
    assert problems_of(0, 4, 10, seed=4) != steps[0]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_minibatches_hold_the_same_problems_on_any_number_of_processes(world):
    slots = list(range(16))
    shares = [share(16, rank, world, 2) for rank in range(world)]
    for minibatch in range(2):
        together = sorted(x for mine in shares for i, x in enumerate(mine) if i % 2 == minibatch)
        assert together == slots[minibatch::2]


CORRECT = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
ALONE = SimpleNamespace(reduce=lambda tensor, reduce_op: tensor, root_device="cpu")  # a strategy of one process


def module(**sections) -> E3RLModule:
    rollout = RolloutConfig(group_size=2, segments=3, segment_tokens=4, temperature=0.7)
    config = Config(rollout=rollout, **{"train": TrainConfig(prompts=3, minibatches=3, micro_rows=2), **sections})
    made = E3RLModule(config, small_model(), SimpleNamespace(pad_token_id=0, eos_token_id=1), [], 0)
    made._trainer = SimpleNamespace(strategy=ALONE, world_size=1, loggers=[])
    return made


def test_the_loss_is_the_weighted_sum_of_token_losses_at_the_sampling_temperature(rollout):
    """Every token by hand: the clipped surrogate against the sampler, and the KL term to the reference."""
    made = module(objective=ObjectiveConfig(clip_low=0.1, clip_high=0.3, kl=0.5))
    seqs = sequences(rollout, 0, attempts=True)
    torch.manual_seed(0)
    advantage, weight = torch.randn(seqs.tokens.shape), torch.rand(seqs.tokens.shape) * seqs.token_mask
    seqs.old_logp = seqs.old_logp + 0.3 * torch.randn(seqs.tokens.shape)
    reference = seqs.old_logp + 0.3 * torch.randn(seqs.tokens.shape)
    want = 0.0
    for row in range(len(seqs.ids)):
        with torch.no_grad():
            logp = torch.log_softmax(made.policy(seqs.ids[row, : seqs.size[row]][None]).logits[0] / 0.7, -1)
        for t in range(int(seqs.token_mask[row].sum())):
            mine = float(logp[seqs.at[row, t] - 1, seqs.tokens[row, t]])
            ratio, a = math.exp(mine - float(seqs.old_logp[row, t])), float(advantage[row, t])
            d = float(reference[row, t]) - mine
            loss = -min(ratio * a, max(0.9, min(1.3, ratio)) * a) + 0.5 * (math.exp(d) - d - 1)
            want += float(weight[row, t]) * loss
    assert float(made(MicroBatch(seqs, advantage, weight, reference)).detach()) == pytest.approx(want, rel=1e-5)


def test_the_reference_stays_where_the_policy_was(rollout):
    made = module(objective=ObjectiveConfig(kl=0.5))
    with torch.no_grad():
        made.policy.get_output_embeddings().weight.mul_(2)
    seqs = sequences(rollout, 0)
    want, _ = completion_logp(small_model(), seqs.ids, seqs.at, seqs.tokens, 0.7)
    m = seqs.token_mask
    torch.testing.assert_close(made.reference_logp(seqs)[m], want[m], rtol=1e-5, atol=1e-5)


def test_the_answers_attention_shares_the_reward(rollout):
    made, seqs = module(), sequences(rollout, 0)
    got = made.credit(rollout, seqs, CORRECT)
    mass = made.answer_mass(rollout, seqs)
    members, *_ = assign_credit(CreditConfig(), rollout, CORRECT, mass)
    even, *_ = assign_credit(CreditConfig(), rollout, CORRECT, None)
    assert not torch.allclose(members, even)
    for row, t in seqs.token_mask.nonzero().tolist():
        assert got[row, t] == members[row, t // 4]


def test_every_row_is_trained_on_in_the_minibatch_of_its_problem(rollout, monkeypatch):
    """Erased attempts go where their completion goes; the completions' weights sum to 1; once an epoch."""
    train = TrainConfig(prompts=3, minibatches=3, micro_rows=2, epochs=2)
    made = module(train=train, credit=CreditConfig(allocation="uniform", negatives=True))
    made.sampler = SimpleNamespace(step=lambda *_: (rollout, CORRECT))
    made.set_learning_rate = made.report = lambda step: None
    steps = []

    def record(module, parts, grad_clip):
        steps.append([part.sequences for part in parts])
        kept = sum((part.weight * ~part.sequences.erased[:, None]).sum() for part in parts)
        torch.testing.assert_close(kept, torch.tensor(1.0))
        return torch.tensor(0.0)

    monkeypatch.setattr("replication.training.module.optimizer_step", record)
    made.training_step((0, [0, 1, 2], [0, 1, 2]), 0)
    assert not made.metrics.before_update  # what follows is no mismatch of sampler and trainer
    owners = [sorted(int(owner) for part in parts for owner in part.owner) for parts in steps]
    assert rollout.attempts
    rows = [*range(6), *(attempt.row for attempt in rollout.attempts)]
    assert owners == [sorted(row for row in rows if row // 2 == problem) for problem in range(3)] * 2


class Line:
    """The loss of a micro-batch x is w x, on one of two processes, after a step that left a gradient behind."""

    device = torch.device("cpu")
    trainer = SimpleNamespace(strategy=SimpleNamespace(model=None), world_size=2)

    def __init__(self):
        self.w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        self.w.grad = torch.tensor([100.0, 100.0])
        self.policy = SimpleNamespace(parameters=lambda: [self.w])
        self.sgd = torch.optim.SGD([self.w], lr=1.0)

    def optimizers(self):
        return self.sgd

    def manual_backward(self, loss):
        loss.backward()

    def __call__(self, x):
        return self.w @ x


@pytest.mark.parametrize(("clip", "step"), [(0.0, [6.0, 8.0]), (5.0, [3.0, 4.0]), (20.0, [6.0, 8.0])])
def test_micro_batches_are_summed_over_processes_and_clipped_once(clip, step):
    """Gradients (3, 0) and (0, 4), times the 2 processes that DDP takes the mean over: (6, 8), of norm 10."""
    line = Line()
    loss = optimizer_step(line, [torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])], clip)
    assert float(loss) == pytest.approx(11.0)
    torch.testing.assert_close(line.w.detach(), torch.tensor([1.0, 2.0]) - torch.tensor(step), rtol=1e-5, atol=1e-5)


def test_the_learning_rate_warms_up_and_stays():
    made = module(train=TrainConfig(lr=0.8, warmup=3))
    group = {}
    made.optimizers = lambda: SimpleNamespace(param_groups=[group])
    for step, want in ((0, 0.2), (2, 0.6), (3, 0.8), (9, 0.8)):
        made.set_learning_rate(step)
        assert group["lr"] == pytest.approx(want)


def test_the_learning_rate_falls_linearly_to_its_end():
    """Of 12 steps, 3 warm up; from the fourth on it falls from 0.8 to a quarter of it in 8 equal parts of 0.075."""
    made = module(train=TrainConfig(lr=0.8, warmup=3, steps=12, lr_end=0.25))
    group = {}
    made.optimizers = lambda: SimpleNamespace(param_groups=[group])
    for step, want in ((0, 0.2), (3, 0.8), (4, 0.725), (11, 0.2)):
        made.set_learning_rate(step)
        assert group["lr"] == pytest.approx(want)


def test_metrics_are_means_over_completion_tokens_without_erased_ones():
    part = SimpleNamespace(
        known=torch.tensor([[True, True], [True, False], [True, True]]), erased=torch.tensor([False, False, True])
    )
    metrics = StepMetrics()
    metrics.add_mean("entropy", torch.tensor([[1.0, 2.0], [6.0, 50.0], [70.0, 90.0]]), part)
    metrics.add_mean("entropy", torch.tensor([[3.0, 4.0], [4.0, 50.0], [70.0, 90.0]]), part)
    assert metrics.reduce(ALONE) == {"entropy": pytest.approx(20 / 6)}


def test_metrics_of_a_rollout():
    """Two groups of two; the second member of the first rolls out plainly, and the first of the second is cut off."""
    rollout = SimpleNamespace(
        length=torch.tensor([6, 2, 5, 7]),
        ended=torch.tensor([True, True, False, True]),
        erasable=torch.tensor([True, False, True, True]),
        segments=torch.tensor([2, 1, 2, 2]),
        erasures=torch.tensor([[3, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]]),
        erased_tokens=torch.tensor([9, 0, 4, 0]),
    )
    metrics = StepMetrics()
    metrics.add_rollout(rollout, torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
    want = {
        "reward": 3 / 4,
        "reward_std": 0.5 / 2,  # the population's
        "groups_without_signal": 1 / 2,
        "completion_tokens": 20 / 4,
        "erased_tokens": 13 / 4,
        "erasure_rate": 4 / 11,
        "acceptance": (1 / 4 + 1 + 2 / 3 + 1) / 4,  # nobody has the third segment: it does not count
        "acceptance_below_half": 1 / 4,
        "erased_rows": 2 / 4,
        "truncated": 1 / 4,
        "reward_erasable": 2 / 3,
        "reward_plain": 1.0,
    }
    assert metrics.reduce(ALONE) == pytest.approx(want)


def test_metrics_of_a_forward_pass():
    """The mismatch is taken before the first update only; the step's KL is that of the new policy to the sampler."""
    old, logp = torch.tensor([[-1.0, -2.0, -9.0]]), torch.tensor([[-1.5, -1.0, 0.0]])
    part = SimpleNamespace(known=torch.tensor([[True, True, False]]), erased=torch.tensor([False]), old_logp=old)
    out = TokenLoss(logp, torch.tensor([[0.6, 2.7, 9.0]]), torch.tensor([[False, True, True]]), None)
    metrics = StepMetrics()
    metrics.add_tokens(part, logp, torch.tensor([[0.3, 0.4, 9.0]]), old, out)
    metrics.before_update = False
    metrics.add_tokens(part, logp + 5, torch.tensor([[0.3, 0.4, 9.0]]), old, out)
    k3 = [math.exp(d) - d - 1 for d in (0.5, -1.0, -4.5, -6.0)]
    want = {"entropy": 0.35, "ratio": 1.65, "clip_fraction": 0.5, "kl_step": sum(k3) / 4, "mismatch": 0.75}
    assert metrics.reduce(ALONE) == pytest.approx(want)
