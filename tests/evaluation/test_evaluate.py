"""The command: modes, resuming in the middle, caps, and what is left behind."""

import json

import pytest
from commands import command

from replication.config import PolicyConfig
from replication.policy import save_policy, small_model, small_tokenizer

SIZE = PolicyConfig(hidden_size=32, layers=2, heads=4, kv_heads=2, ffn_size=48)
FLAGS = ["--model=tiny", "--checkpoint=policy", "--evaluate.samples=4", "--rollout.max_rows=16"]
FLAGS += ["--evaluate.modes=[plain,erased,plain@0.3]", "--grading.max_no_answer=1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with problems and an untrained policy."""
    folder = tmp_path_factory.mktemp("evaluate")
    command("prepare", "--model=tiny", "--data.train_problems=8", "--data.heldout_problems=40", cwd=folder)
    tokenizer = small_tokenizer()
    (folder / "policy").mkdir()
    save_policy(small_model(SIZE, tokenizer, 0), tokenizer, folder / "policy")
    command("evaluate", *FLAGS, "--out=whole", cwd=folder)
    return folder


def rows(folder):
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


def test_every_mode_is_sampled_at_its_own_temperature(place):
    samples = rows(place / "whole")
    by_mode = {mode: [r["text"] for r in samples if r["mode"] == mode] for mode in ("plain", "erased", "plain@0.3")}
    assert {len(texts) for texts in by_mode.values()} == {160}
    assert len({tuple(texts) for texts in by_mode.values()}) == 3
    metrics = json.loads((place / "whole/metrics.json").read_text())["heldout"]
    assert set(metrics) == set(by_mode) and list(metrics["plain"]["pass_at"]) == ["1", "2", "3", "4"]
    assert metrics["plain"]["erased_tokens"] == 0 < metrics["erased"]["erased_tokens"]
    tokenizer = small_tokenizer()
    assert all(tokenizer.decode(r["token_ids"], skip_special_tokens=True) == r["text"] for r in samples[:50])
    problems = [json.loads(line) for line in (place / "whole/problems.jsonl").read_text().splitlines()]
    assert len(problems) == 120 and all(p["samples"] == 4 for p in problems)


def test_too_many_without_an_answer_stop_it_and_what_was_sampled_stays(place):
    strict = [*FLAGS[:-1], "--evaluate.modes=[plain]", "--grading.max_no_answer=0.1"]
    done = command("evaluate", *strict, "--out=stopped", cwd=place, check=False)
    assert done.returncode == 2 and "heldout, plain: " in done.stderr
    assert "of 160 completions have no answer, more than grading.max_no_answer = 0.1" in done.stderr
    assert not (place / "stopped").exists()
    again = command("evaluate", *strict[:-1], "--grading.max_no_answer=1", "--out=stopped", cwd=place)
    assert "resuming after 3 of 3 chunks" in again.stdout and (place / "stopped/metrics.json").exists()


@pytest.mark.parametrize("modes", ["[]", "[cold]", "[plain,plain]", "[plain@0]", "[plain@]"])
def test_unknown_modes_are_refused(place, modes):
    done = command("evaluate", "--model=tiny", f"--evaluate.modes={modes}", cwd=place, check=False)
    assert done.returncode == 2 and "evaluate.modes" in done.stderr and done.stderr.count("\n") == 1
