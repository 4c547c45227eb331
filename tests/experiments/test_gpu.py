"""The one command for a GPU machine, whole, at tiny shapes on the CPU; and what it does where a group fails."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from commands import ROOT

from experiments.gpu import __main__ as gpu
from experiments.gpu import machine, processes, sums, table
from experiments.gpu.groups import GROUPS, Group, Setting
from experiments.gpu.real import ALGORITHMS
from experiments.gpu.rows import FAILED, MEASURED, SKIPPED, Rows, check_same, read_report, read_rows
from replication.data.prepared import read_benchmarks, read_train
from replication.data.template import prompt_ids
from replication.errors import UserError
from replication.policy import small_tokenizer

ABSENT = {"vllm", "trl", "flex"}  # what a CPU and the tests' environment may lack


def command(*argv, module="experiments.gpu", cwd=ROOT):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", module, *argv], cwd=cwd, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Folder of a whole run, from a folder that is not the repository's, and what it printed."""
    here = tmp_path_factory.mktemp("gpu")
    done = command("--tiny", "--out", "found", "--seconds", "3600", cwd=here)  # however busy the machine is
    assert done.returncode == 0, done.stdout + done.stderr
    return here / "found", done.stdout


def values(tiny, group):
    """Name -> value of a group's rows."""
    return {row["name"]: row["value"] for row in read_rows(tiny[0]) if row["group"] == group}


def test_every_group_has_rows_and_none_failed(tiny):
    report = read_report(tiny[0] / "gpu.json")
    states = {name: {row["state"] for row in report["rows"] if row["group"] == name} for name in GROUPS}
    assert {name for name, found in states.items() if found == {SKIPPED}} <= ABSENT
    assert all(found in ({MEASURED}, {SKIPPED}) for found in states.values())
    assert sum(found == {MEASURED} for found in states.values()) >= len(GROUPS) - len(ABSENT)
    assert report["machine"]["versions"].keys() >= {"torch", "transformers"} and report["machine"]["code"]
    assert sorted(map(str, report["rows"])) == sorted(map(str, read_rows(tiny[0])))
    numbers = [row["value"] for row in report["rows"] if row["state"] == MEASURED]
    assert len(numbers) > 50 and None not in numbers and "nan" not in numbers


def test_rows_are_shown_as_they_come_and_in_a_table(tiny):
    folder, printed = tiny
    for row in read_rows(folder):
        assert f"{row['group']}: {table.line(row)}" in printed
    assert sorted(path.name for path in folder.iterdir()) == ["gpu.json", "gpu.jsonl", "gpu.log", "sums"]


def test_what_must_be_equal_is(tiny):
    same = values(tiny, "equality")
    assert all(value == 1 for name, value in same.items() if name.endswith("same ids"))
    assert same["float32, the device against the CPU: log-probabilities"] == 0
    assert 0 < same["bfloat16, sampler against trainer"] < 0.1
    resumed = values(tiny, "checkpoint")
    assert resumed["deviation of the rewards in a group"] > 0.1, "else there is nothing that could differ"
    assert resumed["resumed: same ids"] == 1 and resumed["resumed: largest difference of a metric"] == 0


def test_steps_and_rollouts_are_whole(tiny):
    for group in ("step", "offload", "step8b"):
        found = values(tiny, group)
        last = max(name for name in found if re.fullmatch(r"step \d", name))
        assert last == ("step 1" if group == "offload" else "step 2")
        assert 0 < found[f"{last}: sampler against trainer"] < 1e-4, "float32"
        (row,) = (row for row in read_rows(tiny[0]) if row["group"] == group and row["name"] == last)
        parts = dict(re.findall(r"([a-z' ]+) ([\d.]+),", row["note"].replace(", ", ",") + ","))
        assert sum(map(float, parts.values())) == pytest.approx(row["value"], abs=0.05)
        assert {"rollout", "forward", "backward", "answer's attention"} <= parts.keys()
    lanes = values(tiny, "rollout")
    assert lanes["plain: busy lanes"] == 1 and 0 < lanes["erasing: busy lanes"] < 1


def test_the_real_run_is_trained_and_evaluated(tiny):
    found = values(tiny, "real")
    cells = [f"{name}, {mode}: accuracy" for name in ("untrained", *ALGORITHMS) for mode in ("plain", "erased")]
    assert all(0 <= found[cell] <= 1 for cell in cells)
    assert all(found[f"{name}: steps"] >= 1 and found[f"{name}: sampler against trainer"] < 1e-4 for name in ALGORITHMS)
    erased = [row for row in read_rows(tiny[0]) if row["group"] == "real" and "erased: acc" in row["name"]]
    assert all(" 0 of them erased" not in row["note"] for row in erased) and len(erased) == 3
    train, (heldout,) = read_train(tiny[0] / "sums"), read_benchmarks(tiny[0] / "sums").values()
    assert not {p.question for p in train} & {p.question for p in heldout}


