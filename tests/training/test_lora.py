"""Adapters in place of weights: what they compute, what they leave alone, and what becomes of them."""

from types import SimpleNamespace

import pytest
import torch
from small_models import FAMILIES, small_model
from torch import nn
from transformers import AutoModelForCausalLM

from replication.config import ErasureConfig, PolicyConfig, RolloutConfig
from replication.credit.allocation import answer_attention
from replication.errors import run_command
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.engine import roll_out
from replication.training.batch import sequences
from replication.training.export import sample_logp
from replication.training.lora import adapted, add_adapters, merge_adapters
from replication.training.module import E3RLModule

LORA = ("--policy.lora_rank=3", "--policy.lora_alpha=6.0")
IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])


def adapted_model(family="qwen3", seed=3):
    """A small model whose adapters do something."""
    made = small_model(family)
    add_adapters(made, PolicyConfig(lora_rank=3, lora_alpha=6.0), seed)
    torch.manual_seed(1)
    for _, layer in adapted(made):
        nn.init.normal_(layer.lora_B["default"].weight, std=0.2)
    return made


def test_an_adapter_is_the_low_rank_update_and_gradient_by_hand():
    """y = W x + (alpha / r) B A x with r = 2 and alpha = 3; the loss is c y, so that dB = s c (A x)' and
    dA = s B' c x'."""
    model = nn.Sequential(nn.Linear(3, 2))
    before = model[0].weight.detach().clone()
    add_adapters(model, PolicyConfig(lora_rank=2, lora_alpha=3.0), 0)
    a, b = model[0].lora_A["default"].weight, model[0].lora_B["default"].weight
    assert not b.any()
    with torch.no_grad():
        a.copy_(torch.tensor([[1.0, 2.0, 0.0], [0.0, -1.0, 3.0]]))
        b.copy_(torch.tensor([[1.0, 0.0], [2.0, -1.0]]))
    x, c = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[1.0, -2.0]])
    y = model(x)  # A x = (1, 6), B A x = (1, -4)
    want = nn.functional.linear(x, before, model[0].base_layer.bias) + 1.5 * torch.tensor([[1.0, -4.0]])
    torch.testing.assert_close(y, want, rtol=1e-6, atol=1e-6)
    (y * c).sum().backward()
    torch.testing.assert_close(b.grad, 1.5 * torch.tensor([[1.0, 6.0], [-2.0, -12.0]]))
    torch.testing.assert_close(a.grad, 1.5 * torch.tensor([[-3.0, 0.0, -6.0], [2.0, 0.0, 4.0]]))  # B' c = (-3, 2)
    assert model[0].base_layer.weight.grad is None and model[0].base_layer.bias.grad is None


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_stays_what_it_is_and_merges_into_the_plain_one(family):
    plain, model = small_model(family), adapted_model(family)
    assert type(model) is type(plain) and type(model.base_model) is type(plain.base_model)
    names = {name for name, _ in adapted(model)}
    head = model.get_output_embeddings()
    linear = {n for n, m in plain.named_modules() if isinstance(m, nn.Linear) or type(m).__name__ == "Conv1D"}
    assert names == linear - {next(n for n, m in model.named_modules() if m is head)} and len(names) >= 8
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {f"{name}.lora_{x}.default.weight" for name in names for x in "AB"}
    with torch.no_grad():
        before = model(IDS).logits
        assert float((before - plain(IDS).logits).abs().max()) > 0.1
        merge_adapters(model)
        after = model(IDS).logits
    torch.testing.assert_close(after, before, rtol=1e-5, atol=5e-5)
    assert model.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_rollout_is_of_merged_weights_which_are_put_back_to_the_bit(family):
    model = adapted_model(family)
    before = {name: (weight.data_ptr(), weight.clone()) for name, weight in model.named_parameters()}
    calls = []
    for _, layer in adapted(model):
        layer.lora_A["default"].register_forward_hook(lambda *_: calls.append(1))
    engine = TorchEngine(model)
    with torch.no_grad():
        want = model(IDS).logits
        assert calls
        calls.clear()
        engine.sync()
        engine.sync()  # of the next step, without a rest between
        merged = model(IDS).logits
    linear = all(isinstance(layer.base_layer, nn.Linear) for _, layer in adapted(model))
    assert not calls or not linear  # Conv1D, which is none, keeps its adapters
    torch.testing.assert_close(merged, want, rtol=1e-5, atol=5e-5)
    engine.rest()
    for name, weight in model.named_parameters():
        assert weight.data_ptr() == before[name][0] and torch.equal(weight, before[name][1]), name
    loss = model(IDS).logits.square().mean()
    loss.backward()
    assert all(layer.lora_B["default"].weight.grad.any() for _, layer in adapted(model))


def test_adapters_start_as_a_function_of_seed_and_layer():
    def start(seed, noise):
        model = small_model()
        torch.manual_seed(noise)
        add_adapters(model, PolicyConfig(lora_rank=3), seed)
        assert not any(layer.lora_B["default"].weight.any() for _, layer in adapted(model))
        return {name: layer.lora_A["default"].weight.detach() for name, layer in adapted(model)}

    first, again, other = start(3, 0), start(3, 17), start(4, 0)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    same_shape = [a for name, a in first.items() if name.endswith(("q_proj", "gate_proj", "up_proj"))]
    assert len({tuple(a.flatten()[:9].tolist()) for a in same_shape}) == len(same_shape) == 6
    for a in first.values():
        bound = a.shape[1] ** -0.5
        assert 0.8 * bound < float(a.abs().max()) <= bound and abs(float(a.mean())) < 0.3 * bound


