"""Two processes give the numbers of one: DDP, and the real DeepSpeed on CPU."""

import json
from pathlib import Path

import pytest
from commands import SMALL, run
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
SCRIPT = str(Path(__file__).parent / "fit_with_sgd.py")


@pytest.mark.slow
def test_ddp_and_deepspeed_equal_a_single_process(workshop):
    """Same problems, random numbers and gradients, under SGD, with a clip that binds (fp32); the gradients below are
    those of none."""
    argv = [*SMALL, "--algorithm=e3rl_mixed", "--train.steps=3", "--train.micro_rows=2", "--train.lr=0.03"]
    build = {"TORCH_EXTENSIONS_DIR": str(ROOT / ".scratch/torch_extensions")}  # compiled once, about two minutes
    out = {name: workshop / f"runs/{name}" for name in ("single", "ddp", "deepspeed_zero2", "deepspeed_zero3")}
    for name, folder in out.items():
        devices = 1 if name == "single" else 2
        flags = [
            f"--trainer.strategy={name}",
            f"--trainer.devices={devices}",
            "--train.grad_clip=0.01",
            f"--out={folder}",
        ]
        run(SCRIPT, *argv, *flags, cwd=workshop, **build)

    def history(name):
        return [json.loads(line) for line in (out[name] / "history.jsonl").read_text().splitlines()]

    weights = {name: load_file(folder / "model.safetensors") for name, folder in out.items()}
    start = load_file(workshop / "runs/warmstart/tiny/model.safetensors")
    moved = {key: (weights["single"][key] - start[key]).norm() for key in start}
    assert max(moved.values()) > 1e-4
    for name in ("ddp", "deepspeed_zero2", "deepspeed_zero3"):
        for mine, theirs in zip(history(name), history("single"), strict=True):
            assert mine.keys() == theirs.keys()
            for key in ("loss", "reward", "entropy", "erased_tokens", "completion_tokens"):
                assert mine[key] == pytest.approx(theirs[key], rel=1e-4, abs=1e-6), (name, key)
        for key, way in moved.items():
            apart = (weights[name][key] - weights["single"][key]).norm()
            assert apart <= 1e-3 * way + 1e-6, (name, key, float(apart), float(way))


@pytest.mark.slow
def test_every_strategy_gives_the_same_numbers_under_adam(workshop):
    """Losses and exported weights of the optimizer that is used, CPU offload included (fp32)."""
    argv = [*SMALL, "--algorithm=e3rl_mixed", "--train.steps=3", "--train.micro_rows=2"]
    two = ["--trainer.devices=2"]
    ways = {
        "single": [],
        "ddp": ["--trainer.strategy=ddp", *two],
        "zero2": ["--trainer.strategy=deepspeed_zero2", *two],
        "zero2 offload": ["--trainer.strategy=deepspeed_zero2", "--trainer.offload=optimizer", *two],
        "zero3": ["--trainer.strategy=deepspeed_zero3", *two],
        "zero3 offload": ["--trainer.strategy=deepspeed_zero3", "--trainer.offload=parameters", *two],
    }
    build = {"TORCH_EXTENSIONS_DIR": str(ROOT / ".scratch/torch_extensions")}
    losses, weights = {}, {}
    for name, flags in ways.items():
        out = workshop / "runs/adam" / name.replace(" ", "-")
        run("-m", "replication.fit", *argv, *flags, f"--out={out}", cwd=workshop, **build)
        losses[name] = [json.loads(line)["loss"] for line in (out / "history.jsonl").read_text().splitlines()]
        weights[name] = load_file(out / "model.safetensors")
    start = load_file(workshop / "runs/warmstart/tiny/model.safetensors")
    moved = max(float((weights["single"][key] - start[key]).abs().max()) for key in start)
    assert moved > 3e-4  # a step of Adam or more
    for name in ways:
        assert losses[name] == pytest.approx(losses["single"], rel=1e-4, abs=1e-6), name
        apart = max(float((weights[name][key] - weights["single"][key]).abs().max()) for key in start)
        assert apart <= 0.01 * moved, (name, apart, moved)


@pytest.mark.slow
def test_lora_gives_the_same_numbers_under_zero3(workshop):
    """Rollouts on merged weights, training on shared ones, and the export of both."""
    argv = [*SMALL, "--algorithm=e3rl_mixed", "--train.steps=3", "--train.micro_rows=2", "--policy.lora_rank=4"]
    argv += ["--train.lr=0.003"]
    build = {"TORCH_EXTENSIONS_DIR": str(ROOT / ".scratch/torch_extensions")}
    two = ["--trainer.strategy=deepspeed_zero3", "--trainer.devices=2"]
    rows, weights = [], []
    for name, flags in (("single", []), ("zero3", two)):
        out = workshop / f"runs/lora/{name}"
        run("-m", "replication.fit", *argv, *flags, f"--out={out}", cwd=workshop, **build)
        rows.append([json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()])
        weights.append(load_file(out / "model.safetensors"))
    start = load_file(workshop / "runs/warmstart/tiny/model.safetensors")
    moved = max(float((weights[0][key] - start[key]).abs().max()) for key in start)
    assert moved > 1e-4 and weights[0].keys() == weights[1].keys() == start.keys()
    for mine, theirs in zip(*rows, strict=True):
        for key in ("loss", "reward", "entropy", "erased_tokens", "mismatch"):
            assert mine[key] == pytest.approx(theirs[key], rel=1e-4, abs=1e-6), key
    assert max(float((weights[0][key] - weights[1][key]).abs().max()) for key in start) <= 0.01 * moved


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["e3rl_contrastive", "dapo"])
def test_gradients_do_not_depend_on_accumulation_or_processes(workshop, algorithm):
    """One step of SGD at learning rate 1 moves the weights by the gradient: equal within 1e-6 (fp32) for one and
    several micro-batches and for one and two processes, with erased attempts of which they hold unequal numbers, and
    with the mean over all tokens."""
    argv = [*SMALL, f"--algorithm={algorithm}", "--train.steps=1", "--train.minibatches=1", "--train.lr=1.0"]
    argv += ["--train.grad_clip=0", "--credit.overlong_buffer=0", "--credit.eps=1.0", "--erasure.kappa=-0.5"]
    build = {"TORCH_EXTENSIONS_DIR": str(ROOT / ".scratch/torch_extensions")}
    runs = [("single", 1, 64), ("single", 1, 4), ("ddp", 2, 4)]
    runs += [("deepspeed_zero2", 2, 4), ("deepspeed_zero3", 2, 4)]
    start = load_file(workshop / "runs/warmstart/tiny/model.safetensors")
    gradients = {}
    for strategy, devices, rows in runs:
        out = workshop / f"runs/{algorithm}-{strategy}-{rows}"
        flags = [f"--trainer.strategy={strategy}", f"--trainer.devices={devices}", f"--train.micro_rows={rows}"]
        run(SCRIPT, *argv, *flags, f"--out={out}", cwd=workshop, **build)
        after = load_file(out / "model.safetensors")
        gradients[strategy, rows] = {key: start[key] - after[key] for key in start}
    whole = gradients.pop(("single", 64))
    assert max(float(g.abs().max()) for g in whole.values()) > 1e-3
    for name, other in gradients.items():
        apart = max(float((other[key] - whole[key]).abs().max()) for key in whole)
        assert apart <= 1e-6, (name, apart)
