"""What the sampler asks the engine for: problems, random numbers, settings."""

from types import SimpleNamespace

import pytest
import torch

from replication.config import Config, ErasureConfig, RolloutConfig, TrainConfig
from replication.data.sources import Problem
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.engine import roll_out
from replication.training import sampler as module
from replication.training.metrics import StepMetrics
from replication.training.sampler import Sampler

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]
PROBLEMS = [Problem(id=f"p{i}", question=f"{i}", final_answer="1") for i in range(40)]


@pytest.fixture
def asked(monkeypatch):
    """A sampler whose engine only notes what it is asked for, and whose every group is silent."""
    calls = []

    def noted(problems, keys, rollout, erasure, running=None):
        questions = [int(problem.question) for problem in problems]
        calls.append(SimpleNamespace(questions=questions, keys=keys, rollout=rollout, erasure=erasure))
        return SimpleNamespace(row_steps=1, group_size=rollout.group_size, groups=len(problems))

    monkeypatch.setattr(module.Rollout, "concatenate", lambda both: SimpleNamespace(pick=lambda order: both[0]))
    turns = []
    engine = SimpleNamespace(sync=lambda: turns.append("sync"), rest=lambda: turns.append("rest"))
    config = Config(rollout=RolloutConfig(group_size=2, cool_fraction=0.5), train=TrainConfig(validate_samples=3))
    out = Sampler(config, SimpleNamespace(roll_out=noted, engine=engine), PROBLEMS, (), 3, None, StepMetrics())
    out.metrics.add_rollout = lambda done, correct: None
    out._grade = lambda rollout, problems, prefix="": torch.zeros(len(problems), rollout.group_size)
    out.calls, out.turns = calls, turns
    return out


def keys_of(asked, step, slots, indices):
    asked.step(step, slots, indices, None)
    return asked.calls[-1].keys


def test_random_numbers_differ_by_step_slot_problem_and_member(asked):
    base = keys_of(asked, 0, [4, 5], [7, 8])
    assert len(set(base)) == 4
    assert keys_of(asked, 0, [4, 5], [7, 8]) == base
    assert not set(keys_of(asked, 1, [4, 5], [7, 8])) & set(base)
    assert not set(keys_of(asked, 0, [6, 9], [7, 8])) & set(base)
    assert not set(keys_of(asked, 0, [4, 5], [9, 9])) & set(base)
    assert keys_of(asked, 0, [5], [8]) == base[2:]  # whatever else the process rolls out


def test_each_refill_draws_another_problem(asked):
    asked.config.train.refills = 3
    asked.step(0, [4, 5], [7, 8], None)
    tries = [tuple(call.questions) for call in asked.calls]
    assert len(tries) == 4 and tries[0] == (7, 8) and len(set(tries)) == 4
    assert all(one != other for one, other in tries)  # the slots draw apart


def test_an_engine_gets_the_weights_once_a_step_and_rests_after_it(asked):
    """Refills come from the same weights; the validation from those of after the update."""
    asked.config.train.refills = 2
    asked.step(0, [4, 5], [7, 8], None)
    asked.validate(PROBLEMS[:2])
    assert len(asked.calls) == 4 and asked.turns == ["sync", "rest"] * 2


def test_validation_is_plain_at_the_temperature_and_always_the_same(asked):
    for _ in range(2):
        asked.validate(PROBLEMS[:2])
    first, second = asked.calls
    assert first.erasure.fraction == 0 and first.rollout.cool_fraction == 0 and first.rollout.group_size == 3
    assert first.rollout.temperature == asked.config.rollout.temperature
    assert first.keys == second.keys and len(set(first.keys)) == 6


def test_refills_replace_the_silent_slots_only(model):
    """Slots 7, 8, 9 with verdicts 11, 10, 00: 7 and 9 draw again and get 00, 01; then 7 alone, which gets 11."""
    settings = RolloutConfig(group_size=2, segments=3, segment_tokens=4)
    rollout = roll_out(TorchEngine(model), PROMPTS, torch.arange(6), settings, ErasureConfig(cap=2), [1], 0)
    asked, calls, first = [[7, 8, 9], [7, 9], [7]], [], []
    verdicts = [[[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]], [[1.0, 1.0]]]
    groups = [[0, 1, 2], [1, 0], [2]]  # of the fixture, told apart by their prompts

    def graded(step, slots, indices, running):
        calls.append(list(slots))
        assert calls == asked[: len(calls)]
        return rollout.pick(groups[len(calls) - 1]), torch.tensor(verdicts[len(calls) - 1])

    sampler = Sampler(
        config=Config(train=TrainConfig(refills=2)),
        policy=SimpleNamespace(engine=SimpleNamespace(sync=lambda: None, rest=lambda: None)),
        problems=range(50),
        heldout=(),
        seed=3,
        grader=None,
        metrics=SimpleNamespace(add_rollout=lambda done, correct: first.append(correct.tolist())),
    )
    sampler._groups = graded
    done, correct = sampler.step(0, [7, 8, 9], [10, 11, 12], None)
    assert calls == asked
    assert correct.tolist() == [[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    assert done.prompts == [PROMPTS[2], PROMPTS[1], PROMPTS[0]]
    assert first == [verdicts[0]]
