"""The pages name what exists."""

import ast
import importlib
import json
import pkgutil
import re
from datetime import date
from pathlib import Path

import pytest

from experiments.versions import SETS
from replication.config import TrainerConfig
from replication.evaluation.statistics import Interval
from replication.gate.judge import OK, judge_default
from replication.gate.record import KINDS

ROOT = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs/equations.md").read_text().splitlines()
    if line.startswith("| ") and "`" in line
]


@pytest.mark.parametrize("row", ROWS, ids=[row[1].split(".")[-1].strip("`") for row in ROWS])
def test_equations_resolve(row):
    assert len(row) == 5, "equation, function, test, mark, deviation or choice"
    assert callable(pkgutil.resolve_name(row[1].strip("`")))
    path, test = row[2].strip("`").split("::")
    text = (ROOT / path).read_text()
    assert test in {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    assert row[1].strip("`").rsplit(".", 1)[1] in text or row[1].endswith(".forward`"), "a module is called, not named"
    assert row[3], "every equation carries a mark"


def test_no_equation_is_lost():
    assert len(ROWS) >= 55


ROOMS = ["rollout.uncertainty", "rollout.threshold", "credit.advantage", "credit.allocation", "credit.reward"]
ROOMS += ["objectives.losses", "objectives.correction", "objectives.normalise", "rollout.sampling"]
ROOMS += ["evaluation.metrics", "evaluation.diagnostics", "evaluation.statistics"]


@pytest.mark.parametrize("room", ROOMS)
def test_every_equation_of_a_room_has_a_row(room):
    tree = ast.parse((ROOT / "replication" / room.replace(".", "/")).with_suffix(".py").read_text())
    public = {n.name for n in tree.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")}
    named = {row[1].strip("`").rsplit(".", 1)[1] for row in ROWS if f"replication.{room}." in row[1]}
    assert public - named <= {"masked_mean_std", "mask_bias", "loss_weights", "correction_of"}, "parts, and switches"


def test_the_readme_names_files_and_modules_that_exist():
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / target).exists(), target
    for module in re.findall(r"python -m (replication\.\w+)", text):
        assert importlib.util.find_spec(module), module


RESULTS = (ROOT / "docs/results.md").read_text()
METRICS = json.loads((ROOT / "reports/metrics.json").read_text())


@pytest.mark.parametrize(("section", "page"), [("The small default", "report.md"), ("The study", "study.md")])
def test_the_tables_of_results_are_the_reports(section, page):
    found = (ROOT / "reports" / page).read_text().splitlines()
    text = RESULTS.split(f"## {section}\n")[1].split("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ") and "[" in line]
    assert len(rows) >= 4 and all(row in found for row in rows)


def readme_rows():
    """The table of the small default as README has it."""
    for name, shown in (("untrained", "untrained"), *((n, f"`{n}`") for n in ("grpo", "e3rl", "e3rl_mixed"))):
        plain, erased = (METRICS["tiny"][name]["heldout"][mode] for mode in ("plain", "erased"))
        tokens = f"{plain['tokens']['mean']:.0f}, {erased['tokens']['mean']:.0f}"
        shown += " (ours)" if name == "e3rl_mixed" else " (the paper's)" if name == "e3rl" else ""
        yield f"| {shown} | {plain['avg']['mean']:.2f} | {erased['avg']['mean']:.2f} | {tokens} |"


def test_the_readmes_numbers_are_the_metrics():
    text = (ROOT / "README.md").read_text()
    assert [line for line in text.splitlines() if line in set(readme_rows())] == list(readme_rows())

    def avg(model):
        modes = METRICS[model]["untrained"]["heldout"]
        return tuple(f"{modes[mode]['avg']['mean']:.2f}" for mode in ("plain", "erased", "plain@0.3"))

    plain, erased, cool = avg("tiny")
    assert f"lifts the untrained policy from {plain} to {erased}, for a third more tokens." in text
    tokens = {mode: METRICS["tiny"]["untrained"]["heldout"][mode]["tokens"]["mean"] for mode in ("plain", "erased")}
    assert 1.28 < tokens["erased"] / tokens["plain"] < 1.39, "a third more"
    assert f"Temperature 0.3 lifts it to {cool}, for none" in text
    plain, erased, cool = avg("selfcheck")
    assert f"erasing lifts {plain} to {erased}. Temperature 0.3 lowers it to {cool}" in text
    tokens = {
        mode: METRICS["selfcheck"]["untrained"]["heldout"][mode]["tokens"]["mean"] for mode in ("plain", "erased")
    }
    assert 1.58 < tokens["erased"] / tokens["plain"] < 1.75 and "two thirds more tokens there" in text