def test_the_page_is_made_of_the_json(tiny, tmp_path):
    """Where a run on a GPU is committed, its page is what the command makes of it."""
    done = command(str(tiny[0] / "gpu.json"), "--out", str(tmp_path / "gpu.md"), module="experiments.gpu.table")
    assert done.returncode == 0, done.stderr
    text, report = (tmp_path / "gpu.md").read_text(), read_report(tmp_path / "gpu.json")
    assert text == table.page(report) and report == read_report(tiny[0] / "gpu.json")
    for row in report["rows"]:
        assert (f"| {row['name']} | {table.number(row['value'])} |" in text) == (row["state"] == MEASURED)
    assert ("## Not run" in text) == any(row["state"] == SKIPPED for row in report["rows"])
    assert (ROOT / "reports/gpu.md").exists() == (ROOT / "reports/gpu.json").exists()
    if (ROOT / "reports/gpu.json").exists():
        assert (ROOT / "reports/gpu.md").read_text() == table.page(read_report(ROOT / "reports/gpu.json"))


def test_a_sum_is_right_and_small_enough_for_the_tiny_model():
    drawn = sums.problems(200, 3)
    assert len({problem.question for problem in drawn}) == 200 and drawn == sums.problems(200, 3)
    for problem in drawn:
        has, gets, loses = map(int, re.findall(r"\d+", problem.question))
        assert int(problem.final_answer) == has + gets - loses > 0
        assert sums.solution(problem).endswith(f"-{loses}={has + gets - loses}. \\boxed{{{problem.final_answer}}}")
        assert len(prompt_ids(small_tokenizer(), problem.question)) < 256 - 8


@pytest.fixture
def planted(monkeypatch, tmp_path):
    """Groups of planted_groups.py, and a setting."""
    monkeypatch.setattr(processes, "SHARED", ["experiments.gpu.processes"])
    monkeypatch.setattr(machine, "found", lambda tiny: (processes.server(), {"device": "none", "code": "a"}))
    names = ("works", "raises", "dies", "leaves", "hangs", "lacks")
    groups = {name: Group(f"planted_groups:{name}", 60, 0) for name in names}
    groups["hangs"] = replace(groups["hangs"], most=4)
    groups["after"] = groups["works"]
    monkeypatch.setattr(gpu, "GROUPS", groups)
    return Setting(tmp_path, tmp_path, 100)


def test_what_one_group_comes_to_does_not_touch_the_others(planted, tmp_path):
    report = gpu.run(planted, list(gpu.GROUPS))
    rows = {(row["group"], row["state"]): row for row in report["rows"]}
    assert set(rows) == {
        ("works", MEASURED),
        ("raises", MEASURED),
        *((name, FAILED) for name in ("raises", "dies", "leaves", "hangs")),
        ("lacks", SKIPPED),
        ("after", MEASURED),
    }
    notes = {name: row["note"] for (name, state), row in rows.items() if state != MEASURED}
    assert notes["raises"] == "RuntimeError: out of luck and out of words" and notes["lacks"] == "there is none"
    assert notes["dies"] == "it was ended by SIGKILL, for want of memory perhaps; its last words: I was here"
    assert notes["leaves"] == "it ended with exit code 7"
    assert notes["hangs"] == "it did not end in 4 s, and was killed"
    asked, deadline = ["pgrep", "-g", (tmp_path / "pid").read_text()], time.monotonic() + 60
    while (found := subprocess.run(asked, capture_output=True, text=True).stdout) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found == "", "what it started is gone, too"
    assert "Traceback" in (tmp_path / "gpu.log").read_text()


def test_a_group_that_comes_too_late_is_named_and_added_later(planted, capsys):
    gpu.GROUPS["after"] = replace(gpu.GROUPS["after"], least=1000)
    report = gpu.run(planted, ["works", "after"])
    (row,) = (row for row in report["rows"] if row["group"] == "after")
    assert row["state"] == SKIPPED and re.fullmatch(r"begun too late: \d+ s were left, and it takes 1000", row["note"])
    assert f"after: skipped: {row['note']}" in capsys.readouterr().out
    gpu.GROUPS["after"] = replace(gpu.GROUPS["after"], least=0)
    report = gpu.run(planted, ["after"])
    assert [(row["group"], row["state"]) for row in report["rows"]] == [("works", MEASURED), ("after", MEASURED)]
    report = gpu.run(replace(planted, seconds=-1.0), ["works"])
    assert [row["state"] for row in report["rows"]] == [MEASURED, MEASURED], "what was measured before stays"


def test_a_run_that_is_stopped_leaves_a_report_of_what_was_measured(planted, tmp_path, monkeypatch):
    def stopped(context, name, *rest, run_group=processes.run_group):
        if name == "after":
            raise KeyboardInterrupt
        run_group(context, name, *rest)

    monkeypatch.setattr(processes, "run_group", stopped)
    with pytest.raises(KeyboardInterrupt):
        gpu.run(planted, ["works", "after"])
    assert [row["group"] for row in read_report(tmp_path / "gpu.json")["rows"]] == ["works"]