def test_rollouts_and_attention_do_not_see_that_there_are_adapters():
    """Token for token as with the merged model."""
    model = adapted_model()
    settings = RolloutConfig(group_size=3, segments=3, segment_tokens=4)
    prompts = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]

    def look():
        done = roll_out(
            TorchEngine(model), prompts, torch.arange(9), settings, ErasureConfig(kappa=-1.0, cap=2), [1], 0
        )
        seqs = sequences(done, 0)
        with torch.no_grad():
            return done, sample_logp(model, seqs, 1.0), answer_attention(model, seqs.ids, seqs.at[:, 0], seqs.size)

    plain = roll_out(
        TorchEngine(small_model()), prompts, torch.arange(9), settings, ErasureConfig(kappa=-1.0, cap=2), [1], 0
    )
    before = look()
    merge_adapters(model)
    after = look()
    assert torch.equal(before[0].tokens, after[0].tokens) and torch.equal(before[0].erasures, after[0].erasures)
    assert not torch.equal(before[0].tokens, plain.tokens) and before[0].attempts
    for mine, merged in zip(before[1:], after[1:], strict=True):
        torch.testing.assert_close(mine, merged, rtol=1e-5, atol=2e-5)


@pytest.fixture
def watched(monkeypatch):
    """What the module was when its training began, and when the export was about to be written."""
    from replication.training import export

    seen = SimpleNamespace()
    begin, finish = E3RLModule.configure_optimizers, export.export_run

    def configure(module):
        seen.start = {key: value.clone() for key, value in module.policy.state_dict().items()}
        seen.optimizer = begin(module)
        return seen.optimizer

    def export_run(record, module, data, out, remedy):
        seen.end = {key: value.clone() for key, value in module.policy.state_dict().items()}
        seen.gradients = {name for name, weight in module.policy.named_parameters() if weight.grad is not None}
        return finish(record, module, data, out)

    monkeypatch.setattr(E3RLModule, "configure_optimizers", configure)
    monkeypatch.setattr(export, "export_run", export_run)
    return seen


def test_a_training_moves_the_adapters_alone_and_exports_their_sum(quick_fit, watched):
    out, difference = quick_fit(*LORA, "--algorithm=grpo")
    moved = {key for key in watched.start if not torch.equal(watched.start[key], watched.end[key])}
    assert moved == {key for key in watched.start if "lora_" in key} == watched.gradients and len(moved) == 28
    held = [weight for group in watched.optimizer.param_groups for weight in group["params"]]
    assert len(held) == len(watched.optimizer.state) == 28  # no state of what is frozen
    assert sum(weight.numel() for weight in held) == 2 * 3 * sum([64, 48, 48, 64, 80, 80, 80])  # r (in + out)

    assert difference < 1e-5
    exported, base = (AutoModelForCausalLM.from_pretrained(path) for path in (out, "policy"))
    assert exported.state_dict().keys() == base.state_dict().keys()
    for name, weight in exported.named_parameters():
        stem = name.removesuffix(".weight")
        want = base.get_parameter(name)
        if f"{stem}.base_layer.weight" in watched.end:
            a, b = (watched.end[f"{stem}.lora_{x}.default.weight"] for x in "AB")
            assert not torch.equal(weight, want)
            want = want + 6.0 / 3 * b @ a
        torch.testing.assert_close(weight, want, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_gradients_flow_through_checkpointed_blocks(quick_fit):
    """Activations that are made again give the same weights."""
    outs = [quick_fit(*LORA, f"--trainer.gradient_checkpointing={on}", f"--out={on}")[0] for on in ("false", "true")]
    one, other = (AutoModelForCausalLM.from_pretrained(out) for out in outs)
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_an_interrupted_training_goes_on_to_the_same_weights(quick_fit, monkeypatch, capsys):
    straight, _ = quick_fit(*LORA, "--out=straight")
    report = E3RLModule.report

    def interrupted(module, step):
        if step == 2:
            raise ConnectionAbortedError
        report(module, step)

    with monkeypatch.context() as patch, pytest.raises(ConnectionAbortedError):
        patch.setattr(E3RLModule, "report", interrupted)
        quick_fit(*LORA, "--out=resumed")
    resumed, _ = quick_fit(*LORA, "--out=resumed")
    assert "resuming from" in capsys.readouterr().out
    for name in ("model.safetensors", "history.jsonl", "README.md"):
        assert (straight / name).read_bytes() == (resumed / name).read_bytes(), name


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--policy.lora_rank=-1", "policy.lora_rank = -1 is not a whole number >= 0"),
        ("--policy.lora_rank=1.5", "lora_rank"),
        ("--policy.lora_alpha=0", "policy.lora_alpha = 0.0 is not a positive number"),
        ("--policy.lora_alpha=.inf", "policy.lora_alpha = inf is not a positive number"),
    ],
)
def test_bad_settings_end_with_one_line(quick_fit, monkeypatch, capsys, flag, words):
    with pytest.raises(SystemExit) as end:
        run_command(lambda: quick_fit(flag))
    error = capsys.readouterr().err.strip().splitlines()
    assert end.value.code == 2 and len(error) == 1 and words in error[0]
