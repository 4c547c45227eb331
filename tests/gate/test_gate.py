"""The gate on a small pipeline of its own: green as it is, red on each thing that must turn it red."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from replication.gate.judge import OK, judge_default
from replication.gate.record import RIVALS, STUDIED, expected, read_runs

ROOT = Path(__file__).parents[2]
DVC = {"DVC_NO_ANALYTICS": "1"}

METRICS = {
    "tiny": {"grpo": {"held": {"plain": {"avg": {"mean": 0.6, "low": 0.5, "high": 0.7}}}},
             "e3rl": {"held": {"plain": {"over_baseline": {"mean": -0.2, "low": -0.3, "high": -0.1}}}}},
}  # fmt: skip
RUNS = {  # what four runs found
    "tiny/grpo/held/plain/avg": {"a": [0.6, 0.5, 0.7], "b": [0.56, 0.5, 0.6],
                                 "c": [0.61, 0.5, 0.72], "d": [0.58, 0.5, 0.66]},
    "tiny/e3rl/held/plain/over_baseline": {run: [-0.2, -0.3, -0.1] for run in "abcd"},
}  # fmt: skip
RUNS_OF_E3RL = {run: [-0.2, -0.3, -0.1] for run in "abc"}


LIFTED = {
    "lift": {"mean": 0.1, "low": 0.05, "high": 0.15},
    "over_temperature": {"mean": 0.1, "low": 0.1, "high": 0.1},
}


def table(metrics):
    """reports/machines.json: four machines, and another warm start, which is another policy."""
    kinds = {**dict.fromkeys("abc", "machine"), "d": "seeds", "w": "warm start"}
    other = {metric: {**row, "w": [0.9, 0.8, 0.95]} for metric, row in metrics.items()}
    copies = {"tiny/e3rl/average/plain/over_baseline": {"a": [0, 0, 0]}, "tiny/e3rl/held/plain/gain_over_baseline": {}}
    return json.dumps({"runs": {run: {"kind": kind} for run, kind in kinds.items()}, "metrics": {**other, **copies}})


def alike(metric, interval, runs="abcd"):
    return {metric: dict.fromkeys(runs, interval)}


ROW = {"model": "tiny", "benchmark": "held", "mode": "plain"}
CLAIMS = [{**ROW, "what": "e3rl trails", "algorithm": "e3rl", "metric": "over_baseline", "sign": -1}]
SUMMARY = {
    task: {
        arm: {f"minus_{rival}_equal_tokens": {"mean": 0.1, "low": -0.1 * wide, "high": 0.2} for rival in RIVALS}
        for arm, wide in zip(STUDIED, (1, -0.5, 0), strict=True)
    }
    for task in ("recurrence",)
}
CLAIM = {
    "claim": "gain, 4b",
    "algorithm": "e3rl",
    "benchmark": "aime24",
    "value": 0.05,
    "source": "A",
    "resolution": 0.05,
}
PAPER = [
    {**CLAIM, "what": "erasure off", "model": "q4b", "mode": "plain", "metric": "over_baseline"},
    {**CLAIM, "what": "erasure on", "model": "q4b", "mode": "erased", "metric": "over_baseline"},
]
PUBLISHED = [
    {**CLAIM, "what": "4b", "model": "q4b", "mode": "plain", "metric": "avg", "profile": "p", "thinking": True}
]
PUBLISHED[0] |= {"problems": 30, "samples": None, "note": ""}
REFERENCE = {"claims": CLAIMS, "default": [], "study": [], "paper": PAPER, "published": PUBLISHED}
PIPELINE = """stages:
  prepare:
    cmd: mkdir data && cp params.yaml data/rows
    deps: [made.py]
    outs: [data]
  report:
    cmd: python made.py
    deps: [code.py, made.py, data/rows]
    params: [level]
    metrics: [reports/metrics.json: {cache: false}]
