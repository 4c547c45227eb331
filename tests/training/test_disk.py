"""A disk that is too small is told before the first step, and one that fills up before the checkpoint is begun."""

import json

import pytest

from replication.errors import UserError
from replication.training import checkpoint, disk
from replication.training.resume import complete

MIB = 2**20


def test_a_run_that_does_not_fit_is_refused_before_its_first_step(quick_fit, tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "free", lambda folder: 3 * 2**10)
    with pytest.raises(UserError) as error:
        quick_fit("--out=out", "--train.steps=9", "--train.checkpoint_every=1", "--train.keep_checkpoints=3")
    assert str(error.value).startswith(".scratch/train/out has 0.0 MiB free, and the run needs ")
    assert ": 5 checkpoints of " in str(error.value) and "lower train.keep_checkpoints" in str(error.value)
    assert not (tmp_path / "out").exists() and not complete(tmp_path / ".scratch/train/out/checkpoints")


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
    checkpoints = disk.Path(".scratch/train/filled/checkpoints")
    assert sorted(complete(checkpoints)) == [1, 2] and not list(checkpoints.glob("*3*"))
    monkeypatch.setattr(checkpoint.RolloutCheckpoint, "save", whole)
    kept = disk.size_of(checkpoints)
    room[0] = 3 * kept // 2  # 2 and the export are needed beside the 2 that are kept, 4 and the export anew
    out, _ = quick_fit("--out=filled")
    straight = json.loads((out.parent / "straight/history.jsonl").read_text().splitlines()[-1])
    assert json.loads((out / "history.jsonl").read_text().splitlines()[-1]) == straight


def test_the_room_of_a_folder_that_is_not_there_is_that_of_the_one_above(tmp_path):
    assert disk.free(tmp_path / "a/b") == pytest.approx(disk.free(tmp_path), rel=0.01)
