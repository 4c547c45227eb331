"""The plan's seconds: on a GPU against arithmetic by hand, on a CPU what is timed and how often it counts."""

import json

import pytest
import torch
from commands import command
from plans import SMALL, paper

from replication.planning import cpu, memory, pace, seconds
from replication.planning.page import findings, page, times, times_page
from replication.policy import small_model, small_tokenizer


def test_attempts_at_a_segment_by_hand():
    """0.2 of the segments are erased once, 0.05 twice, 0.01 three times: of 16 members that wait, any."""
    assert seconds.rounds(paper("tiny")) == pytest.approx(4 - 0.8**16 - 0.95**16 - 0.99**16)
    assert seconds.rounds(paper("tiny", "--erasure.cap 1")) == pytest.approx(2 - 0.8**16)
    assert seconds.rounds(paper("tiny", "--erasure.fraction 0.5")) == pytest.approx(4 - 0.8**8 - 0.95**8 - 0.99**8)
    assert (
        seconds.rounds(paper("tiny", "--erasure.cap 0")) == seconds.rounds(paper("tiny", "--erasure.fraction 0")) == 1
    )
    alone = "--erasure.baseline fixed --erasure.history 0"
    assert seconds.rounds(paper("tiny", alone)) == pytest.approx(1.26)  # nobody waits
    assert seconds.rounds(paper("tiny", f"{alone} --erasure.fraction 0.5")) == pytest.approx(1.26)
    every = paper("tiny", "--erasure.baseline batch --rollout.max_rows 40")  # two groups of 16 at once
    assert seconds.rounds(every) == pytest.approx(4 - 0.8**32 - 0.95**32 - 0.99**32)
    assert seconds.decoding_passes(every) == pytest.approx(8 * 54 * seconds.rounds(every))


def test_passes_of_a_rollout_by_hand():
    """Full lanes, or as long as the slowest of those that are in flight."""
    rounds = 2.680  # of 16 members
    assert seconds.decoding_passes(paper("tiny")) == pytest.approx(54 * rounds, rel=1e-3)  # all 256 rows at once
    assert seconds.decoding_passes(paper("tiny", "--rollout.lanes 64")) == pytest.approx(256 * 54 * 1.26 / 64)
    four = paper("tiny", "--rollout.max_rows 64")
    assert seconds.decoding_passes(four) == pytest.approx(4 * 54 * rounds, rel=1e-3)
    assert seconds.decoding_passes(paper("tiny", "--erasure.cap 0 --rollout.max_rows 48")) == 6 * 54  # of 5.33 fillings
    assert seconds.decoding_passes(paper("8b")) == pytest.approx(256 / 32 * 8192 * rounds, rel=1e-3)


def test_a_validations_rows_do_not_share_the_passes_of_the_training():
    p = paper("tiny", "--train.validate_every 1 --train.validate_problems 512 --train.validate_samples 4")
    assert p.slots == p.lanes == 2048 and p.in_flight == p.busy_lanes == 256
    assert seconds.decoding_passes(p) == seconds.decoding_passes(paper("tiny"))


def test_a_gpus_seconds_by_hand():
    """Of 8B: half of 3.35 TB/s for 15.1 GB of weights and 40 rows of 256 + 4,096 tokens in the cache."""
    p = paper("8b", "--objective.kl 0.1 --credit.negatives true")
    decoding = (15_136_811_008 + 40 * 4352 * 147_456) / (0.5 * 3.35e12)
    assert pace.decoding_pass(p, 40) == pytest.approx(decoding)
    assert pace.decoding_pass(p, 1) == pytest.approx(36 * 6e-4)  # launches
    found = seconds.step_seconds(p, sampled=2000, passes=50)
    prompts = 16 * 256 * 2 * 36 * (192_946_432 - 2 * 4096 - 2 * 128) / (0.35 * 989e12)  # the norms are no products
    assert found["rollout"] == pytest.approx(prompts + 50 * decoding)
    rows = 256 * (1 + 16 * 0.26 / 2)  # and as many erased attempts, half as long
    forward = 8448 * (2 * p.sizes.read + 2 * 36 * 32 * 128 * 8448)
    passes = rows * 5 + 256  # forward, backward, again, reference; and the attention of the answers
    assert found["training"] == pytest.approx(passes * forward / (0.35 * 989e12))


