"""The study's comparisons on made-up cells whose numbers are known."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from commands import ROOT

from experiments.study import cells, infer, report
from experiments.study.ablations import ablations
from experiments.study.arms import CHOICES, planned
from experiments.study.compare import (
    at_equal_steps,
    at_equal_tokens,
    best_of_several,
    best_temperature,
    of_several,
    read,
)
from experiments.study.page import page, summary
from experiments.study.regimes import gain_of_four, gains_of_one, in_short, judged
from replication.config import Config, ErasureConfig
from replication.errors import UserError


def trained(plain, heldout, tokens=100.0, erased=16):
    """A seed: two steps of `tokens` tokens, validated after the first; two problems of 16 samples."""
    rows = [{"step": s, "generated_tokens": tokens, "groups_without_signal": 0.5, "erasure_rate": 0.25} for s in (1, 2)]
    rows[0]["heldout"] = heldout
    return {
        "seed": 0,
        "history": rows,
        "plain": {"correct": plain, "tokens": 10.0},
        "erased": {"correct": [erased, erased], "tokens": 15.0},
    }


def sampled(hits, tokens):
    counts = {"correct": [hits, hits], "tokens": tokens}
    return {**counts, "majority": {"1": hits / 16, "2": hits / 16, "4": 0.9}, "best": {"1": 0.25, "2": 0.5, "4": 1.0}}


@pytest.fixture
def folder(tmp_path):
    base = {"task": "toy", "samples": 16, "problems": 2}
    settings = {"plain": sampled(4, 10.0), "temperature_0.5": sampled(6, 10.0), "erased": sampled(8, 15.0)}
    both = [{"seed": i, "settings": settings, "auc": {"surprisal": [0.8, None, 0.9]}} for i in (0, 1)]
    files = {
        "grpo": [trained([4, 8], 0.3), trained([8, 8], 0.4)],  # 0.375 and 0.5 after 200 tokens
        "e3rl_mixed": [trained([8, 8], 0.4, 200.0), trained([12, 8], 0.5, 200.0)],  # 0.5 and 0.625 after 400
        "untrained_controls": both,
    }
    for name, seeds in files.items():
        cells.write(tmp_path / "toy" / f"{name}.json", {**base, "seeds": seeds})
    return tmp_path


def test_equal_steps_pair_the_seeds(folder):
    arms = read(folder)[0].arms
    assert at_equal_steps(arms["e3rl_mixed"], arms["grpo"]).mean == pytest.approx(0.125)
    assert at_equal_steps(arms["e3rl_mixed"], arms["grpo"], "erased").mean == 0


def test_equal_tokens_read_the_curve_at_the_smaller_total(folder):
    """GRPO's 200 tokens: the other's validated point, 0.4 and 0.5, against GRPO's final 0.375 and 0.5."""
    arms = read(folder)[0].arms
    assert at_equal_tokens(arms["e3rl_mixed"], arms["grpo"]).mean == pytest.approx((0.025 + 0.0) / 2)
    assert at_equal_tokens(arms["grpo"], arms["e3rl_mixed"]).mean == pytest.approx(-0.0125)


def test_curves_start_at_the_untrained_policy(folder):
    curve = read(folder)[0].arms["grpo"].curves[0]
    np.testing.assert_allclose(curve, [[0.0, 0.25], [100.0, 0.3], [200.0, 0.375]])


def test_several_samples_at_equal_tokens(folder):
    task = read(folder)[0]
    budget = np.array([15.0, 30.0])  # 1.5 and 3 plain samples
    one, two, three = 12 / 16, 12 / 16 * 11 / 15, 12 / 16 * 11 / 15 * 10 / 14  # all of them wrong, 4 of 16 being right
    want = [1 - (one + two) / 2, 1 - three]
    np.testing.assert_allclose(of_several(task, "plain", "best", budget), want)
    np.testing.assert_allclose(of_several(task, "plain", "majority", budget), [0.25, 0.9])  # votes of 2 and of 4
    assert best_temperature(task) == "temperature_0.5"
    np.testing.assert_allclose(task.auc["surprisal"], [0.85, 0.85])


def test_the_page_says_what_was_not_run(folder):
    task = read(folder)[0]
    task.auc["entropy"] = np.array([0.5, 0.6])
    text = page([task])
    assert "e3rl_contrastive" in text.split("**Not run on toy:** ")[1].split(".")[0]
    assert "| e3rl_mixed against grpo, equal steps | yes: +0.125 [+0.125, +0.125]" in text
    assert "| e3rl_mixed against grpo_cool, equal steps | not run" in text
    assert summary([task])["toy"]["grpo"]["plain"]["mean"] == pytest.approx(0.4375)


