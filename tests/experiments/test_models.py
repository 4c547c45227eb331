"""A sample of `make families`: a family of each kind, through every command."""

import pytest
import torch
from safetensors.torch import save_file

from experiments.models import MISMATCH, Row, check_moved, examine, page

WORKS = {  # and what each is here for
    "granite": True,  # scales its logits after the head
    "gemma2": False,  # caps scores and logits; no sdpa
    "opt": True,  # its decoder is a part of its base model; dropout is a number
    "phimoe": True,  # experts whose weights are no linear layers, and a router that is one and more
    "gemma3": True,  # sees as well: the language model is a part
    "modernbert-decoder": True,  # calls its head a decoder
}
REFUSED = {
    "mamba": "mamba carries a recurrent state, which cannot be rolled back",
    "bert-generation": "bert-generation: the sampler's log-probabilities differ from those of a plain forward pass by",
    "gpt_neox_japanese": "gpt_neox_japanese cannot be rolled out (RuntimeError: view size is not compatible",
}


@pytest.mark.slow
@pytest.mark.parametrize("family", WORKS)
def test_a_family_works(family):
    row = examine(family)
    assert (row.broken, row.refused) == ("", "")
    assert row.mismatch < MISMATCH and row.attention == WORKS[family]


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_is_refused_by_name(family):
    row = examine(family)
    assert row.broken == "" and row.refused.startswith(REFUSED[family]) and "\n" not in row.refused


def test_a_step_that_moves_nothing_is_no_step(tmp_path):
    for name, value in (("before", 1.0), ("same", 1.0), ("moved", 2.0), ("other", 1.0)):
        (tmp_path / name).mkdir()
        weight = "other" if name == "other" else "weight"
        save_file({weight: torch.tensor([value])}, tmp_path / name / "model.safetensors")
    check_moved(tmp_path / "before", tmp_path / "moved")
    with pytest.raises(RuntimeError, match="holds the weights of before the training"):
        check_moved(tmp_path / "before", tmp_path / "same")
    with pytest.raises(RuntimeError, match=r"holds other weights, \['other', 'weight'\] among them"):
        check_moved(tmp_path / "before", tmp_path / "other")


def test_a_family_that_is_neither_is_told(monkeypatch):
    monkeypatch.setattr("experiments.models.command", lambda *_: None)
    assert "No such file" in examine("llama").broken


def test_the_page_counts_what_it_shows():
    rows = [
        Row("llama", "LlamaForCausalLM", mismatch=2e-7, attention=True),
        Row("mamba", "MambaForCausalLM", refused="mamba carries | a state"),
        Row("dbrx", "", refused="not tried: needs a | package"),
    ]
    text = page(rows, {"transformers": "5", "torch": "2"})
    assert "Of 3 families 1 work, 1 are refused by one line, and 1 could not be built here." in text
    assert "| llama | LlamaForCausalLM | 2e-07 | yes |" in text
    assert "| mamba | MambaForCausalLM | mamba carries   a state |" in text and "| dbrx | needs a   package |" in text