def test_what_is_timed_on_a_cpu_counts_as_often_as_a_step_does_it(monkeypatch):
    """32 rows in micro-batches of 8, 1.17 erased attempts a row, 3 epochs of 2 minibatches."""
    flags = "--objective.kl 0.1 --train.minibatches 2 --train.epochs 3 --erasure.fraction 0.5 --credit.negatives true"
    p = paper("tiny", f"{SMALL} {flags}")
    ran: list[str] = []

    class Optimizer(torch.optim.AdamW):
        def step(self):
            ran.append("update")

    def score(model, ids, at, tokens, temperature):
        assert ids.shape == (8, 66) and at.shape == tokens.shape == (8, 54) and at[0, 0] == 12
        ran.append("backward" if torch.is_grad_enabled() else "reference")
        return torch.zeros(8, 54, requires_grad=True), None

    def price(work) -> float:
        ran.clear()
        work()
        return {"backward": 1000.0, "attention": 10.0, "reference": 1.0, "clip": 100.0}[ran[0]]

    monkeypatch.setattr(cpu, "completion_logp", score)
    monkeypatch.setattr(cpu, "answer_attention", lambda *_: ran.append("attention"))
    monkeypatch.setattr(cpu, "median_seconds", price)
    monkeypatch.setattr(torch.optim, "AdamW", Optimizer)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: ran.append("clip"))
    model = small_model(p.config.policy, small_tokenizer(), seed=0)
    rows = 4 * (1 + 1.17 / 2)
    assert cpu.training(p, model) == pytest.approx(3 * (rows * 1000 + 2 * 100) + 4 * 10 + rows * 1)
    assert ran == ["reference"]  # the last
    monkeypatch.setattr(cpu, "median_seconds", lambda work: float(work().logits.numel()))
    assert cpu.prefill(p, model) == 2 * 30 / 2  # two prompts at once, a word list of 30 after each


def test_a_correction_scores_the_samples_once_more_where_there_are_several_updates():
    plain, corrected = paper("8b"), paper("8b", "--objective.correction mask")
    more = pace.training_flops(corrected) - pace.training_flops(plain)
    assert more == pytest.approx(256 * 8448 * pace.token_flops(plain))
    assert memory.record(corrected) - memory.record(plain) == 256 * 8448 * 4
    one = "--train.minibatches 1"
    assert pace.training_flops(paper("8b", f"{one} --objective.correction mask")) == pace.training_flops(
        paper("8b", one)
    )


def test_a_timed_pass_is_one_of_the_rollouts(monkeypatch):
    """In the middle of a completion, all rows that are in flight, the time between first and last pass."""
    p = paper("tiny", SMALL)
    now = iter(range(1000))

    def roll_out(engine, prompts, keys, rollout, erasure, ends, pad, watcher):
        assert len(keys) == 16 and {len(prompt) for prompt in prompts} == {12 + (54 - 18) // 2}
        assert rollout.segments == 3 and erasure is p.config.erasure
        for _ in range(41):
            watcher.sampled(None, None)

    monkeypatch.setattr(cpu, "roll_out", roll_out)
    monkeypatch.setattr(cpu.time, "perf_counter", lambda: 5.0 + 0.25 * next(now))
    model = small_model(p.config.policy, small_tokenizer(), seed=0)
    assert cpu.decoding_pass(p, model) == pytest.approx(0.25)


@pytest.mark.parametrize(
    "flags",
    [
        "--policy.lora_rank 4 --trainer.gradient_checkpointing true --objective.kl 0.1",
        "--trainer.precision bf16 --erasure.fraction 0",
        "--trainer.strategy deepspeed_zero2 --trainer.precision bf16 --train.grad_clip 0",
        "--rollout.lanes 3 --rollout.segments 1 --rollout.segment_tokens 4 --erasure.baseline batch",
        "--rollout.segments 1 --rollout.segment_tokens 1012",  # as long as the model reads
    ],
)
def test_odd_settings_are_timed_too(flags, monkeypatch):
    """None is refused, fails, or takes no time."""
    monkeypatch.setattr(cpu, "TOGETHER", 1e-3)
    found = cpu.pace(paper("tiny", f"--train.prompts 2 --rollout.group_size 4 --train.micro_rows 2 {flags}"))
    assert found.decoding > 0 and found.prompt > 0 and found.training > 0


def test_where_a_run_does_not_fit_nothing_is_timed(monkeypatch):
    p = paper("tiny", "--rollout.max_rows 16")
    monkeypatch.setattr("replication.planning.page.machine_memory", lambda: 2**20)
    monkeypatch.setattr(cpu, "pace", lambda _: pytest.fail("timed"))
    found = findings(p, "tiny")
    spent = times(p, found["fits"])
    assert not found["fits"] and spent["seconds"] is None and "DOES NOT FIT" in page(found, p)
    text = times_page(spent, 30)
    assert "not estimated: it does not fit" in text and "on this CPU" not in text


def test_where_the_run_would_use_a_gpu_the_cpu_is_not_timed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "set --trainer.gpu_gib" in seconds.untimed(paper("tiny"), fits=True)
    assert seconds.untimed(paper("8b"), fits=True) == ""


@pytest.mark.slow
def test_the_plan_of_a_small_run_is_timed_here(tmp_path):
    flags = ("--model=tiny", "--plan", *SMALL.split())
    found = json.loads(command("fit", *flags, "--json", cwd=tmp_path, CUDA_VISIBLE_DEVICES="").stdout)
    spent = found["seconds"]
    assert found["fits"] and spent["rollout"] > 0 and spent["training"] > 0
    assert spent["run"] == pytest.approx(30 * (spent["rollout"] + spent["training"]))
    text = command("fit", *flags, cwd=tmp_path, CUDA_VISIBLE_DEVICES="").stdout
    assert "a step, rollout" in text and "for 30 steps" in text and "on this CPU just now" in text
