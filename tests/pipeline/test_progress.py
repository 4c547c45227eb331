"""The line of progress and what it is made of."""

import io
from pathlib import Path

from replication.pipeline.progress import Progress, duration, forecast, last_words, share_done
from replication.pipeline.stages import Stage

LOG = """Running stage 'train':
Loading weights: 100%|██████████| 35/35 [00:00<00:00, 4770.28it/s]\r
Training: |          | 0/? [00:00<?, ?it/s]\r
Epoch 0:   0%|          | 0/30 [00:00<?, ?it/s]\rEpoch 0:  50%|█████     | 15/30 [01:02<01:02,  4.14s/it]
"""


def stage(name, needs=(), seconds=None):
    return Stage(name, name, frozenset(needs), seconds, ())


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.log"
    path.write_text(text)
    return path


def test_a_stage_is_as_far_as_its_longest_bar(tmp_path):
    assert share_done(write(tmp_path, "none", "nothing yet\n")) == 0.0
    assert share_done(write(tmp_path, "start", LOG.partition("\rEpoch 0:  50%")[0])) == 0.0
    assert share_done(write(tmp_path, "half", LOG)) == 0.5
    after = LOG + "Writing model shards:   0%|          | 0/1 [00:00<?, ?it/s]\n"
    assert share_done(write(tmp_path, "after", after)) == 0.5
    hours = "Epoch 0:  25%|██▌       | 5/20 [1:40:00<5:00:00, 1200s/it]\n"
    assert share_done(write(tmp_path, "hours", hours + after)) == 0.25


def test_last_words_are_without_bars(tmp_path):
    log = write(tmp_path, "log", LOG + "\nerror: it went wrong\nERROR: failed to reproduce\n")
    assert last_words(log) == ["Running stage 'train':", "error: it went wrong", "ERROR: failed to reproduce"]
    assert last_words(log, 1) == ["ERROR: failed to reproduce"]


def test_durations():
    assert [duration(s) for s in (5, 89, 90, 720, 5399, 12_000)] == [
        "5 s",
        "89 s",
        "2 min",
        "12 min",
        "1 h 30 min",
        "3 h 20 min",
    ]


def test_a_forecast_is_the_work_shared_out_or_the_longest_chain():
    free = [stage(name, seconds=60) for name in "abcd"]
    assert forecast(free, 1) == 240 and forecast(free, 2) == 120
    chain = [stage("a", seconds=60), stage("b", ["a"], 60), stage("c", ["b"], 60)]
    assert forecast(chain, 8) == 180
    assert forecast([*free, stage("unknown")], 2) is None and forecast([], 2) is None


def test_one_line_for_all_stages(tmp_path, monkeypatch):
    stages = [
        stage("prepare", seconds=10),
        stage("train@0", ["prepare"], 80),
        stage("train@1", ["prepare"], 80),
        stage("report", ["train@0"], 30),
    ]
    write(tmp_path, "train@0", LOG)
    write(tmp_path, "train@1", "")
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    out = io.StringIO()
    progress = Progress(stages, tmp_path, out)
    now += 25
    # 10 of 200 are done, and half of 80: a quarter, after 25 s
    assert progress.line(["prepare"], ["train@0", "train@1"]) == (
        "1 of 4 stages, 25%, about 75 s left | train@0 50%, train@1 0%"
    )
    progress.show({"prepare"}, ["train@0"])
    assert out.getvalue() == ""  # not yet
    now += 10
    progress.show({"prepare"}, ["train@0"])
    progress.show({"prepare"}, ["train@0"])
    assert out.getvalue().count("\n") == 1 and "\r" not in out.getvalue()
    out.isatty = lambda: True
    live = Progress(stages, tmp_path, out)
    now += 2
    live.show({"prepare"}, ["train@0"])
    live.clear()
    assert out.getvalue().count("\n") == 1 and out.getvalue().endswith("\r\x1b[K")
