"""What the comparison of engines rests on; vLLM itself is in tests/with_vllm."""

import json
import math
from dataclasses import replace

import pytest
import torch

from experiments.decoding import engines, engines_table


def test_the_level_that_erases_a_share():
    """U is 1, 2, 3 or 4. Under a level in [1, 1.5) that doubles, 3/4 of first attempts are erased and 1/2 of the second
    ones: 1.125 erased to 1 kept. In [1.5, 2) it is 3/4 and 1/4: 0.9375 to 1."""
    u = torch.tensor([[1.0, 2.0, math.nan], [3.0, 4.0, math.nan]])
    rule = replace(engines.GROUP, growth=math.log(2), cap=2)
    for share in (0.52, 0.49):
        assert engines.level_for(u, share, rule) == pytest.approx(1.5, abs=1e-6)
    assert engines.level_for(u, 0.48, rule) == pytest.approx(2, abs=1e-6)
    once = replace(rule, cap=1)
    assert engines.level_for(u, 0.4, once) == pytest.approx(2, abs=1e-6)  # 3/7 are erased below, 1/3 above


def test_rates_are_the_best_of_rounds_and_warm_ups_do_not_count(monkeypatch):
    ticks = iter([0.0, 2.0, 2.0, 6.0, 10.0, 11.0, 20.0, 28.0])
    monkeypatch.setattr(engines.time, "process_time", lambda: next(ticks))
    warmed = []
    found = engines.rates({"a": lambda: 10, "b": lambda: 20}, 2, [lambda: warmed.append(1)])
    assert found == {"a": 10.0, "b": 5.0} and warmed == [1]


def test_a_part_takes_the_place_of_the_one_of_its_name(tmp_path, model):
    path = tmp_path / "engines.json"
    about = engines_table.described(model)
    assert about.keys() == {"date", "processor", "threads", "dtype", "versions"}
    assert about["dtype"] == "float32" and "torch" in about["versions"]
    for name, rows in (("seeds", 1), ("waiting", 2), ("seeds", 3)):
        engines_table.store(path, "tiny", name, about | {"rows": rows})
    found = json.loads(path.read_text())["models"]["tiny"]
    assert {name: part["rows"] for name, part in found.items()} == {"seeds": 3, "waiting": 2}
