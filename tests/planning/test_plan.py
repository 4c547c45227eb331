"""The plan of a run: against a real step, against arithmetic by hand, and as a command."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import command
from plans import SMALL, paper

from experiments.training import measure
from experiments.training.plan import compare, settings
from replication.config import PolicyConfig, TrainerConfig
from replication.errors import UserError
from replication.planning import memory
from replication.planning.page import adapters_of, findings, page
from replication.planning.plan import Plan
from replication.planning.remedies import change, remedies
from replication.planning.sizes import sizes_of
from replication.policy import recompute_activations, small_model, small_tokenizer
from replication.training.machine import check_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def policy():
    return small_model(PolicyConfig(), small_tokenizer(), seed=0)


@pytest.mark.slow
def test_a_real_step_takes_what_the_plan_says(policy):
    """Every part, and the peaks of rollout and training, of a step through Lightning on the CPU."""
    rows = compare(settings("tiny", SMALL), policy, small_tokenizer())
    assert {"weights", "gradients", "optimizer", "KV cache", "activations"} < {row["part"] for row in rows}
    for row in rows:
        assert row["predicted"] == pytest.approx(row["measured"], rel=0.15), row["part"]
    exact = ("weights", "gradients", "optimizer", "KV cache")
    assert all(row["predicted"] == row["measured"] for row in rows if row["part"] in exact)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("strategy", "precision"), [("single", "32"), ("deepspeed_zero2", "bf16"), ("single", "bf16")])
def test_activations_are_what_lives_between_forward_and_backward(strategy, precision, checkpointing):
    """Float32, bfloat16 weights as under DeepSpeed, and autocast as under bf16-mixed."""
    config = settings("tiny")
    machine = TrainerConfig(strategy=strategy, precision=precision, gradient_checkpointing=checkpointing)
    p = Plan(replace(config, trainer=machine), sizes_of(config.policy), 12)
    model = small_model(config.policy, small_tokenizer(), seed=0).to(
        torch.bfloat16 if p.element == 2 else torch.float32
    )
    if checkpointing:
        recompute_activations(model)
    autocast = replace(p.config, trainer=replace(machine, precision="bf16" if p.mixed else "32"))
    assert memory.saved_activations(p) == pytest.approx(
        measure.activations(autocast, model, p.micro, p.prompt), rel=0.03
    )


def test_keys_and_values_under_autocast(policy):
    """Keys pass through a float32 norm or rotation, values do not: 4 and 2 bytes."""
    from replication.rollout.builtin.cache import RowCache

    config = settings("tiny", "--trainer.precision bf16")
    p = Plan(config, sizes_of(config.policy), 12)
    cache = RowCache(policy.config, 2, 5)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        positions = torch.arange(3).expand(2, -1)
        policy(
            input_ids=torch.ones(2, 3, dtype=torch.long),
            position_ids=positions,
            attention_mask=cache.aim(positions),
            past_key_values=cache,
            use_cache=True,
        )
    assert measure.nbytes(cache.tensors()) == 2 * 5 * memory.kv_token(p)


def test_sizes_by_hand():
    four, eight = paper("4b").sizes, paper("8b").sizes
    assert (four.parameters, eight.parameters) == (4_022_468_096, 8_190_735_360)
    assert (2 * four.read, 2 * eight.read) == (8_044_936_192, 15_136_811_008)  # the embedding of 8B is only looked up
    block = (
        (4096 + 4096) + 2 * (4096 + 1024) + (4096 + 4096) + 3 * (4096 + 12288)
    )  # in + out of q, k, v, o and the three
    assert paper("8b", "--policy.lora_rank 16").sizes.adapters == 36 * 16 * block


def by_hand() -> dict[str, tuple[int, int]]:
    """The table of docs/memory.md: part -> bytes of 4B and of 8B."""
    rows = [line.strip("| ").split(" | ") for line in (ROOT / "docs/memory.md").read_text().splitlines()]
    return {
        row[0]: (int(row[2].replace(",", "")), int(row[3].replace(",", "")))
        for row in rows
        if row[-1][-1:].isdigit() and len(row) == 4
    }


def test_the_page_of_memory_by_hand_is_the_plan():
    hand = by_hand()
    assert len(hand) == 17
    for i, model in enumerate(("4b", "8b")):
        p = paper(model)
        phases = memory.memory(p)
        found = {
            "weights": phases["rollout"]["weights"],
            "optimizer": phases["rollout"]["optimizer"],
            "gradients": phases["backward"]["gradients"],
            "KV cache, a token": memory.kv_token(p),
            "KV cache": phases["rollout"]["KV cache"],
            "logits, rollout": phases["rollout"]["logits"],
            "logits, scoring": phases["scoring"]["logits"],
            "activations, scoring": phases["scoring"]["activations"],
            "a block's activations, a token": memory.layer_activations(p),
            "activations, backward": phases["backward"]["activations"],
            "buffers, backward": phases["backward"]["buffers"],
            "buffers, update": phases["update"]["buffers"],
            "record": phases["rollout"]["record"],
            **{f"sum, {name}": sum(parts.values()) for name, parts in phases.items()},
        }
        assert phases["update"]["gradients"] == found["gradients"]
        assert found == {part: numbers[i] for part, numbers in hand.items()}
        assert memory.peak(p) == max(found[f"sum, {name}"] for name in phases)


def test_the_machine_holds_the_weights_while_they_are_loaded_and_what_is_offloaded():
    """Of 8B on 8 GPUs, worked by hand: bytes over all processes."""
    whole = 8_190_735_360
    assert memory.host_memory(paper("8b")) == 8 * 2 * whole
    assert memory.host_memory(paper("8b", "--objective.kl 0.1")) == 2 * 8 * 2 * whole  # and the reference policy
    assert memory.host_memory(paper("8b", "--trainer.offload optimizer")) == 18 * whole  # their sum stays on the GPUs
    flags = "--trainer.strategy deepspeed_zero3 --trainer.offload parameters"
    assert memory.host_memory(paper("8b", flags)) == 22 * whole
    assert memory.host_memory(paper("tiny")) == 0  # it is the processes' own


def test_what_each_strategy_shares():
    """Of 8B on 4 GPUs: bytes a weight of weights, gradients and optimizer in the update, worked by hand."""

    def shares(flags: str) -> list[float]:
        p = paper("8b", f"--trainer.devices 4 {flags}")
        held = memory.memory(p)["update"]
        return [round(held[part] / p.sizes.parameters, 6) for part in ("weights", "gradients", "optimizer")]

    assert shares("--trainer.strategy ddp") == [4, 8, 8]  # DDP's buckets are a second copy of the gradients
    assert shares("--trainer.strategy deepspeed_zero2") == [2, 1, 3]
    assert shares("--trainer.strategy deepspeed_zero3") == [0.5, 1, 3]
    assert shares("--trainer.strategy deepspeed_zero2 --trainer.offload optimizer") == [2, 1, 0]
    assert shares("--trainer.strategy deepspeed_zero3 --trainer.offload parameters") == [0, 0, 0]
    zero3 = memory.memory(paper("8b", "--trainer.devices 4 --trainer.strategy deepspeed_zero3"))
    assert zero3["rollout"]["gathered weights"] == 2 * 8_190_735_360  # a rollout gathers all of them
    assert zero3["backward"]["gathered weights"] == 2 * 1_000_000_000
    adapted = memory.memory(paper("8b", "--trainer.devices 4 --policy.lora_rank 16"))["update"]
    assert adapted["optimizer"] == 12 * 43_646_976 // 4
    assert adapted["weights"] == 2 * (8_190_735_360 + 43_646_976)


@pytest.mark.parametrize(
    ("model", "flags"),
    [
        ("8b", "--trainer.devices 1"),
        ("8b", "--trainer.devices 2 --trainer.gpu_gib 40 --trainer.strategy ddp"),
        ("4b", "--train.micro_rows 64 --trainer.gradient_checkpointing false"),
        ("4b", "--rollout.max_rows 256"),
    ],
)
def test_the_remedies_fit_when_applied(model, flags):
    p, machine = paper(model, flags), 64 * 2**30
    assert not memory.fits(p, machine)
    found = remedies(p, machine, lambda rank: adapters_of(p.config.policy, rank))
    assert found and len({len(values) for values in found}) == 1  # all of the fewest settings
    for values in found:
        applied = " ".join(f"--{key} {str(value).lower()}" for key, value in values.items())
        assert memory.fits(paper(model, f"{flags} {applied}"), machine)
        for key in values.keys() - {"policy.lora_rank"}:
            fewer = change(p, {k: v for k, v in values.items() if k != key}, 0)
            assert fewer is None or not memory.fits(fewer, machine), f"{key} is needed"


@pytest.mark.parametrize("flags", ["--trainer.strategy single --trainer.gpu_gib 64", "--trainer.gpu_gib 24"])
def test_remedies_are_settings_that_a_run_takes(flags):
    p = paper("8b", f"--trainer.devices 1 --policy.lora_rank 32 {flags}")
    for values in remedies(p, 64 * 2**30, lambda rank: adapters_of(p.config.policy, rank)):
        other = change(p, values, p.sizes.adapters)
        assert other is not None
        check_settings(other.config)


def test_models_that_have_no_plan_are_refused_by_name(tmp_path):
    from transformers import GPT2Config, T5Config

    for config, words in ((GPT2Config(n_embd=8, n_layer=1, n_head=2), "gpt2"), (T5Config(), "no causal LM")):
        config.save_pretrained(tmp_path / config.model_type)
        with pytest.raises(UserError, match=words):
            sizes_of(PolicyConfig(pretrained=str(tmp_path / config.model_type)))


def test_nothing_fits_on_a_gpu_that_is_far_too_small():
    p = paper("8b", "--trainer.gpu_gib 8")
    assert remedies(p, 0, lambda rank: adapters_of(p.config.policy, rank)) == []
    assert "nothing that was tried fits" in page(findings(p, "8b"), p)


def test_an_architecture_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="holds no config"):
        sizes_of(PolicyConfig(pretrained=str(tmp_path)))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read"):
        sizes_of(PolicyConfig(pretrained=str(tmp_path)))


@pytest.mark.slow
def test_the_command(tmp_path):
    """In an empty folder: no data, no weights, no hub."""
    flags = ("--model=8b", "--plan", "--json", "--devices=1")
    done = command("fit", *flags, cwd=tmp_path, check=False, HF_HUB_OFFLINE="1")
    assert done.returncode == 1  # it does not fit
    found = json.loads(done.stdout)
    assert found["parameters"] == 8_190_735_360 and found["processes"] == 1 and not found["fits"]
    assert found["tokens"] == {"kept": 128 * 16 * 8192, "sampled": int(128 * 16 * 8192 * 1.26)}
    assert found["remedies"] and found["seconds"]["run"] == pytest.approx(500 * found["seconds"]["step"])
    assert not list(tmp_path.iterdir())
    text = command("fit", "--model=4b", "--plan", cwd=tmp_path).stdout
    assert "fits: 50.5 GiB of 73.6 GiB" in text and "KV cache" in text and "assumed:" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ("--plan --devices 0", "devices = 0"),
        ("--plan --devices 6", "cannot be dealt evenly"),
        ("--plan --trainer.strategy single", "runs 1 process"),
        ("--json", "--json is for --plan"),
        ("--devices 2", "trainer.devices"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(flags, why, tmp_path):
    done = command("fit", "--model=8b", *shlex.split(flags), cwd=tmp_path, check=False)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and why in done.stderr