def test_the_readmes_hundred_families_are_those_of_the_page():
    count = int(re.search(r"Of \d+ families (\d+) work", (ROOT / "docs/models.md").read_text())[1])
    assert "erasing with some hundred model families" in (ROOT / "README.md").read_text() and 95 <= count <= 105


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120 and len(text.split()) <= 1200


def sentences(text, ends):
    """Those of a page; tables, headings, listings and links' targets are none, and each point of a list begins one."""
    prose = re.sub(r"```.*?```", "\n\n", text, flags=re.DOTALL)
    prose = re.sub(r"\]\([^)]*\)", "]", re.sub(r"(?m)^(\||#|!\[|:::).*$|^\s*([-*]|\d+\.) ", "\n\n", prose))
    return [" ".join(s.split()) for s in re.split(rf"[{ends}](?=\W*(?:\s|$))|\n\n", prose)]


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=[path.name for path in PAGES])
def test_no_sentence_is_long(path):
    found = sentences(path.read_text(), ".!?" if path.name == "README.md" else ".!?;")
    assert [sentence for sentence in found if len(sentence.split()) > 30] == []


def test_the_ranges_told_are_those_of_the_machines():
    table = json.loads((ROOT / "reports/machines.json").read_text())
    text = " ".join(RESULTS.split())
    counted = [run for run, about in table["runs"].items() if about["kind"] in KINDS]

    def span(metric):
        means = [table["metrics"][metric][run][0] for run in counted if run in table["metrics"][metric]]
        return f"{min(means):.2f} to {max(means):.2f}"

    plain, erased = (span(f"tiny/untrained/heldout/{mode}/avg") for mode in ("plain", "erased"))
    assert f"the untrained policy has {plain} plain and {erased} erased" in text
    trained = [f"{span(f'tiny/{name}/heldout/plain/avg')} (`{name}`)" for name in ("grpo", "e3rl", "e3rl_mixed")]
    assert f"the trained ones has {trained[0]}, {trained[1]} and {trained[2]}" in text
    others = [
        [
            f"{table['metrics'][f'{model}/untrained/heldout/erased/avg'][run][0]:.2f}"
            for run in table["runs"]
            if run not in counted
        ]
        for model in ("tiny", "selfcheck")
    ]
    told = [" and ".join(means) for means in others]
    assert f"two gave {told[0]} erased on recurrence, and {told[1]} on self-check" in text


def cited(path):
    """The documents that a file names, in links or in its text."""
    text = path.read_text()
    linked = re.findall(r"\]\(([^)#: ]+\.md)[^)]*\)", text)
    named = re.findall(r"(?<![\w./-])((?:[\w.-]+/)*[\w-]+\.md)\b", re.sub(r"\]\([^)]*\)", "]", text))
    return {*linked, *named}


def test_every_document_that_is_cited_exists():
    sources = [p for part in ("replication", "experiments", "docs", "tests") for p in (ROOT / part).rglob("*")]
    sources = [p for p in sources if p.suffix in (".py", ".md") and p != Path(__file__)]
    written_by_the_code = {"report.md", "README.md", "samples.md", "dvclive/samples.md", "gpu.md", "reports/gpu.md"}
    for path in [*sources, ROOT / "README.md"]:
        for name in cited(path) - written_by_the_code:
            places = [path.parent / name, ROOT / name, ROOT / "docs" / name, ROOT / "reports" / name]
            assert any(place.exists() for place in places), f"{path}: {name}"
        assert not re.search(r"\bfindings? \d", path.read_text()), f"{path}: there is no document of findings"


