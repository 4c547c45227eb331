"""The plan's seconds: on a GPU against arithmetic by hand, on a CPU what is timed and how often it counts."""

import json

import pytest
from commands import command

from experiments.training.plan import settings
from replication.planning import clock, seconds
from replication.planning.memory import Plan
from replication.planning.page import findings, page, plan_of
from replication.policy import small_model, small_tokenizer

SMALL = "--train.prompts 4 --rollout.group_size 8 --rollout.max_rows 16 --train.micro_rows 8"


def paper(model: str, flags: str = "") -> Plan:
    return plan_of(settings(model, flags))


def test_passes_of_a_rollout_by_hand():
    """Full lanes, or as long as the slowest members of the groups that are in flight."""
    assert seconds.decoding_passes(paper("tiny")) == pytest.approx(54 * seconds.ROUNDS)  # all 256 rows at once
    assert seconds.decoding_passes(paper("tiny", "--rollout.lanes 64")) == pytest.approx(256 * 54 * 1.3 / 64)
    assert seconds.decoding_passes(paper("tiny", "--rollout.max_rows 64")) == pytest.approx(4 * 54 * seconds.ROUNDS)
    assert seconds.decoding_passes(paper("tiny", "--erasure.cap 0")) == 54  # nobody erases, nobody waits
    assert seconds.decoding_passes(paper("8b")) == pytest.approx(256 / 32 * 8192 * seconds.ROUNDS)


def test_a_gpus_seconds_by_hand():
    """Of 8B: half of 3.35 TB/s for 15.1 GB of weights and 40 rows of 256 + 4,096 tokens in the cache."""
    p = paper("8b")
    assert seconds.decoding_pass(p, 40) == pytest.approx((15_136_811_008 + 40 * 4352 * 147_456) / (0.5 * 3.35e12))
    assert seconds.decoding_pass(p, 1) == pytest.approx(36 * 6e-4)  # launches
    found = seconds.step_seconds(p, sampled=2000, passes=50)
    prompts = 16 * 256 * 2 * 36 * (192_946_432 - 2 * 4096 - 2 * 128) / (0.35 * 989e12)  # the norms are no products
    assert found["rollout"] == pytest.approx(prompts + 50 * seconds.decoding_pass(p, 40))
    whole = 256 * 8448 * (2 * p.sizes.read + 2 * 36 * 32 * 128 * 8448) * 5  # forward, backward, again, attention
    assert found["training"] == pytest.approx(whole / (0.35 * 989e12))


def test_a_cpus_seconds_are_timed_at_the_runs_sizes(monkeypatch):
    """Each call as long as it is large: passes of the rollout, and what a step's micro-batches and updates make."""
    p = paper("tiny", f"{SMALL} --objective.kl 0.1 --train.minibatches 2")
    calls: list[str] = []

    def usual(work):
        before = len(calls)
        work()
        return float(len(calls) - before)

    def roll_out(model, prompts, keys, rollout, *_):
        assert {len(prompt) for prompt in prompts} == {12 + 54 // 2 - 12} and len(keys) == 16
        calls.extend(["pass"] * 24 * rollout.segments)
        return type("Rollout", (), {"steps": 24 * rollout.segments})

    monkeypatch.setattr(clock, "usual", usual)
    monkeypatch.setattr(clock, "roll_out", roll_out)
    model = small_model(p.config.policy, small_tokenizer(), seed=0)
    assert clock.decoding_pass(p, model) == 1.0
    monkeypatch.setattr(clock, "usual", lambda work: (work(), 1.0)[1])
    assert clock.prefill(p, model) == 1 / 2  # the prompts of two groups at once
    assert clock.training(p, model) == 4 + 2 + 4 + 4  # 32 rows in micro-batches of 8; updates; answers; reference


def test_where_a_run_does_not_fit_nothing_is_timed(monkeypatch):
    p = paper("tiny", "--rollout.max_rows 16")
    monkeypatch.setattr("replication.planning.page.machine_memory", lambda: 2**20)
    monkeypatch.setattr(clock, "timed", lambda _: pytest.fail("timed"))
    found = findings(p, "tiny")
    assert not found["fits"] and found["seconds"] is None
    assert "the run: 1 steps, not timed, since it does not fit" in page(found, p)


@pytest.mark.slow
def test_the_plan_of_a_small_run_is_timed_here(tmp_path):
    done = command("fit", "--model=tiny", "--plan", "--json", *SMALL.split(), cwd=tmp_path)
    found = json.loads(done.stdout)
    assert found["fits"] and found["seconds"]["rollout"] > 0 and found["seconds"]["training"] > 0
    assert found["seconds"]["run"] == pytest.approx(30 * (found["seconds"]["rollout"] + found["seconds"]["training"]))