"""


def check(place, *flags):
    done = subprocess.run(
        [sys.executable, "-m", "replication.check", *flags],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), **DVC},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def place(tmp_path):
    """A pipeline that was run, and its metrics recorded."""
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/study.json").write_text(json.dumps(SUMMARY))
    (tmp_path / "reports/machines.json").write_text(table(RUNS))
    (tmp_path / "code.py").write_text("x = 1\n")
    (tmp_path / "params.yaml").write_text("level: 1\n")
    (tmp_path / "source.json").write_text(json.dumps(METRICS))
    (tmp_path / "made.py").write_text("open('reports/metrics.json', 'w').write(open('source.json').read())\n")
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "reports/reference.json").write_text(json.dumps(REFERENCE))
    env = {**os.environ, **DVC, "DVC_SITE_CACHE_DIR": str(tmp_path / "site")}
    for argv in (["init", "--no-scm", "-q"], ["repro", "-q"]):
        subprocess.run([sys.executable, "-m", "dvc", *argv], cwd=tmp_path, env=env, check=True, capture_output=True)
    code, out, err = check(tmp_path, "--record")
    assert (code, err) == (0, "") and "recorded 11 rows" in out  # two metrics, nine comparisons
    return tmp_path


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def moved(metrics):
    metrics["tiny"]["grpo"]["held"]["plain"]["avg"] = {"mean": 0.8, "low": 0.7, "high": 0.9}


def test_the_gate_turns_red_on_each_and_is_green_otherwise(place):
    code, out, _ = check(place)
    assert code == 0 and "gate: 12 ok, 0 failed, 1 of the paper not run" in out
    assert "not run        gain, 4b: the paper's 0.05 [A], 2 readings" in out
    assert "ok             e3rl trails" in out and "tiny, grpo" not in out
    assert "ok             tiny, grpo, held, plain, avg: 0.600" in check(place, "--verbose")[1]
    reference, metrics = place / "reports/reference.json", place / "reports/metrics.json"
    first, second = json.loads(reference.read_text())["default"]
    assert (first["low"], first["high"], first["widest"]) == (0.483, 0.687, 0.22)  # 0.56 to 0.61, and 0.35 x 0.22
    assert (second["low"], second["high"], second["verdict"]) == (-0.27, -0.13, "not reproduced")
    words = [row["verdict"] for row in json.loads(reference.read_text())["study"]]
    assert words == ["undecided"] * 3 + ["yes"] * 3 + ["undecided"] * 3
    whole = {
        path: path.read_text()
        for path in (reference, metrics, place / "reports/study.json", place / "code.py", place / "params.yaml")
    }

    def red(word, *flags):
        code, out, _ = check(place, *flags)
        assert code == 1 and word in out, out
        for path, text in whole.items():
            path.write_text(text)

    edit(metrics, moved)
    red("FAILED         tiny, grpo, held, plain, avg: 0.800, recorded [0.483, 0.687]", "--any-age")
    edit(metrics, moved)
    red("STALE          reports/metrics.json modified since report ran: run `make repro`")
    edit(metrics, lambda m: m["tiny"].pop("grpo"))
    red("MISSING        tiny, grpo", "--any-age")
    edit(metrics, lambda m: m["tiny"]["e3rl"]["held"]["plain"]["over_baseline"].update(low=-0.5, high=0.1, mean=-0.2))
    red("FAILED         e3rl trails", "--any-age")
    edit(
        metrics, lambda m: m["tiny"]["e3rl"]["held"]["plain"]["over_baseline"].update(low=-0.35, high=0.025, mean=-0.2)
    )
    red("is underpowered, recorded not reproduced", "--any-age")
    edit(place / "reports/study.json", lambda m: m["recurrence"]["e3rl"]["minus_grpo_equal_tokens"].update(low=0.01))
    red("FAILED         study, recurrence: e3rl against grpo at equal tokens", "--any-age")
    edit(place / "reports/study.json", lambda m: m["recurrence"].pop("e3rl"))
    red("MISSING        study, recurrence: e3rl", "--any-age")
    edit(metrics, lambda m: m["tiny"]["grpo"]["held"]["plain"]["avg"].update(mean=0.65, high=0.64))
    red("is no interval around its mean", "--any-age")
    edit(reference, lambda r: r["default"][0].update(low=0.0))
    red("FAILED         reports/reference.json was edited", "--any-age")
    edit(metrics, lambda m: m["tiny"]["grpo"]["held"]["plain"]["avg"].update(low=-9.0, high=9.0))
    red("is far wider than the widest recorded", "--any-age")
    edit(metrics, lambda m: m["tiny"]["grpo"]["held"]["plain"]["avg"].update(low=None))
    red("MISSING        tiny, grpo", "--any-age")
    edit(reference, lambda r: r["default"][0].update(low=0.0))
    code, _, err = check(place, "--record")
    assert code == 2 and "was edited: restore it with git" in err
    reference.write_text(whole[reference])
    edit(reference, lambda r: r["paper"][0].update(resolution=9.0))
    red("was edited", "--any-age")
    edit(reference, lambda r: r["published"][0].update(value=0.5))
    red("FAILED         reports/reference.json was edited", "--any-age")
    edit(reference, lambda r: r["paper"][0].update(value=0.01))
    red("was edited", "--any-age")
    (place / "code.py").write_text("x = 2\n")
    red("STALE          code.py modified since report ran")
    (place / "params.yaml").write_text("level: 2\n")
    red("STALE          params.yaml: level modified since report ran")
    (place / "code.py").unlink()
    red("STALE          code.py deleted since report ran")
    metrics.unlink()
    assert check(place)[0] == 2
    metrics.write_text(whole[metrics])
    assert check(place)[0] == 0


def test_data_that_git_does_not_carry_is_not_stale_where_it_is_missing(place):
    shutil.rmtree(place / "data")
    shutil.rmtree(place / ".dvc/cache")
    code, out, _ = check(place)
    assert code == 0 and "STALE" not in out, out
    (place / "data").mkdir()
    (place / "data/rows").write_text("others\n")
    code, out, _ = check(place)
    assert code == 1 and "STALE          data/rows modified since report ran" in out, out


def test_another_run_inside_the_intervals_is_green(place):
    edit(place / "reports/metrics.json", lambda m: m["tiny"]["grpo"]["held"]["plain"]["avg"].update(mean=0.655))
    assert check(place, "--any-age")[0] == 0


@pytest.mark.parametrize(
    ("off", "on", "code", "words"),
    [
        ((0.05, 0.02, 0.08), None, 0, ["reproduced ", "not run "]),
        ((0.05, -0.05, 0.15), None, 0, ["underpowered ", "not run "]),
        ((0.01, -0.01, 0.02), None, 1, ["FAILED ", "not run "]),
        ((0.01, -0.01, 0.02), (0.05, 0.02, 0.08), 0, ["not reproduced ", "reproduced "]),
        ((0.01, -0.01, 0.02), (0.10, 0.08, 0.12), 1, ["FAILED ", "FAILED "]),
    ],
)
def test_the_papers_rows(place, off, on, code, words):
    def run(metrics):
        cells = {mode: value for mode, value in (("plain", off), ("erased", on)) if value}
        metrics["q4b"] = {
            "e3rl": {
                "aime24": {
                    m: {"over_baseline": dict(zip(("mean", "low", "high"), v, strict=True))} for m, v in cells.items()
                }
            }
        }

    edit(place / "reports/metrics.json", run)
    got, out, _ = check(place, "--any-age")
    lines = [line for line in out.splitlines() if "gain, 4b, erasure" in line]
    assert got == code and [line.startswith(word) for line, word in zip(lines, words, strict=True)] == [True, True]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("metrics.json", "{", "is not readable JSON"),
        ("reference.json", "{}", "lacks one of the groups"),
        ("reference.json", json.dumps({**REFERENCE, "default": [{}]}), "default row 1: no what"),
        ("study.json", "[", "is not readable JSON"),
    ],
)
def test_damaged_files_are_named(place, name, text, told):
    (place / "reports" / name).write_text(text)
    code, out, err = check(place)
    assert code == 2 and out == "" and name in err and told in err and err.count("\n") == 1


def test_elsewhere_it_says_where_to_run(tmp_path):
    said = "reports/reference.json does not exist: run from the repository's root, or name another by --reference"
    assert check(tmp_path) == (2, "", f"error: {said}\n")


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        (alike("tiny/grpo/held/plain/avg", [0.6, 0.5, 0.7], "abc"), "fewer than four runs of tiny/grpo"),
        (
            {"tiny/e3rl/held/plain/over_baseline": {"d": [0, -1, 1], **RUNS_OF_E3RL}},
            "'e3rl trails' does not hold in run d",
        ),
        (alike("tiny/grpo/held/plain/avg", [0.6, 0.5, 0.7]), "is of no recorded metric"),
        ([], "is no table of runs"),
    ],
)
def test_what_cannot_be_recorded(place, runs, told):
    (place / "reports/machines.json").write_text(table(runs) if runs else "[]")
    before = (place / "reports/reference.json").read_text()
    code, _, err = check(place, "--record")
    assert code == 2 and told in err and (place / "reports/reference.json").read_text() == before


def test_runs_of_other_code_are_not_recorded(place):
    edit(place / "reports/metrics.json", moved)
    code, _, err = check(place, "--record")
    assert code == 2 and "tiny, grpo, held, plain, avg: 0.800" in err and "is of other code or settings" in err


def test_a_verdict_is_recorded_where_all_runs_share_it(place):
    edit(place / "reports/metrics.json", lambda m: m["tiny"]["grpo"]["held"].update(erased=LIFTED))
    runs = {
        **alike("tiny/e3rl/held/plain/over_baseline", [-0.2, -0.3, -0.1]),
        **alike("tiny/grpo/held/erased/lift", [0.1, 0.05, 0.15]),
    }
    runs["tiny/grpo/held/erased/lift"]["d"] = [0.1, -0.05, 0.25]  # underpowered
    runs |= alike("tiny/grpo/held/erased/over_temperature", [0.1, 0.1, 0.1])  # no spread says nothing
    (place / "reports/machines.json").write_text(table(runs))
    assert check(place, "--record")[0] == 0
    rows = json.loads((place / "reports/reference.json").read_text())["default"]
    assert [row.get("verdict") for row in rows] == ["not reproduced", None, None]


def test_metrics_from_elsewhere_have_no_known_age(place):
    (place / "other.json").write_text(json.dumps(METRICS))
    code, _, err = check(place, "--metrics", "other.json")
    assert code == 2 and "other.json is no output of dvc.yaml" in err
    assert check(place, "--metrics", "other.json", "--any-age")[0] == 0


STUDY = """stages:
  report:
    wdir: ../..
    cmd: cp summary.json reports/study.json
    deps: [study.py]
    metrics: [reports/study.json: {cache: false}]
