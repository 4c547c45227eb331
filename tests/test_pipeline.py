"""dvc.yaml against the code: what a stage imports, it depends on; what it reads of params.yaml, it names."""

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from replication.config import ALGORITHM_ONLY, SECTIONS
from replication.depends import COMMAND, EVALUATION, TRAINING

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
MATRIX = PARAMS["matrix"]
STUDY = yaml.safe_load((ROOT / "experiments/study/dvc.yaml").read_text())["stages"]
EVERY = {**STAGES, **{f"study {name}": stage for name, stage in STUDY.items()}}
OURS = ("replication", "experiments")
PLAN_NAME = "replication.planning"
PLAN = ROOT / "replication/planning"  # `fit --plan` trains nothing, and `fit` without it imports nothing of it


def module_files(name: str) -> list[Path]:
    """The files that importing a module runs: its own, and the packages above it."""
    path = ROOT / name.replace(".", "/")
    own = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    parents = [ROOT.joinpath(*name.split(".")[:i], "__init__.py") for i in range(1, name.count(".") + 1)]
    return [p for p in [own, *parents] if p.exists()]


def imports_of(path: Path) -> set[str]:
    """Every module of the package that a file imports anywhere, lazily too."""
    return imports_in(ast.parse(path.read_text()))


def imports_in(tree: ast.AST) -> set[str]:
    """Every module of the package that a piece of code imports."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("replication."):
            found.add(node.value)  # started by name, as the grader's workers are
    return {name for name in found if name.split(".")[0] in OURS and module_files(name)}


def closure(module: str) -> set[Path]:
    """All files of the package that a module runs, directly or not, but for the plan of a run."""
    seen: set[Path] = set()
    waiting = module_files(module)
    while waiting:
        path = waiting.pop()
        if path not in seen and PLAN not in path.parents:
            seen.add(path)
            waiting += [file for name in imports_of(path) for file in module_files(name)]
    return seen


@pytest.mark.parametrize("stage", EVERY)
def test_a_stage_depends_on_all_that_it_imports(stage):
    module = EVERY[stage]["cmd"].split()[2]
    declared = [ROOT / dep for dep in EVERY[stage]["deps"]]
    needed = {path for path in closure(module) if path.read_text().strip()}  # empty __init__.py files say nothing
    missing = {
        str(path.relative_to(ROOT)) for path in needed if not any(d == path or d in path.parents for d in declared)
    }
    assert not missing


def test_no_stage_writes_into_the_folder_of_another():
    """DVC empties a stage's outputs before it runs: a file of another stage in there would be lost."""
    outs = {}
    for name, stage in EVERY.items():
        for out in [*stage.get("outs", []), *stage.get("metrics", [])]:
            outs[out if isinstance(out, str) else next(iter(out))] = name
    assert "reports/figures" in outs and "reports/study_figures" in outs
    assert not [(a, b) for a in outs for b in outs if b.startswith(f"{a}/")]


def test_the_closure_sees_lazy_and_named_imports():
    names = {path.name for path in closure("replication.fit")}
    assert {"module.py", "engine.py", "worker.py", "losses.py"} <= names


def test_only_the_plan_itself_imports_the_plan():
    """So that a change of it trains nothing."""
    stages = {EVERY[stage]["cmd"].split()[2] for stage in EVERY}
    inside = {path for path in (ROOT / "replication").rglob("*.py") if PLAN not in path.parents}
    inside |= {path for module in stages for path in closure(module)}
    users = {p for p in inside if any(name.startswith(PLAN_NAME) for name in imports_of(p))}
    planners = [ROOT / "replication" / name for name in ("fit.py", "evaluate.py")]
    assert users == {*planners}
    for path in planners:
        tree = ast.parse(path.read_text())
        plan = next(node for node in tree.body if getattr(node, "name", "") == "plan")
        tree.body.remove(plan)  # the rest of it imports nothing of the plan
        assert not any(name.startswith(PLAN_NAME) for name in imports_in(tree))


@pytest.mark.parametrize(("stage", "parts"), [("train", TRAINING), ("evaluate", EVALUATION)])
def test_the_code_that_counts_is_one_list(stage, parts):
    """That of checkpoints and chunks, which know the settings by their values, and that of the pipeline."""
    module = STAGES[stage]["cmd"].split()[2].replace(".", "/") + ".py"
    ours = {dep.removeprefix("replication/") for dep in STAGES[stage]["deps"] if dep.startswith("replication/")}
    assert ours == {*parts, *COMMAND, module.removeprefix("replication/")}
    assert all((ROOT / "replication" / part).exists() for part in ours)


def test_one_more_benchmark_trains_nothing():
    data = [dep for dep in STAGES["train"]["deps"] if dep.startswith("data/")]
    assert data == ["data/${item.model}/train.jsonl"]


def test_a_change_of_the_report_trains_nothing():
    assert not any("report" in dep for stage in ("train", "evaluate", "warmstart") for dep in STAGES[stage]["deps"])


def sections_read(stage: str) -> set[str]:
    """The sections that a stage's command passes to `load_run`."""
    path = ROOT / (STAGES[stage]["cmd"].split()[2].replace(".", "/") + ".py")
    lists = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.List)]
    return {
        element.value
        for node in lists
        for element in node.elts
        if isinstance(element, ast.Constant) and element.value in SECTIONS
    }


