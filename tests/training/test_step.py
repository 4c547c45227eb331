"""Parts of the training step on a small model."""

import pytest
import torch
from small_models import small_model

from replication.config import ErasureConfig, RolloutConfig
from replication.data.module import problems_of, share
from replication.rollout.engine import roll_out
from replication.training.batch import idle, micro_batches, sequences
from replication.training.logprobs import completion_logp

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]


@pytest.fixture(scope="module")
def rollout(model):
    settings = RolloutConfig(group_size=2, segments=3, segment_tokens=4, temperature=0.7)
    return roll_out(model, PROMPTS, torch.arange(6), settings, ErasureConfig(cap=2), [1], 0)


def test_training_log_probabilities_are_the_samplers(model, rollout):
    seqs = sequences(rollout, 0)
    logp, entropy = completion_logp(model, seqs.ids, seqs.at, seqs.tokens, 0.7)
    m = seqs.token_mask
    torch.testing.assert_close(logp[m], seqs.old_logp[m], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropy[m], rollout.entropy[:, : m.shape[1]][m], atol=1e-5, rtol=1e-5)


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
    done = roll_out(model, PROMPTS, torch.arange(6), settings, ErasureConfig(kappa=-1.0, cap=2), [1], 0)
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

    def gradient(rows):
        model.zero_grad()
        total = 0.0
        for batch in micro_batches(torch.arange(6), rows, seqs, advantage, weight, None):
            part = batch.sequences
            logp, _ = completion_logp(model, part.ids, part.at, part.tokens, 0.7)
            loss = (clipped_loss(importance_ratio(logp, part.old_logp), batch.advantage, 0.2, 0.2) * batch.weight).sum()
            loss.backward()
            total += float(loss.detach())
        return total, torch.cat([p.grad.flatten() for p in model.parameters()])

    loss, grad = gradient(6)
    other_loss, other_grad = gradient(size)
    assert other_loss == pytest.approx(loss, abs=1e-6)  # a sum that cancels
    torch.testing.assert_close(other_grad, grad, atol=1e-6, rtol=1e-4)
    assert float(grad.abs().max()) > 1e-3


def test_long_texts_are_scored_in_chunks(model, rollout, monkeypatch):
    from replication.training import logprobs

    seqs = sequences(rollout, 0)
    whole = completion_logp(model, seqs.ids, seqs.at, seqs.tokens, 0.7)
    monkeypatch.setattr(logprobs, "CHUNK", 7)
    for a, b in zip(whole, completion_logp(model, seqs.ids, seqs.at, seqs.tokens, 0.7), strict=True):
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
