"""The export: nothing leaves that is not what was trained, and its card says what was measured."""

import copy
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file

from replication.config import Config, PolicyConfig, RolloutConfig
from replication.data.sources import Problem
from replication.errors import UserError, run_command
from replication.loading import load_policy
from replication.policy import save_policy, small_model, small_tokenizer
from replication.training import export
from replication.training.card import last_reward, model_card
from replication.training.lora import adapted, add_adapters

SIZE = PolicyConfig(hidden_size=32, layers=2, heads=4, kv_heads=2, ffn_size=48, lora_rank=2)
RECORD = {"model": "tiny", "algorithm": "e3rl", "seed": 3, "base": "someone/base", "revision": "abc123"}


@pytest.mark.slow
@pytest.mark.parametrize(("lora", "limit"), [((), 0.0), (("--policy.lora_rank=3",), 1e-5)])
def test_the_export_is_the_trained_policy(quick_fit, lora, limit):
    out, difference = quick_fit(*lora)
    assert difference <= limit
    _, again = quick_fit(*lora, "--out=again")
    assert again == difference
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in Path("again").iterdir()
    }


def tamper(monkeypatch, damage):
    """Let other weights than the policy's be saved."""

    def tampered(model, tokenizer, folder):
        other = copy.deepcopy(model)
        with torch.no_grad():
            other.base_model.layers[1].mlp.down_proj.weight.add_(damage)
        save_policy(other, tokenizer, folder)

    monkeypatch.setattr(export, "save_policy", tampered)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [(), ("--policy.lora_rank=3",)])
def test_a_run_whose_export_is_not_the_policy_ends_with_a_line_and_goes_on(quick_fit, monkeypatch, capsys, lora):
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
        tamper(patch, 0.05)
        run_command(lambda: quick_fit(*lora, "--out=exports/mine"))
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert end.value.code == 2 and last.startswith("error: the export differs from the trained policy by ")
    assert "nats a token, more than 0.0001: exports/mine was not written" in last
    assert not list(Path("exports").iterdir())

    out, difference = quick_fit(*lora, "--out=exports/mine")  # as the message says
    assert "resuming from" in capsys.readouterr().out
    assert difference < 1e-5 and (out / "model.safetensors").exists()


def test_a_disk_that_is_full_at_the_end_costs_no_training(quick_fit, small_files, monkeypatch, capsys):
    """It is said how to go on, there or elsewhere; what is said works."""

    def full(*given):
        with small_files(1000):
            save_policy(*given)

    with monkeypatch.context() as patch, pytest.raises(UserError) as error:
        patch.setattr(export, "save_policy", full)
        quick_fit("--out=exports/mine", "--train.checkpoint_every=100")
    what = r"exports/mine cannot be written: File too large: its checkpoints stay: make room there and run the same"
    what = rf"{what} command, or `(mv \S+) \.scratch/train/NAME` and run it with --out NAME"
    told = re.fullmatch(what, str(error.value))
    assert told and not list(Path("exports").iterdir())
    subprocess.run([*told[1].split(), ".scratch/train/there"], check=True)
    out, _ = quick_fit("--out=there", "--train.checkpoint_every=100")
    assert "resuming from .scratch/train/there/checkpoints/rollout=4.ckpt" in capsys.readouterr().out
    assert (out / "model.safetensors").exists()


def made():
    """What `export_run` takes for a module: a random policy with adapters that do something."""
    tokenizer = small_tokenizer()
    model = small_model(SIZE, tokenizer, 0)
    add_adapters(model, SIZE, 0)
    torch.manual_seed(0)
    for _, layer in adapted(model):
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.02)
    problems = [Problem(f"p{i}", f"{i}{i + 1}:+", "1") for i in range(6)]
    config = Config(policy=SIZE, rollout=RolloutConfig(segments=2, segment_tokens=9, temperature=0.8))
    sampler = SimpleNamespace(problems=problems)
    history = [{"step": 1.0, "reward": 0.5}]
    return SimpleNamespace(config=config, policy=model, tokenizer=tokenizer, sampler=sampler, history=history)


def in_bfloat16(model):
    """Cast the weights as DeepSpeed does, which leaves buffers such as the rotary frequencies alone."""
    for weight in model.parameters():
        weight.data = weight.data.bfloat16()


RUN = {**RECORD, "settings": {section: vars(getattr(Config(policy=SIZE), section)) for section in vars(Config())}}


