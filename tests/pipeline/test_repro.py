"""`python -m replication.repro` on small pipelines of its own: what it runs, and what is left when it ends badly."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from commands import ROOT

from replication.errors import UserError
from replication.pipeline.stages import due, has_git, read_stages

PIPELINE = Path("stub/dvc.yaml")


def environment(place):
    dvc = {"DVC_SITE_CACHE_DIR": str(place / "site"), "DVC_NO_ANALYTICS": "1"}
    return {**os.environ, "PYTHONPATH": str(ROOT), **dvc}


def stage(cmd, deps=(), **more):
    return {"cmd": cmd, "deps": list(deps), **more}


@pytest.fixture
def place(tmp_path):
    """A folder that DVC knows, without git; sleepers in it have a length of their own, by which they are found."""
    init = [sys.executable, "-m", "dvc", "init", "--no-scm", "-q"]
    subprocess.run(init, cwd=tmp_path, env=environment(tmp_path), check=True)
    (tmp_path / ".dvc/config").unlink()  # as in a ZIP of the repository
    (tmp_path / "stub").mkdir()
    tmp_path.joinpath("marker").write_text(f"4{os.getpid()}")
    yield tmp_path
    for pid in sleepers(tmp_path):
        os.kill(pid, signal.SIGKILL)


def write(place, **stages):
    long = f"sleep {(place / 'marker').read_text()}"
    stages = {name: {**s, "cmd": s["cmd"].replace("LONG", long)} for name, s in stages.items()}
    (place / PIPELINE).write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))


def sleepers(place):
    """Processes that a test's stages left: their command lines name the folder's own number."""
    marker = (place / "marker").read_text().encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker in path.read_bytes().split(b"\0") and b"\0" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def begin(place, *flags):
    return subprocess.Popen(
        [sys.executable, "-m", "replication.repro", "--pipeline", str(PIPELINE), *flags],
        cwd=place,
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def repro(place, *flags):
    process = begin(place, *flags)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_stage_runs_once_those_before_it_are_done_and_nothing_runs_twice(place):
    write(
        place,
        last=stage("cat b >> order; cat a b > c", ["a", "b"], outs=["c"]),
        first=stage("until [ -e b ]; do sleep 0.1; done; echo a > a; echo first >> order", outs=["a"]),  # beside it
        second=stage("echo second >> order; echo b > b", outs=["b"]),
    )
    code, out, err = repro(place, "--dry")
    assert (code, err) == (0, "") and out.startswith("3 of 3 stages would run") and "c deleted" in out
    assert not (place / "stub/a").exists()  # on a tree that holds nothing yet, where `dvc repro --dry` gives up
    code, out, err = repro(place, "--jobs", "2")
    assert code == 0 and "3 of 3 stages to run, 2 at a time" in out, err
    assert (place / "stub/order").read_text().split() == ["second", "first", "b"]
    assert "3 stages, nothing to rerun" in repro(place)[1]
    shutil.rmtree(place / ".dvc/cache")
    code, out, _ = repro(place)
    assert code == 0 and "3 outputs are whole" in out and "nothing to rerun" in out  # DVC alone would run all anew
    assert (place / "stub/order").read_text().split() == ["second", "first", "b"]


def test_without_git_dvc_is_told_so_and_with_git_again_it_is_told_that(place):
    write(place, only=stage("echo a > a", outs=["a"]))
    assert not has_git(place) and repro(place)[0] == 0
    assert "no_scm = True" in (place / ".dvc/config.local").read_text()
    subprocess.run(["git", "init", "-q"], cwd=place, check=True)
    assert has_git(place) and repro(place)[0] == 0
    assert "no_scm = False" in (place / ".dvc/config.local").read_text()


def test_a_failing_stage_stops_its_siblings_and_says_what_failed(place):
    write(
        place,
        bad=stage("sleep 1; echo the reason >&2; exit 3"),
        long=stage("LONG"),
        never=stage("true > d", outs=["d"]),
    )
    code, _, err = repro(place, "--jobs", "2")
    assert code == 1 and "Traceback" not in err and sleepers(place) == []
    assert err.startswith(
        "error: bad failed, and 1 beside it stopped; the last it said, all of it in .scratch/repro/stub/bad.log"
    )
    assert "  the reason\n" in err and "failed to run: sleep 1; echo the reason >&2; exit 3, exited with 3" in err
    write(place, bad=stage("true"), never=stage("true > d", outs=["d"]))
    assert repro(place)[0] == 0 and (place / "stub/d").exists()


def test_a_killed_training_stops_its_siblings(place):
    write(place, one=stage("LONG"), two=stage("LONG && true"))
    process = begin(place, "--jobs", "2")
    wait_for(lambda: len([pid for pid in sleepers(place) if comm(pid) == "sleep"]) == 2)
    os.kill(next(pid for pid in sleepers(place) if comm(pid) == "sleep"), signal.SIGKILL)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1 and "failed, and 1 beside it stopped" in err and sleepers(place) == []


def comm(pid):
    return Path(f"/proc/{pid}/comm").read_text().strip()


def test_what_dvc_says_of_missing_settings_is_shown(place):
    (place / "stub/params.yaml").write_text("a: 1\n")
    write(place, one=stage("true", params=["algorithms.nope"]))
    code, _, err = repro(place)
    assert code == 1 and "Parameters 'algorithms.nope' are missing from 'stub/params.yaml'" in err


@pytest.mark.parametrize(
    ("number", "deaf"),
    [(signal.SIGINT, ""), (signal.SIGTERM, ""), (signal.SIGHUP, ""), (signal.SIGINT, "trap '' INT; ")],
)
def test_a_signal_ends_every_stage(place, number, deaf):
    write(place, one=stage("LONG"), two=stage(f"{deaf}LONG"))
    process = begin(place, "--jobs", "2")
    wait_for(lambda: len(sleepers(place)) >= 2)
    process.send_signal(number)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 128 + number and sleepers(place) == []
    assert err == "stopped: the same command goes on where it was\n"


def test_a_second_run_beside_the_first_is_told_so(place):
    write(place, one=stage("LONG"))
    first = begin(place)
    wait_for(lambda: sleepers(place))
    code, out, err = repro(place)
    assert (code, out) == (2, "") and err.startswith(f"error: another process ({first.pid}") and err.count("\n") == 1
    first.kill()  # so hard that it cannot end its stages
    first.wait()
    code, _, err = repro(place)
    left = [pid for pid in err.partition("(")[2].partition(")")[0].split(", ") if pid]
    assert code == 2 and str(first.pid) not in left and len(left) == 1  # the stage that it left is named
    os.killpg(int(left[0]), signal.SIGKILL)
    wait_for(lambda: not sleepers(place))
    write(place, one=stage("true"))
    assert repro(place)[0] == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--jobs", "0"], "--jobs 0 is not a positive whole number"),
        (["--pipeline", "nowhere/dvc.yaml"], "nowhere/dvc.yaml does not exist"),
    ],
)
def test_bad_flags_are_one_line(place, flags, words):
    write(place, one=stage("true"))
    code, _, err = repro(place, *flags)
    assert code == 2 and words in err and err.count("\n") == 1


def test_a_pipeline_that_dvc_cannot_read_is_one_line(place, monkeypatch):
    monkeypatch.chdir(place)
    (place / PIPELINE).write_text("stages: {one: {cmd: true, dep: [a]}}")
    with pytest.raises(UserError, match="DVC cannot read"):
        read_stages(PIPELINE)


def test_the_stages_of_the_repository_are_in_dvcs_order(monkeypatch):
    monkeypatch.chdir(ROOT)
    stages = {stage.name: stage for stage in read_stages(Path("dvc.yaml"))}
    report = stages["report"]
    assert {stage.kind for name, stage in stages.items() if name in report.needs} >= {"train", "evaluate"}
    train = next(stage for stage in stages.values() if stage.kind == "train")
    assert {name.partition("@")[0] for name in train.needs} == {"prepare", "warmstart"}
    assert all(stage.seconds for stage in stages.values())
    assert report in due([*stages.values()]) or not any(stage.changes for stage in stages.values())
