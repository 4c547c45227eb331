"""The algorithms of params.yaml against TRL's own code (goldens/make_goldens.py, docs/objectives.md)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from goldens.compare import ALGORITHMS, BOUNDS, FOLDER, Ours, goldens, name

from replication.config import CreditConfig, ObjectiveConfig
from replication.credit.advantage import group_advantage
from replication.credit.reward import overlong_penalty
from replication.objectives.correction import correction_of

TRL = goldens("trl")
INPUTS = TRL["inputs"]
PLAIN = [case for case in TRL["cases"] if case["variant"] == "plain"]
WEIGHTED = [case for case in TRL["cases"] if case["variant"] in BOUNDS]
CORRECTED = [case for case in TRL["cases"] if case["variant"] == "corrected_kl"]


def test_every_algorithm_mask_advantage_and_kl_is_a_golden():
    assert len(PLAIN) == 5 * 2 * 2 * 2 and len(CORRECTED) == 5 * 2 * 2
    assert len(WEIGHTED) == 5 * 2 * 2 * 2
    assert len({name(case) for case in TRL["cases"]}) == len(TRL["cases"])


@pytest.mark.parametrize("case", PLAIN + WEIGHTED, ids=name)
def test_loss_and_gradient_are_those_of_trl(case):
    assert max(Ours(INPUTS, case).differences(case)) < 1e-6


@pytest.mark.parametrize("library", ["trl", "verl"])
@pytest.mark.parametrize("correction", BOUNDS)
def test_the_weights_of_a_correction_are_theirs_at_our_bounds(library, correction):
    assert {kind: tuple(bounds) for kind, bounds in INPUTS["corrections"].items()} == BOUNDS
    old, sampled = (torch.tensor(INPUTS[key], dtype=torch.float64) for key in ("old_logp", "sampled_logp"))
    mask = torch.tensor(INPUTS["masks"]["ragged"], dtype=torch.bool)
    theirs = torch.tensor(goldens(library)["weights"][correction], dtype=torch.float64)
    ours = correction_of(correction, ObjectiveConfig(), old, sampled)
    torch.testing.assert_close(ours.weight[mask], theirs[mask], rtol=0, atol=1e-6)
    assert ours.outside[mask].sum() == {"truncate": 5, "mask": 6}[correction]


def test_trl_keeps_a_token_whose_log_probability_is_unknown_at_weight_1_and_we_drop_it():
    (case,) = (case for case in TRL["cases"] if case["variant"] == "unknown")
    at = tuple(INPUTS["unknown"])
    ours = Ours(INPUTS, case | {"variant": "truncate"})
    ours.correction[at] = 1.0
    assert max(ours.differences(case)) < 1e-6
    ours.weight[at] = 0.0
    assert ours.differences(case)[0] == pytest.approx(0.064, abs=5e-4)  # as docs/objectives.md has it


@pytest.mark.parametrize("case", CORRECTED, ids=name)
def test_trls_default_kl_is_ours_times_the_ratio(case):
    ours = Ours(INPUTS, case)
    assert max(ours.differences(case)) > 1e-3
    out = ours.token_loss()
    corrected = out.loss + case["kl"] * (out.ratio - 1) * out.kl
    assert max(ours.differences(case, corrected)) < 1e-6


@pytest.mark.parametrize(("algorithm", "scale"), [("grpo", "group"), ("dr_grpo", "none")])
def test_advantages_are_those_of_trl(algorithm, scale):
    credit = CreditConfig(**ALGORITHMS[algorithm]["credit"])
    ours = group_advantage(torch.tensor(INPUTS["rewards"]), credit.eps, credit.scale)
    torch.testing.assert_close(ours, torch.tensor(TRL["advantages"][scale]), rtol=0, atol=1e-6)


def test_the_overlong_penalty_is_trls():
    golden = TRL["overlong"]
    buffer = golden["buffer"] / golden["longest"]
    ours = overlong_penalty(torch.tensor(golden["length"]), golden["longest"], buffer, 1.0)
    torch.testing.assert_close(ours, torch.tensor(golden["penalty"], dtype=ours.dtype), rtol=0, atol=1e-6)


def assert_equal(new, old, where: str) -> None:
    if isinstance(old, dict):
        assert new.keys() == old.keys(), where
        for key in old:
            assert_equal(new[key], old[key], f"{where}.{key}")
    elif isinstance(old, list):
        assert len(new) == len(old), where
        for i, (a, b) in enumerate(zip(new, old, strict=True)):
            assert_equal(a, b, f"{where}[{i}]")
    else:
        assert new == (pytest.approx(old, abs=1e-8) if isinstance(old, float) else old), where


@pytest.mark.slow
def test_the_goldens_are_what_trl_and_verl_give(tmp_path):
    python = os.environ.get("REPLICATION_TRL_PYTHON")
    if not python:
        pytest.skip("REPLICATION_TRL_PYTHON does not name an interpreter with TRL and verl (docs/objectives.md)")
    subprocess.run([python, FOLDER / "make_goldens.py", tmp_path], check=True, capture_output=True, text=True)
    for library in ("trl", "verl"):
        new, old = json.loads(Path(tmp_path, f"{library}_losses.json").read_text()), goldens(library)
        found, checked_in = new.pop("versions")[library], old.pop("versions")[library]
        assert found == checked_in, f"the interpreter has {library} {found}, the goldens are of {checked_in}"
        assert_equal(new, old, library)
