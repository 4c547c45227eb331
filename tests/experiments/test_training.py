"""What the memory of the loss and the step beside TRL rest on; TRL itself is not here."""

import json
import time
from dataclasses import replace

import pytest

from experiments.decoding.bench import Table
from experiments.training import loss, step, table
from experiments.training.clock import Clock
from replication.config import PolicyConfig
from replication.policy import small_model, small_tokenizer
from replication.training import logprobs

SMALL = "--train.prompts 2 --rollout.group_size 4 --rollout.segments 2 --train.micro_rows 4"


def test_every_row_of_the_loss(monkeypatch):
    """A vocabulary of 4,096 in chunks of 64 tokens: a token more costs a tenth at most of what it costs without."""
    monkeypatch.setattr(logprobs, "LOGITS", 64 * 4096)
    rows = Table()
    loss.compare(rows, loss.narrow_model(4096), [64, 128, 256])
    found = {row["name"].split(", ", 1)[1]: row for row in rows.rows}
    assert found["64 x 4096, peak"]["ratio"] == pytest.approx(1, abs=0.01)
    assert found["256 x 4096, peak"]["ratio"] < 0.5
    assert found["64 x 4096, gradients"]["ours"] < 1e-5
    assert found["V 4096, a token more"]["ratio"] < 0.1
    assert found["V 4096, a token more"]["peer"] == pytest.approx(16 * 4096, rel=0.15)
    assert found["V 4096, constant, logits of a chunk"]["met"]


def test_a_line_that_does_not_fit_is_put_on_that_of_the_others(monkeypatch):
    monkeypatch.setattr(logprobs, "LOGITS", 8 * 128)
    monkeypatch.setattr(loss, "available", lambda: 0)
    monkeypatch.setattr(loss, "peak_and_seconds", lambda model, scores, size: (10 * size + 5, 1.0))
    rows = Table()
    loss.compare(rows, loss.narrow_model(128), [16, 32, 64])
    assert rows.rows[2]["peer"] == pytest.approx(645) and "not run" in rows.rows[2]["note"]
    assert not rows.rows[1]["note"]


@pytest.mark.usefixtures("fixed_settings")
def test_our_steps_are_timed_by_part():
    """Two steps of two updates on four completions of twelve tokens each, and one of them cut off nowhere."""
    config = step.Case("tiny", "tiny", None, SMALL, 2, 1).config()
    policy = small_model(PolicyConfig(hidden_size=32, layers=1), small_tokenizer(), 0)
    found = step.ours(config, policy, small_tokenizer())
    assert found["tokens"] == [2 * 4 * 12] * 2 and len(found["losses"]) == 2
    for seconds in found["steps"]:
        assert {"rollout", "grading", "forward", "backward", "optimizer"} < set(seconds)
        assert seconds["step"] == pytest.approx(sum(seconds.values()) - seconds["step"])


@pytest.mark.usefixtures("fixed_settings")
def test_what_trl_is_told_is_our_setting(tmp_path):
    case = step.Case("tiny", "tiny", tmp_path, SMALL, 3, 2)
    config = case.config()
    told = step.setting(case, config, small_tokenizer())
    wanted = {"group": 4, "cap": 12, "updates": 2, "micro": 4, "steps": 3, "threads": 2, "prompts_a_step": 2}
    assert {key: told[key] for key in wanted} == wanted and len(told["prompts"]) == 2
    json.dumps(told)
    mine = {"tokens": [96] * 3, "steps": [{}] * 3, "losses": [0.0]}
    prompts = sorted(small_tokenizer().apply_chat_template(told["prompts"], add_generation_prompt=True).input_ids)
    step.check(config, small_tokenizer(), mine, {**mine, "prompts": prompts, "cache": True})
    with pytest.raises(AssertionError, match="prompts"):
        step.check(config, small_tokenizer(), mine, {**mine, "prompts": prompts[:1], "cache": True})
    with pytest.raises(AssertionError):
        step.check(
            replace(config, train=replace(config.train, prompts=3)), small_tokenizer(), mine, {**mine, "prompts": []}
        )


def test_a_clock_counts_inner_functions_once():
    clock = Clock()
    inner = clock.wrap("inner", lambda: time.sleep(0.02))
    clock.wrap("outer", lambda: (time.sleep(0.01), inner()))()
    clock.tick()
    (seconds,) = clock.steps
    assert seconds["inner"] >= 0.02 and 0.01 <= seconds["outer"] < seconds["step"] - 0.02 + 1e-3
    assert seconds["step"] == pytest.approx(seconds["inner"] + seconds["outer"] + seconds["rest"])


def test_rows_replace_those_of_their_names_and_say_what_they_were_measured_with(tmp_path):
    path = tmp_path / "training.json"
    for name, value in (("loss, a", 1), ("step, a", 2), ("loss, a", 3)):
        table.store(path, [{"name": name, "ours": value}], threads=value)
    rows = json.loads(path.read_text())["rows"]
    assert [(row["name"], row["ours"], row["threads"]) for row in rows] == [("step, a", 2, 2), ("loss, a", 3, 3)]
    assert all(row["torch"] for row in rows)
