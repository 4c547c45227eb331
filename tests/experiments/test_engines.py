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
    assert found[engines.RATES] == {"a": 10.0, "b": 5.0} and found[engines.SLOWEST] == {"a": 5.0, "b": 2.5}
    assert warmed == [1]


def test_a_part_takes_the_place_of_the_one_of_its_name(tmp_path, model):
    path = tmp_path / "engines.json"
    about = {**engines_table.described(model), "tokens": 8, "rounds": 2}
    assert about.keys() >= {"date", "processor", "threads", "dtype", "versions"}
    assert about["dtype"] == "float32" and "torch" in about["versions"]

    def store(name, rows, **rate):
        found = {"tokens in a second": rate, engines_table.SLOWEST: rate}
        return engines_table.store(path, "tiny", name, {**about, "rows": rows, **found})

    store("1 rows", 1, torch=3.0)
    store("1 rows", 2, torch=1.0)
    kept = json.loads(path.read_text())["models"]["tiny"]["1 rows"]
    assert (kept["rows"], kept["rounds"], kept["tokens in a second"]) == (2, 2, {"torch": 1.0})


def test_rounds_of_the_same_setting_add_up(tmp_path, model):
    path = tmp_path / "engines.json"
    about = {**engines_table.described(model), "rows": 4, "tokens": 8, "rounds": 2}
    for one, eight in ((120.0, 90.0), (110.0, 100.0)):
        rate = {"one segment": one, "eight segments": eight}
        part = {**about, "tokens in a second": rate, engines_table.SLOWEST: rate}
        found = engines_table.store(path, "tiny", "boundaries", part)
    assert found["rounds"] == 4 and found["tokens in a second"] == {"one segment": 120.0, "eight segments": 100.0}
    assert found[engines_table.SLOWEST] == {"one segment": 110.0, "eight segments": 90.0}
    assert found["a boundary's cost"] == 0.2
    assert json.loads(path.read_text())["models"]["tiny"]["boundaries"] == found


def test_what_follows_from_the_rates():
    """100 tokens a second plain, 80 where each is written twice: the second time costs 2/80 - 1/100 s."""
    found = engines_table.DERIVED["erasing"]({"plain": 100.0, "all rows twice": 80.0})
    assert found == {"a token generated again, over a token": 1.5}
    rate = {"torch, group": 8.0, "torch, fixed": 10.0, "vLLM, group": 3.0, "vLLM, fixed": 4.0}
    assert engines_table.DERIVED["waiting"](rate) == {"rate where groups wait, over none": {"torch": 0.8, "vLLM": 0.75}}
    assert engines_table.DERIVED["TRL"]({"ours": 3.0, "TRL": 2.0}) == {"ours over TRL": {"ours": 1.5}}
    assert engines_table.DERIVED["seeds"]({"seeds": 4.0, "no seeds": 5.0}) == {"a seed's cost": 0.25}
