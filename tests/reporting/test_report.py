"""The report on small made-up runs whose numbers are known."""

import json
import sys

import pytest
from made_up_runs import write_run

from replication import report


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    runs = folder / "runs"
    write_run(runs, "untrained", 0, [[0, 0], [1, 0]])
    for seed in (0, 1):
        write_run(runs, "grpo", seed, [[1, 0], [1, 1]])
        write_run(runs, "e3rl", seed, [[seed, 0], [1, 0]])
    matrix = {"bases": ["toy"], "models": ["toy"], "algorithms": ["grpo", "e3rl"], "seeds": [0, 1]}
    params = folder / "params.yaml"
    params.write_text(json.dumps({"models": {"toy": {}}, "algorithms": {"grpo": {}, "e3rl": {}}, "matrix": matrix}))
    with pytest.MonkeyPatch.context() as patch:
        where = ["--runs", str(runs), "--out", str(folder / "reports"), "--params", str(params)]
        patch.setattr(sys, "argv", ["report", *where])
        report.main()
    return folder / "reports"


def test_numbers_of_the_report(reported):
    metrics = json.loads((reported / "metrics.json").read_text())["toy"]
    assert metrics["untrained"]["held"]["plain"]["avg"]["mean"] == 0.25
    assert metrics["untrained"]["held"]["erased"]["lift"]["mean"] == 0.75
    assert metrics["e3rl"]["held"]["plain"]["seeds"] == [0.25, 0.5]
    assert metrics["e3rl"]["held"]["plain"]["pass"]["mean"] == 0.75
    assert metrics["e3rl"]["held"]["plain"]["over_baseline"]["mean"] == 0.375 - 0.75
    assert metrics["e3rl"]["held"]["plain"]["gain_over_baseline"]["mean"] == -0.5
    assert metrics["e3rl"]["held"]["erased"]["tokens"]["mean"] == 15.0
    assert metrics["untrained"]["held"]["erased"]["avg"] == {"mean": 1.0, "low": 0.025**0.5, "high": 1.0}
    assert metrics["e3rl"]["training"]["rollouts"]["tokens"]["mean"] == 150.0
    assert metrics["e3rl"]["training"]["rollouts"]["erasure_rate"] == {"mean": 0.25, "low": 0.25, "high": 0.25}
    assert metrics["e3rl"]["held"]["plain"]["over_baseline"]["gain"] == "underpowered"  # two problems, two seeds
    assert metrics["e3rl"]["held"]["plain"]["maj"]["mean"] == 0.5
    assert metrics["e3rl"]["average"]["plain"]["over_baseline"]["mean"] == -0.375
    assert metrics["e3rl"]["average"]["plain"]["gain_over_baseline"]["mean"] == -0.5
    assert "over_baseline" not in metrics["grpo"]["held"]["plain"]
    text = (reported / "report.md").read_text()
    assert "| e3rl | plain | 0.375 [" in text and "0.250 / 0.500 |" in text
    assert "| e3rl | 0.00 M | 0.500 | 0.250 | 0.500 | - |" in text
    assert "Not run: the paper's q4b and q8b" in text
    assert (reported / "figures/learning_curves_toy.png").stat().st_size > 10_000
