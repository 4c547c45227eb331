"""A disk that is too small is told before the first step, and one that fills up before the checkpoint is begun."""

import json
import subprocess
from pathlib import Path

import pytest
from commands import SMALL, command, started, wait_until

from replication.errors import UserError
from replication.outputs import GO_ON
from replication.training import checkpoint, disk
from replication.training.resume import complete

MIB = 2**20


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a disk of some MiB in a folder; only root may."""
    mounted = []

    def mount(folder, mib):
        folder.mkdir(parents=True)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", folder], check=False).returncode:
            pytest.skip("no disk can be mounted here")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.slow
def test_a_disk_that_is_too_small_is_told_before_the_first_step(workshop, small_disk):
    argv = [*SMALL, "--seed=8", f"--out={workshop}/narrow"]
    small_disk(workshop / ".scratch/train/narrow", 1)
    done = command("fit", *argv, cwd=workshop, check=False)
    *_, said = done.stderr.splitlines()  # after a bar
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert said.startswith("error: .scratch/train/narrow/checkpoints has 1.0 MiB free, and the run needs ")
    assert not complete(workshop / ".scratch/train/narrow/checkpoints") and not (workshop / "narrow").exists()


@pytest.mark.slow
def test_a_disk_that_fills_up_leaves_the_last_checkpoint_and_the_run_goes_on(workshop, small_disk):
    argv = [*SMALL, "--seed=8", "--train.steps=12"]
    command("fit", *argv, "--out=wide", cwd=workshop)
    scratch = workshop / ".scratch/train/filled"
    small_disk(scratch, 64)
    process = started("fit", *argv, "--out=filled", cwd=workshop, stderr=subprocess.PIPE)
    wait_until(process, lambda: complete(scratch / "checkpoints"))
    while True:  # a file that takes what is left
        try:
            with (scratch / "other").open("ab", buffering=0) as file:
                file.write(bytes(2**16))
        except OSError:
            break
    _, said = process.communicate(timeout=240)
    lines = [line for line in said.splitlines() if "error" in line]
    assert process.returncode == 2 and "Traceback" not in said and len(lines) == 1, said
    assert lines[0].startswith("error: .scratch/train/filled/checkpoints/rollout="), lines
    assert GO_ON in lines[0], lines  # before a checkpoint that would not fit, or in the middle of one
    (scratch / "other").unlink()
    assert "resuming from" in command("fit", *argv, "--out=filled", cwd=workshop).stdout
    for file in ("history.jsonl", "model.safetensors"):
        assert (workshop / "filled" / file).read_bytes() == (workshop / "wide" / file).read_bytes()


def test_an_export_has_to_fit_where_it_goes(quick_fit, tmp_path, monkeypatch):
    """On another disk than the checkpoints."""
    elsewhere = Path("/dev/shm") / tmp_path.name
    if elsewhere.parent.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("one disk")
    monkeypatch.setattr(disk, "free", lambda folder: 0 if folder == elsewhere.parent else 2**40)
    with pytest.raises(UserError, match=r"^/dev/shm has 0\.0 MiB free, and the run needs \S+ MiB there: 1 checkpoints"):
        quick_fit(f"--out={elsewhere}", "--train.steps=1")


def test_what_is_needed_is_counted_less_what_is_there(quick_fit, monkeypatch):
    """The checkpoints of a run that goes on take no room again."""
    quick_fit("--out=straight")
    room = [100 * MIB]
    monkeypatch.setattr(disk, "free", lambda folder: room[0])
    monkeypatch.setattr(checkpoint, "free", lambda folder: room[0])
    whole = checkpoint.RolloutCheckpoint.save

    def save(self, trainer, module, path):
        room[0] = 0 if path.name == "rollout=3.ckpt" else room[0]
        whole(self, trainer, module, path)

    monkeypatch.setattr(checkpoint.RolloutCheckpoint, "save", save)
    with pytest.raises(
        UserError, match=r"rollout=3.ckpt needs 0\.[0-9] MiB, and 0.0 MiB are free; the checkpoint before"
    ):
        quick_fit("--out=filled")
    checkpoints = Path(".scratch/train/filled/checkpoints")
    assert sorted(complete(checkpoints)) == [1, 2] and not list(checkpoints.glob("*3*"))
    monkeypatch.setattr(checkpoint.RolloutCheckpoint, "save", whole)
    kept = disk.size_of(checkpoints)
    room[0] = 3 * kept // 2  # 2 and the export are needed beside the 2 that are kept, 4 and the export anew
    out, _ = quick_fit("--out=filled")
    straight = json.loads((out.parent / "straight/history.jsonl").read_text().splitlines()[-1])
    assert json.loads((out / "history.jsonl").read_text().splitlines()[-1]) == straight


def test_the_room_of_a_folder_that_is_not_there_is_that_of_the_one_above(tmp_path):
    assert disk.free(tmp_path / "a/b") == pytest.approx(disk.free(tmp_path), rel=0.01)