@pytest.fixture
def ablated(folder):
    """The letter at 0.75 and Erase@1 at 0.5 of two problems, both after 200 tokens."""
    base = {"task": "toy", "samples": 16, "problems": 2}
    files = {
        "e3rl": [trained([12, 12], 0.4), trained([12, 13], 0.4)],
        "e3rl_cap_1": [trained([8, 8], 0.4, erased=8), trained([8, 8], 0.4, erased=9)],
    }
    for name, seeds in files.items():
        cells.write(folder / "toy" / f"{name}.json", {**base, "seeds": seeds})
    settings = {"erased_cap_1": {"correct": [10, 10], "tokens": 12.0}}
    part = {**base, "seeds": [{"seed": i, "settings": settings} for i in (1, 0)]}
    cells.write(folder / "toy/untrained_ablations.json", part)
    return read(folder)[0]


def test_an_ablation_is_taken_from_the_letter(ablated):
    """Gains of the letter: 0.25 and 0.28125 trained, -0.125 untrained, where Erase@1 is better."""
    text = ablations([ablated])
    row = next(line for line in text.splitlines() if line.startswith("| Erase@1 | toy"))
    assert "| +0.266 [+0.067, +0.464] | +0.266" in row  # 0.265625 +- 12.706 * 0.015625, both comparisons
    assert "| +0.469 [+0.072, +0.866] | -0.125 [-0.125, -0.125] | 15.0, 12.0 |" in row  # 0.5 and 0.4375
    for mode in ("sampled plainly", "erased"):
        assert f"Trained, {mode}: reproduced in direction on toy" in text
    assert "on toy. Untrained, erased: underpowered on toy (the letter at +25 % tokens)" in text
    assert "**Erase@3**: Trained, sampled plainly: not run on toy. Trained, erased: not run on toy. Untrained" in text


def test_a_win_is_over_grpo_its_control_and_dapo(ablated):
    arms = ablated.arms
    arms["grpo_cool"] = arms["dapo"] = arms["grpo"]
    assert judged(ablated, "e3rl") == "undecided"  # +0.375 and +0.28125: the interval of two seeds holds 0
    arms["grpo_cool"] = arms["dapo"] = arms["grpo"] = arms["e3rl_cap_1"]
    assert judged(ablated, "e3rl") == "wins"
    arms["e3rl"], arms["grpo_cool"] = arms["e3rl_cap_1"], arms["e3rl"]
    assert judged(ablated, "e3rl") == "loses"


def test_one_erased_sample_against_each_rival(folder):
    """0.5 at 15 tokens: plain 0.25, temperature 0.5 at 0.375, and 1.5 plain samples for as many tokens."""
    task = read(folder)[0]
    gains = {rival: gain.mean for rival, gain in gains_of_one(task, "erased").items()}
    assert gains == pytest.approx(
        {
            "plain": 0.25,
            "the best temperature": 0.125,
            "best-of-n of plain at equal tokens": 0.5 - (1 - (0.75 + 0.75 * 11 / 15) / 2),  # 1.5 samples, 4 of 16 right
            "majority of plain at equal tokens": 0.25,
        }
    )
    assert gains_of_one(task, "erased_absolute") == {}
    text = in_short([task])
    assert (
        "by the letter:** one erased sample beats plain, the best temperature, best-of-n and majority at equal " in text
    )
    assert "tokens on toy." in text and "by an absolute threshold:** one erased sample beats" in text
    for seed in task.settings:
        seed["temperature_0.5"]["correct"] = [9, 9]
    assert "on none; worse than the best temperature on toy." in in_short([task])


def test_four_erased_samples_against_the_best_temperature_for_them(folder):
    """60 tokens are 6 plain samples. One is best at temperature 0.5; six are at 1, where no problem is hopeless."""
    task = read(folder)[0]
    for seed in task.settings:
        seed["erased"]["correct"], seed["plain"]["correct"] = [8, 0], [4, 4]
        seed["temperature_0.5"]["correct"] = [16, 0]
    four = 1 - 8 * 7 * 6 * 5 / (16 * 15 * 14 * 13)
    six = 1 - np.prod([(12 - i) / (16 - i) for i in range(6)])
    assert gain_of_four(task, "best").mean == pytest.approx(four / 2 - six)
    assert best_of_several(task, "best", np.array([60.0, 60.0]))[0] == "plain"
    for seed in task.settings:
        seed["temperature_0.5"]["majority"]["4"] = 0.95
    assert gain_of_four(task, "majority").mean == pytest.approx(0.9 - 0.95)


def test_every_planned_arm_is_an_algorithm():
    algorithms = yaml.safe_load((ROOT / "params.yaml").read_text())["algorithms"]
    stages = (ROOT / "experiments/study/dvc.yaml").read_text()
    for name in ("recurrence", "selfcheck", "selfcheck_long"):
        for arm in planned(name):
            assert arm in algorithms and arm in stages, arm