def test_a_share_is_of_the_measured_bandwidth(tmp_path, monkeypatch):
    """And where none was measured before, it is measured; none is assumed."""
    from experiments.gpu import device

    monkeypatch.setattr(device, "copied", lambda: 2.0)
    rows = Rows(tmp_path, "machine")
    assert device.bandwidth(rows) == 2.0
    rows.add(machine.BANDWIDTH, 3.0)
    assert device.bandwidth(Rows(tmp_path, "decode")) == 3.0
    model = device.made("4B", Setting(tmp_path, tmp_path, 1, tiny=True))
    weights, token = sum(p.numel() for p in model.parameters()) * 2, 2 * 2 * 2 * 32 * 2  # of layers, heads, width
    assert device.least_milliseconds(model, 5, 7, 3.0) == pytest.approx((weights + 5 * 7 * token) / 3e12 * 1e3)


def test_memory_of_a_part_is_not_that_of_the_part_before(monkeypatch):
    """An optimizer step holds its backward passes, whose peaks are not the update's."""
    from experiments.gpu import training

    peak = {"now": 0.0}
    monkeypatch.setattr(training, "on_cuda", lambda: True)
    monkeypatch.setattr(training, "peak_gib", lambda: peak["now"])
    monkeypatch.setattr(training.torch.cuda, "reset_peak_memory_stats", lambda: peak.update(now=0.0))
    parts = training.Parts()
    takes = lambda gib: peak.update(now=max(peak["now"], gib))  # noqa: E731
    backward = parts.wrap("backward", lambda: takes(9.0))
    parts.wrap("optimizer", lambda: (backward(), takes(4.0)))()
    assert parts.peaks == {"backward": 9.0, "optimizer": 4.0}


def test_a_failed_group_is_exit_code_1_and_bad_flags_are_one_line(planted, tmp_path, monkeypatch, capsys):
    def ended(*argv):
        monkeypatch.setattr(sys, "argv", ["experiments.gpu", "--out", str(tmp_path / "out"), "--tiny", *argv])
        with pytest.raises(SystemExit) as end:
            gpu.main()
        return end.value.code

    assert ended("--only", "works,lacks") == 0 and ended("--only", "leaves") == 1
    gpu.GROUPS["after"] = replace(gpu.GROUPS["after"], least=1000)
    ended("--only", "after,works")
    assert "too late for after: the same command with --only after adds them" in capsys.readouterr().out
    for argv, line in (
        (["--only", "works,flux"], "--only works,flux: there is no group 'flux'; there are works, raises, dies,"),
        (["--seconds", "0"], "--seconds 0: give a positive number"),
        (["--smollm2", str(tmp_path)], "holds no model: python experiments/smollm2.py"),
        (["--trl", str(tmp_path / "none")], "does not exist: name the Python of an environment with TRL"),
    ):
        monkeypatch.setattr(sys, "argv", ["experiments.gpu", "--out", str(tmp_path / "out"), "--tiny", *argv])
        with pytest.raises(UserError, match=re.escape(line)):
            gpu.main()


def test_an_unknown_group_ends_the_command_at_once(tmp_path):
    done = command("--only", "decode,flux", "--out", str(tmp_path / "out"))
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: --only decode,flux: there is no group 'flux'; there are machine, sdpa, ")


def test_without_a_gpu_there_are_only_tiny_shapes(monkeypatch):
    answers = iter([None, {"CUDA": None}, {"CUDA": None}])
    monkeypatch.setattr(processes, "SHARED", [])
    monkeypatch.setattr(processes, "answer", lambda context, question: next(answers))
    context, _ = machine.found(tiny=True)
    assert context.get_start_method() == "spawn", "forked processes could not use the GPU"
    with pytest.raises(UserError, match="no CUDA GPU: --tiny runs the same code"):
        machine.found(tiny=False)


def test_an_old_transformers_is_refused_before_the_gpu_is_asked_for():
    machine.check_transformers("5.17.0")
    machine.check_transformers("6.0.0.dev0")
    for found in ("5.16.1", None):
        with pytest.raises(UserError, match=rf"transformers is {found}, and this needs 5\.17 or later: bring it"):
            machine.check_transformers(found)


def test_rows_survive_what_they_are_written_by(tmp_path):
    rows = Rows(tmp_path, "one")
    rows.add("speed", 3.0, "TB/s", ">= 2.5", "so it is")
    rows.add("lost", float("nan"), "nats", "<= 0.1")
    with (tmp_path / "gpu.jsonl").open("a") as file:
        file.write('{"group": "one", "na')
    first, second = read_rows(tmp_path)
    assert first["met"] is True and second["met"] is False and second["value"] == "nan"
    assert Rows(tmp_path, "two").value("speed") == 3.0 and rows.value("none") is None


def test_rows_of_another_machine_are_not_mixed_with_these(tmp_path):
    (tmp_path / "gpu.json").write_text(json.dumps({"machine": {"device": "A"}, "date": "", "rows": []}))
    check_same(tmp_path, {"device": "A"})
    with pytest.raises(UserError, match=r"of another machine or other code \(device: A, here B\): name another folder"):
        check_same(tmp_path, {"device": "B"})
    (tmp_path / "gpu.json").write_text("[]")
    with pytest.raises(UserError, match="is no report of"):
        check_same(tmp_path, {"device": "A"})