def test_the_engines_figures_are_those_of_the_bench():
    text = (ROOT / "docs/engines.md").read_text()
    models = json.loads((ROOT / "reports/engines.json").read_text())["models"]
    both = [models[name] for name in ("tiny", "SmolLM2-135M")]

    def row(start, figures, pattern="{:.2f}"):
        line = f"| {start} | {' | '.join(pattern.format(figure) for figure in figures)} |"
        assert line in text, line

    for found, said in zip(both, ("up to {} % behind with the tiny model", "up to {} % behind: there"), strict=True):
        ratios = [
            part["tokens in a second, slowest round"][side] / rate
            for part in found.values()
            for side, rate in part["tokens in a second"].items()
        ]
        assert said.format(round(100 * (1 - min(ratios)))) in text
        for rows in (int(part.split()[0]) for part in found if part.endswith(" rows")):
            rates = found[f"{rows} rows"]["tokens in a second"]
            row(rows, [rates[name] for name in ("torch", "vLLM", "generate", "continuous batching")], "{:,.0f}")
    for what, part, key in (
        ("eight segments in place of one, more time", "boundaries", "a boundary's cost"),
        ("a seed for each segment (`rollout.reproducible`), more time", "seeds", "a seed's cost"),
    ):
        row(what, [100 * found[part][key] for found in both], "{:.1f} %")
    row("a token written again, over a token", [f["erasing"]["a token generated again, over a token"] for f in both])
    waits, served = "rate where groups wait, over none", "resubmitted tokens from the cache"
    for engine in ("torch", "vLLM"):
        row(f"waiting for groups, `{engine.lower()}`", [found["waiting"][waits][engine] for found in both])
    for what, key in (("four segments", "ours"), ("one segment, no seeds", "ours, one segment, no seeds")):
        row(f"beside TRL's generation, {what}", [found["TRL"]["ours over TRL"][key] for found in both])
    row("resubmitted tokens that came from the cache", [100 * f["boundaries"][served] for f in both], "{:.1f} %")
    for what, rule in (("none waits", "plain"), ("rows wait for their group", "group")):
        shares = both[0]["little room"][served]
        row(what, [shares[f"{rule}, room for {room}"] for room in (1.0, 0.8, 0.4, 0.2)])


def test_the_installs_figures_are_those_that_were_measured():
    text = (ROOT / "docs/install.md").read_text()
    found = json.loads((ROOT / "reports/install.json").read_text())
    for install, took in found["installs"].items():
        minutes, seconds = divmod(took["processor seconds"], 60)
        name = f"`pip install {install}`" if install == "." else f"`pip install '{install}'`"
        row = (
            rf"^\| {re.escape(name)}[^|]* \|[^|]*\| {took['megabytes'] / 1000:.1f} GB \| {minutes} min {seconds} s \|$"
        )
        assert re.search(row, text, re.M), row
    assert len(found["installs"]) == 3 and f"{date.fromisoformat(found['date']):%-d %B %Y}" in text


def test_the_page_of_installs_tells_what_was_tested_with_other_versions():
    text, found = (ROOT / "docs/install.md").read_text(), json.loads((ROOT / "reports/versions.json").read_text())
    assert set(found) == set(SETS)
    for name, row in found.items():
        assert all(row[package] == version for package, version in SETS[name][1].items())
        came = f"{row['passed']:,} pass" + (f", {row['failed']} fail" if row.get("failed") else "")
        versions = " | ".join([row["python"], row["torch"], row["transformers"], row["deepspeed"]])
        assert f"| {name} | {versions} | {came} |" in text
    project = (ROOT / "pyproject.toml").read_text()
    pins = {name: re.search(rf'"{name}==([\d.]+)"', project)[1] for name in ("torch", "transformers", "deepspeed")}
    assert f"| pinned | 3.11 | {' | '.join(pins.values())} | all tests pass |" in text


def test_the_waits_of_the_page_are_the_defaults():
    text, trainer = (ROOT / "docs/running.md").read_text(), TrainerConfig()
    assert f"`trainer.silence` ({trainer.silence} s)" in text
    assert f"`trainer.max_wait` ({trainer.max_wait // 60}\n  hours)" in text and trainer.max_wait % 60 == 0


def test_the_default_on_vllm_is_inside_the_gate_and_the_page_tells_its_figures():
    """Trained on another engine, whose random numbers are others."""
    runs = [json.loads((ROOT / "reports" / name).read_text()) for name in ("metrics.json", "metrics_vllm.json")]
    reference = json.loads((ROOT / "reports/reference.json").read_text())
    rows = [*reference["claims"], *reference["default"]]
    assert len(rows) > 90 and {judge_default(runs[1], row)[0] for row in rows} == {OK}
    assert runs[0] != runs[1]
    text = (ROOT / "docs/engines.md").read_text()
    arms = [
        ("untrained", "plain"),
        ("untrained", "erased"),
        *((arm, "plain") for arm in ("e3rl", "e3rl_mixed", "grpo")),
    ]
    for arm, mode in arms:
        cells = [Interval(**run["tiny"][arm]["heldout"][mode]["avg"]) for run in runs]
        name = f"{arm}, {mode}" if arm == "untrained" else f"`{arm}`, {mode}"
        assert f"| {name} | {cells[0]} | {cells[1]} |" in text