@pytest.mark.parametrize("stage", [s for s in STAGES if s != "report"])
def test_a_stage_names_the_settings_it_reads(stage):
    """Of `models`; what stands under `algorithms` is named whole, and the sections that only stand there are exempt."""
    declared = {p.split(".")[-1] for p in STAGES[stage]["params"] if p.startswith("models.")}
    whole = any(p == "algorithms.${item.algorithm}" for p in STAGES[stage]["params"])
    machine = {"trainer"} if "evaluate" in stage else set()  # how many processes share it out, to the same samples
    assert sections_read(stage) - machine <= declared | (ALGORITHM_ONLY if whole else set())


@pytest.mark.parametrize("model", ["tiny", "selfcheck", "q4b", "q8b"])
@pytest.mark.parametrize("stage", [s for s in STAGES if s != "report"])
def test_every_setting_that_a_stage_names_is_there(stage, model):
    if stage in ("train", "evaluate") and model == "selfcheck":
        pytest.skip("never trained")
    for key in STAGES[stage]["params"]:
        entry = PARAMS
        for part in key.replace("${item.model}", model).replace("${item.algorithm}", "e3rl").split("."):
            assert part in entry, key
            entry = entry[part]


def test_the_matrix_names_sections_that_exist():
    assert set(MATRIX["bases"]) | set(MATRIX["models"]) <= PARAMS["models"].keys()
    assert set(MATRIX["algorithms"]) <= PARAMS["algorithms"].keys()
    assert set(MATRIX["models"]) <= set(MATRIX["bases"])


def test_the_settings_outlive_one_experiment_after_another(tmp_path):
    """`dvc exp run -S` writes into params.yaml; with a comment beside a list it breaks the file."""
    from dvc.utils.hydra import apply_overrides

    copied = tmp_path / "params.yaml"
    copied.write_text((ROOT / "params.yaml").read_text())
    for models, algorithms in (([], ["grpo"]), (["tiny"], MATRIX["algorithms"]), ([], ["grpo", "e3rl"])):
        lists = {"models": models, "algorithms": algorithms, "bases": ["tiny"], "seeds": [7]}
        written = [f"matrix.{key}=[{','.join(map(str, values))}]" for key, values in lists.items()]
        apply_overrides(str(copied), [*written, "models.tiny.train.lr=1.0e-3"])
        params = yaml.safe_load(copied.read_text())
        assert params["matrix"] == lists and params["models"]["tiny"]["train"]["lr"] == 1.0e-3
        assert params["algorithms"] == PARAMS["algorithms"]


def test_an_experiment_may_change_each_setting_of_the_matrix():
    """DVC writes each section in turn: what two of them share by an anchor, the second one would set back unsaid."""

    def mappings(value):
        if isinstance(value, dict):
            yield value
            for inner in value.values():
                yield from mappings(inner)

    named = {"models": MATRIX["bases"], "algorithms": MATRIX["algorithms"]}
    for group, names in named.items():
        for name in names:
            others = [section for key, section in PARAMS[group].items() if key != name]
            shared = {id(found) for section in others for found in mappings(section)}
            assert not any(id(found) in shared for found in mappings(PARAMS[group][name])), f"{group}.{name}"


def test_the_plots_are_outputs_of_the_report():
    plots = yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
    assert plots and {*plots} <= {next(iter(out)) for out in STAGES["report"]["outs"]}


def make(folder, *flags):
    env = {
        key: value for key, value in os.environ.items() if not key.startswith("MAKE")
    }  # these tests run under make, too
    return subprocess.run(["make", *flags], cwd=folder, env=env, capture_output=True, text=True).stdout


def test_make_alone_lists_what_there_is():
    told = make(ROOT)
    assert told == make(ROOT, "help")
    rules = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {line.split()[1] for line in told.splitlines()} == rules


def test_an_environment_that_was_moved_is_made_anew(tmp_path):
    """What it installed names the place where it was."""
    first, moved = tmp_path / "first", tmp_path / "moved to"
    (first / ".venv").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml"):
        (first / name).write_text((ROOT / name).read_text())
    assert "-m venv" in make(first, "-n", "repro")
    (first / ".venv/installed").write_text(f"{(first / '.venv').resolve()}\n")
    assert "-m venv" not in make(first, "-n", "repro")
    first.rename(moved)
    assert "-m venv --clear .venv" in make(moved, "-n", "repro")
    (moved / ".venv/installed").write_text(f"{(moved / '.venv').resolve()}\n")
    assert "-m venv" not in make(moved, "-n", "repro")


def test_no_tool_is_called_by_a_script_that_names_its_place():
    text = (ROOT / "Makefile").read_text()
    assert not re.search(
        r"^\t.*(\$\(BIN\)/(?!python)|(?<!m )(?<!RUN\) )\b(dvc|pytest|ruff|mypy|pip) )", text, re.MULTILINE
    )


ABOUT_THE_SETTINGS = {
    "tests/test_cli.py",
    "tests/test_pipeline.py",
    "tests/test_typed.py",
    "tests/goldens/compare.py",
    "tests/mutants/run.py",
}
ABOUT_THE_SETTINGS |= {f"tests/experiments/test_{name}.py" for name in ("paper", "study")}


def test_no_other_test_reads_the_users_settings():
    """An edit of params.yaml fails no test that is not about what stands there."""
    readers = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("*.py")
        if re.search(r"""(ROOT|parents\[\d\]) / ["']params.yaml|\("params.yaml", "pyproject""", path.read_text())
    }
    assert readers == ABOUT_THE_SETTINGS