def test_a_broken_cell_is_named(folder):
    (folder / "toy/dapo.json").write_text(json.dumps({"task": "toy", "seeds": [{}]}))
    with pytest.raises(UserError, match="toy: a cell of the study cannot be read"):
        read(folder)
    with pytest.raises(UserError, match="holds no cells"):
        read(folder / "nothing")


def test_a_cell_of_fewer_seeds_is_named(folder):
    path = folder / "toy/grpo.json"
    cell = json.loads(path.read_text())
    cells.write(path, {**cell, "seeds": cell["seeds"][:1]})
    with pytest.raises(UserError, match=r"toy/grpo\.json holds 1 seeds, the task's others up to 2"):
        read(folder)
    for number, words in ((1, "give 2 to 11"), (12, "give 2 to 11")):
        with pytest.raises(UserError, match=words):
            cells.check_seeds(path, number)
    path = folder / "toy/e3rl_mixed.json"
    cells.write(path, {**cell, "seeds": cell["seeds"] * 2})
    with pytest.raises(UserError, match="holds 4 seeds, more than --seeds 3"):
        cells.check_seeds(path, 3)
    cells.check_seeds(path, 4)


def test_counts_hold_erased_tokens():
    rows = [("a", "correct", 5, 3), ("a", "wrong", 7, 0), ("b", "wrong", 4, 1), ("b", "wrong", 4, 0)]
    samples = [SimpleNamespace(problem=p, verdict=v, tokens=t, erased_tokens=e) for p, v, t, e in rows]
    assert cells.counts(samples) == {"correct": [1, 0], "tokens": 6.0}


def test_auc_is_of_the_first_wrong_segment(model, monkeypatch):
    """Four completions of two segments: the first fault of rows 1 and 2 is in segment 0, that of row 3 in segment 1.

    Segment 0 has U 1, 5, 4, 2, so the wrong ones lie above; segment 1 is judged in rows 0 and 3 alone: 3 above 2.
    """
    solution = [11, 12, 13, 14]
    tokens = torch.tensor([solution, [11, 9, 9, 9], [9, 12, 13, 14], [11, 12, 13, 9]]).repeat_interleave(4, 0)
    surprise = torch.tensor([[1.0, 1, 2, 2], [5, 5, 0, 0], [4, 4, 9, 9], [2, 2, 3, 3]]).repeat_interleave(4, 0)
    done = SimpleNamespace(
        erasures=torch.zeros(16, 2),
        tokens=tokens,
        mask=torch.ones(16, 4, dtype=torch.bool),
        segment_of=torch.tensor([[0, 0, 1, 1]]).expand(16, 4),
        segments=torch.full((16,), 2),
        start=torch.tensor([[0, 2, 4]]).expand(16, 3),
        uncertainty={"surprisal": surprise, "entropy": -surprise}.get,
    )
    monkeypatch.setattr(infer.Policy, "of", lambda *_: SimpleNamespace(roll_out=lambda *_: done))
    tokenizer = lambda text: SimpleNamespace(input_ids=solution)  # noqa: E731
    tokenizer.eos_token_id, tokenizer.pad_token_id = 1, 0
    config = Config(erasure=ErasureConfig(w_max=0.0, w_rise=0.0))
    problem = SimpleNamespace(id="p", question="1; 2; 3", final_answer="3")
    monkeypatch.setitem(infer.TASKS, config.data.task, SimpleNamespace(solution=lambda *_: ""))
    assert infer.auc(None, tokenizer, config, [problem], 0) == {"surprisal": [1.0, 1.0], "entropy": [0.0, 0.0]}


def test_an_erasure_at_sampling_is_that_of_the_trained_arm():
    """The same settings stand in infer.py and in params.yaml."""
    algorithms = yaml.safe_load((ROOT / "params.yaml").read_text())["algorithms"]
    names = [name for name in infer.ERASURES if name.replace("erased", "e3rl") in algorithms]
    assert len(names) >= 10
    for name in names:
        section = algorithms[name.replace("erased", "e3rl")]
        assert {k: v for k, v in section["erasure"].items() if k != "fraction"} == infer.ERASURES[name], name
    for name, (segments, tokens) in infer.SPLITS.items():
        assert algorithms[name.replace("erased", "e3rl")]["rollout"] == {"segments": segments, "segment_tokens": tokens}
    assert {f"erased_{name}" for name in CHOICES} == set(infer.CHOICES)


def test_the_committed_page_is_made_of_the_committed_cells(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["report", "--cells", str(ROOT / "reports/study"), "--out", str(tmp_path)])
    report.main()
    assert (tmp_path / "study.md").read_text() == (ROOT / "reports/study.md").read_text()
    assert (tmp_path / "study.json").read_text() == (ROOT / "reports/study.json").read_text()