"""


def test_the_study_is_looked_at_and_its_own_remedy_named(place):
    (place / "experiments/study").mkdir(parents=True)
    (place / "experiments/study/dvc.yaml").write_text(STUDY)
    (place / "study.py").write_text("x = 1\n")
    (place / "summary.json").write_text(json.dumps(SUMMARY))
    env = {**os.environ, **DVC, "DVC_SITE_CACHE_DIR": str(place / "site")}
    command = [sys.executable, "-m", "dvc", "repro", "-q", "experiments/study/dvc.yaml"]
    subprocess.run(command, cwd=place, env=env, check=True, capture_output=True)
    assert "older" not in check(place)[1]
    (place / "study.py").write_text("x = 2\n")
    (place / "reports/study.json").write_text(json.dumps(SUMMARY, indent=1))
    code, out, _ = check(place)
    older = "reports/study.json: reports/study.json modified since report ran, and 1 more: `make study`"
    assert code == 0 and f"older          {older}; judged as committed" in out
    flags = ["--pipeline", "experiments/study/dvc.yaml", "--metrics", "reports/study.json"]
    code, out, _ = check(place, *flags)
    assert code == 1 and "STALE          study.py modified since report ran: run `make study`" in out


def test_the_gate_needs_no_git(place):
    (place / ".dvc/config").unlink()  # which says so
    assert check(place)[0] == 0


# method.md section 8: (model, benchmark, algorithm, metric) -> value and source mark
REPORTED = {
    ("q4b", "aime24", "e3rl", "avg"): [(0.506, "R"), (0.583, "R")],
    ("q8b", "aime24", "e3rl", "avg"): [(0.575, "R"), (0.583, "R")],
    **{(m, b, "e3rl", k): [(v, "A")] for m, v in (("q4b", 0.05349), ("q8b", 0.06514))
       for b in ("aime24", "average") for k in ("gain_over_baseline", "over_baseline")},
    **{(m, b, a, "avg"): [(v, "R")] for m in ("q4b", "q8b") for b, a, v in (
        ("aime26", "e3rl", 0.485), ("aime26", "e3rl_no_base", 0.426),
        ("aime24", "e3rl_frequency_only", 0.467), ("aime25", "e3rl_frequency_only", 0.386))},
}  # fmt: skip


def test_the_papers_values_are_those_of_the_paper():
    reference = json.loads((ROOT / "reports/reference.json").read_text())
    for mode in ("plain", "erased"):
        found = {}
        for row in reference["paper"]:
            if row["mode"] == mode:
                key = row["model"], row["benchmark"], row["algorithm"], row["metric"]
                found.setdefault(key, []).append((row["value"], row["source"]))
        assert found == REPORTED


def test_each_of_nine_full_runs_lies_in_the_ranges_that_the_others_give():
    """docs/gate.md says so; onednn and threads are the bits of avx512."""
    table = read_runs(ROOT / "reports/machines.json")
    full = ["avx512", "avx2", "default", "mkl", "seeds345", "seeds678", "intel_mkl", "intel_avx2", "intel_default"]
    assert len(table) == 94 and all(set(row) >= {*full} for row in table.values())
    red = []
    for path, row in table.items():
        for left in full:
            rest = expected(path, [row[run] for run in full if run != left])
            metrics = row[left]._asdict()
            for key in reversed(path):
                metrics = {key: metrics}
            red += [("/".join(path), left)] if judge_default(metrics, rest)[0] != OK else []
    assert not red
