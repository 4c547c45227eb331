"""Sampling for an evaluation."""

import json
import math
from dataclasses import asdict, replace

import pytest
import torch

from replication.config import ErasureConfig, EvaluateConfig, PolicyConfig, RolloutConfig
from replication.data.sources import Problem
from replication.errors import UserError
from replication.evaluate import algorithm_and_seed
from replication.evaluation.run import chunks, sample_chunk
from replication.grading.pool import Grader
from replication.policy import small_model, small_tokenizer
from replication.rollout.engine import finish
from replication.rollout.policy import Policy

SIZE = PolicyConfig(hidden_size=32, layers=2, heads=4, kv_heads=2, ffn_size=48)
ROLLOUT = RolloutConfig(group_size=2, segments=3, segment_tokens=4, max_rows=8)
PROBLEMS = [Problem("a", "34:+", "77"), Problem("b", "12:+-", "03")]


@pytest.fixture(scope="module")
def sampled():
    tokenizer = small_tokenizer()
    policy = Policy.of(small_model(SIZE, tokenizer, 0), tokenizer)
    with Grader() as grader:

        def sample(rollout, settings):
            erasure = ErasureConfig()
            parts = chunks({"heldout": PROBLEMS}, rollout, settings)
            return [s for part in parts for s in finish(sample_chunk(policy, part, rollout, erasure, settings, grader))]

        yield sample


def test_an_evaluation_is_at_its_own_temperature_whatever_the_training_was(sampled):
    settings = EvaluateConfig(samples=4, modes=["plain"])
    cool = replace(ROLLOUT, temperature=0.5, cool_fraction=0.5, cool_temperature=0.01)
    assert [s.text for s in sampled(cool, settings)] == [s.text for s in sampled(ROLLOUT, settings)]
    colder = replace(settings, temperature=0.01)
    assert [s.text for s in sampled(ROLLOUT, colder)] != [s.text for s in sampled(ROLLOUT, settings)]


def test_every_problem_is_sampled_in_every_mode(sampled):
    samples = sampled(ROLLOUT, EvaluateConfig(samples=3, modes=["plain", "erased"]))
    expected = [(mode, p.id, i) for mode in ("plain", "erased") for p in PROBLEMS for i in range(3)]
    assert [(s.mode, s.problem, s.sample) for s in samples] == expected
    assert all(s.erasures == s.erased_tokens == 0 for s in samples if s.mode == "plain")
    assert torch.tensor([s.tokens for s in samples]).max() <= 12


def test_a_sample_keeps_its_attempts(sampled):
    samples = sampled(ROLLOUT, EvaluateConfig(samples=3, modes=["plain", "erased"]))
    erased = [s for s in samples if s.mode == "erased"]
    assert sum(s.erasures for s in erased) > 0
    for s in samples:
        gone, kept = ([a for a in s.attempts if a[4] is flag] for flag in (True, False))
        assert len(gone) == s.erasures and [a[0] for a in kept] == list(range(len(kept)))
        assert s.attempts == sorted(s.attempts, key=lambda a: a[:2])
        assert s.uncertainty == pytest.approx(sum(a[2] for a in kept) / len(kept), abs=2e-4)
        assert all(a[2] > a[3] for a in gone)
        if s.mode == "plain":
            assert all(a[1] == 1 and a[3] is None for a in kept)
        else:
            assert all(a[2] <= a[3] + 2e-4 or a[1] == 1 + ErasureConfig().cap for a in kept)


def test_a_token_whose_log_probability_is_not_finite_leaves_every_number_one(sampled, monkeypatch):
    """It counts as 0, as where the rollout judges: no number of the samples is infinite or nan, which JSON lacks."""
    settings = EvaluateConfig(samples=2, modes=["plain", "erased"])
    rolling, lost, calls = Policy.rolling, torch.tensor([-math.inf, math.nan]), []

    def broken(self, *given):
        done = yield from rolling(self, *given)
        done.logp[:2, 1] = lost
        calls.append(given)
        return done

    monkeypatch.setattr(Policy, "rolling", broken)
    for sample in sampled(ROLLOUT, settings):
        json.dumps(asdict(sample), allow_nan=False)
        assert sample.uncertainty > 0
    assert calls


def test_an_evaluation_truncates_by_settings_of_its_own(sampled):
    settings = EvaluateConfig(samples=4, modes=["plain"])
    free = [s.token_ids for s in sampled(ROLLOUT, settings)]
    greedy = [s.token_ids for s in sampled(ROLLOUT, replace(settings, top_k=1))]
    assert greedy != free and all(ids == greedy[i // 4 * 4] for i, ids in enumerate(greedy))
    assert [s.token_ids for s in sampled(ROLLOUT, replace(settings, top_p=1e-6))] == greedy
    assert [s.token_ids for s in sampled(replace(ROLLOUT, top_k=1), settings)] == free


def test_a_chunk_holds_completions_for_several_fillings():
    rollout, settings = replace(ROLLOUT, max_rows=8), EvaluateConfig(samples=4, modes=["plain"])
    problems = [Problem(str(i), "3:+", "0") for i in range(20)]
    assert [len(part.problems) for part in chunks({"heldout": problems}, rollout, settings)] == [8, 8, 4]


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_damaged_record_of_a_run_is_named(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json is not a record"):
        algorithm_and_seed(str(tmp_path))
