"""The study's comparisons on made-up cells whose numbers are known."""

import json

import numpy as np
import pytest

from experiments.study import cells, report
from experiments.study.ablations import ablations
from experiments.study.arms import planned
from experiments.study.compare import at_equal_steps, at_equal_tokens, best_temperature, of_several, read
from experiments.study.page import page, summary
from experiments.study.regimes import gain_of_four, gains_of_one, in_short, judged
from replication.errors import UserError


def trained(plain, heldout, tokens=100.0, erased=16):
    """A seed: two steps of `tokens` tokens, validated after the first; two problems of 16 samples."""
    rows = [{"step": s, "generated_tokens": tokens, "groups_without_signal": 0.5, "erasure_rate": 0.25} for s in (1, 2)]
    rows = [{**row, "acceptance": 0.8} for row in rows]
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
    np.testing.assert_allclose(of_several(task, "plain", "best", budget), [0.375, 0.75])
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
    assert "**Erase@1**: trained, reproduced in direction on toy; at sampling, not reproduced on toy" in text
    assert "**Erase@3**: trained, not run on toy; at sampling, not run on toy" in text


def test_a_win_is_over_grpo_and_over_its_control(ablated):
    arms = ablated.arms
    arms["grpo_cool"] = arms["grpo"]
    assert judged(ablated, "e3rl") == "undecided"  # +0.375 and +0.28125: the interval of two seeds holds 0
    arms["grpo_cool"] = arms["grpo"] = arms["e3rl_cap_1"]
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
            "best-of-n of plain at equal tokens": 0.125,
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


def test_four_erased_samples_against_the_better_rival(folder):
    """60 tokens are 6 plain samples: all found at 4; of the erased 4 as well."""
    task = read(folder)[0]
    for seed in task.settings:
        seed["erased"]["best"] = {"1": 0.5, "4": 0.8}
        seed["temperature_0.5"]["best"] = {"1": 0.25, "8": 0.95}
    assert gain_of_four(task, "best").mean == pytest.approx(0.8 - 1.0)


def test_every_planned_arm_is_an_algorithm():
    import yaml
    from commands import ROOT

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


def test_the_committed_page_is_made_of_the_committed_cells(tmp_path, monkeypatch):
    from commands import ROOT

    monkeypatch.setattr("sys.argv", ["report", "--cells", str(ROOT / "reports/study"), "--out", str(tmp_path)])
    report.main()
    assert (tmp_path / "study.md").read_text() == (ROOT / "reports/study.md").read_text()
    assert (tmp_path / "study.json").read_text() == (ROOT / "reports/study.json").read_text()