@pytest.mark.parametrize("damage", [0.05, float("nan")])
def test_what_is_not_the_policy_is_not_left_behind(tmp_path, monkeypatch, damage):
    tamper(monkeypatch, damage)
    with pytest.raises(UserError, match=r"the export differs .* more than 0.0001: .*out was not written"):
        export.export_run(RUN, made(), tmp_path, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_earlier_export_stays_where_a_new_one_fails(tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert 0 < export.export_run(RUN, made(), tmp_path, out) < 1e-5
    before = (out / "model.safetensors").read_bytes()
    monkeypatch.setattr(export, "tolerance", lambda dtype: 0.0)  # merging rounds: no export has a difference of 0
    with pytest.raises(UserError, match=r"more than 0: .*out was not written"):
        export.export_run(RUN, made(), tmp_path, out)
    assert (out / "model.safetensors").read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_bfloat16_policies_are_merged_in_float32(tmp_path):
    """A bfloat16 sum would lose part of the update."""
    module = made()
    in_bfloat16(module.policy)
    layer = dict(adapted(module.policy))["model.layers.0.mlp.up_proj"]
    a, b, w = (
        x.detach().float()
        for x in (layer.lora_A["default"].weight, layer.lora_B["default"].weight, layer.base_layer.weight)
    )
    assert 0 < export.export_run(RUN, module, tmp_path, tmp_path / "out") < 1e-5
    found = load_file(tmp_path / "out/model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    torch.testing.assert_close(found, w + 32 / 2 * b @ a, rtol=1e-6, atol=1e-7)


def test_the_compared_completions_are_the_policys_own_and_always_the_same():
    module = made()
    args = module.policy, module.tokenizer, module.sampler.problems[: export.PROBLEMS], module.config
    one, again, other = (export.own_completions(*args, seed) for seed in (3, 3, 4))
    assert torch.equal(one.ids, again.ids) and not torch.equal(one.ids, other.ids)
    assert len(one.ids) == export.PROBLEMS and one.tokens.shape[1] <= 18 and one.token_mask.sum() > 30
    logp = export.sample_logp(module.policy, one, 0.8)
    rows = logp.split((one.size - 1).tolist())  # what was asked is scored, too
    for row, mask, old in zip(rows, one.token_mask, one.old_logp, strict=True):
        assert len(row) > int(mask.sum())
        torch.testing.assert_close(row[-int(mask.sum()) :], old[mask], rtol=1e-5, atol=1e-5)
    assert float((export.sample_logp(module.policy, one, 1.0) - logp).abs().mean()) > 0.01


HISTORY = [{"step": float(i + 1), "reward": r} for i, r in enumerate([0.9, 0.1, 0.2, 0.3, 0.5, 0.7])]
SOURCE = {"sources": {"train": {"path": "zwhe99/DeepMath-103K", "revision": "5cf0"}}, "counts": {"drawn": 51000}}


def test_the_last_reward_is_the_mean_of_the_last_five_steps():
    assert last_reward(HISTORY) == (pytest.approx(0.36), 5)
    assert last_reward(HISTORY[:2]) == (pytest.approx(0.5), 2)


def test_a_card_says_what_was_run_and_measured():
    card = model_card(RUN, HISTORY, SOURCE)
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "base_model": "someone/base",
        "datasets": ["zwhe99/DeepMath-103K"],
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["e3rl", "reinforcement-learning"],
    }
    assert "Mean over the last 5 of 6 steps: **0.360**; in the first step: 0.900." in text
    for part in ("`someone/base` at revision `abc123`", "51000 to train on", "rank 2", "2606.17735", "seed 3"):
        assert part in text, part
    table = dict(line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| "))
    for key, value in table.items():
        if key not in ("setting", "---"):
            section, name = key.split(".")
            assert value == str(RUN["settings"][section][name])
    assert "held-out" not in text and not re.search(r"20\d\d-\d\d|/tmp|/home", text)
    assert "accuracy on held-out problems after step 2: 0.250" in model_card(
        RUN, [HISTORY[0], {**HISTORY[1], "heldout": 0.25}, *HISTORY[2:]], SOURCE
    )


def test_a_card_without_a_hub_names_folder_and_task(quick_fit):
    out, _ = quick_fit("--algorithm=grpo", "--train.steps=2")
    card = (out / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert (
        "base_model" not in front
        and "datasets" not in front
        and front["tags"]
        == [
            "e3rl",
            "grpo",
            "reinforcement-learning",
        ]
    )
    assert "Started from: `policy`" in card and "the task recurrence, 8 to train on" in card and "lora" not in card
    rewards = [json.loads(line)["reward"] for line in (out / "history.jsonl").read_text().splitlines()]
    assert f"Mean over the last 2 of 2 steps: **{sum(rewards) / 2:.3f}**" in card
    assert load_policy(str(out))[0].num_parameters() > 0


def test_bfloat16_weights_are_exported_as_they_are(tmp_path):
    module = made()
    module.config.policy = replace(SIZE, lora_rank=0)
    module.policy = small_model(SIZE, module.tokenizer, 0)
    in_bfloat16(module.policy)
    assert (export.tolerance(torch.float32), export.tolerance(module.policy.dtype)) == (1e-4, 0.05)
    assert export.export_run(RUN, module, tmp_path, tmp_path / "out") == 0
    found = load_file(tmp_path / "out/model.safetensors")
    assert all(torch.equal(weight, module.policy.state_dict()[name]) for name, weight in found.items())
    assert {weight.dtype for weight in found.values()} == {torch.bfloat16}
