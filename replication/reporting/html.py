"""reports/index.html: the report as one page that needs nothing else. Same runs, same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markdown_it import MarkdownIt

from replication.gate.reference import read_json, read_reference
from replication.reporting import anatomy, charts, default, paper, provenance, study
from replication.reporting.charts import Chart
from replication.reporting.findings import in_short
from replication.reporting.results import Arm
from replication.reporting.tables import Row, Table, shown

WEB = Path(__file__).parent / "web"
REFERENCE, STUDY = Path("reports/reference.json"), Path("reports/study.json")
BENCH, LEDGER = Path("reports/bench.json"), Path("docs/ledger.md")
INLINE = MarkdownIt("commonmark")


@dataclass(frozen=True)
class Section:
    """A part of the page: its charts, and the tables that hold their numbers."""

    name: str
    title: str
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()


def page(models: Mapping[str, list[Arm]], metrics: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """The page.

    Args:
        models: model -> its arms.
        metrics: what reports/metrics.json holds of them.
        data: model -> section `data` of params.yaml.

    Raises:
        UserError: one of the files beside the report cannot be read.
    """
    reference = read_reference(REFERENCE) if REFERENCE.exists() else {"paper": [], "published": [], "claims": []}
    found: study.Study = read_json(STUDY) if STUDY.exists() else {}
    sections = [
        Section("paper", "The paper and ours", tables=_papers(metrics, reference)),
        Section("results", "Results", tables=[default.results_table(metrics)]),
        _learning(models, metrics),
        _study(found),
        _anatomy(models),
        _cost(metrics),
        Section("provenance", "Where the numbers come from", tables=_provenance(models, data)),
        Section("ledger", "What the paper leaves open", tables=_ledger()),
    ]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    rows = [row for section in sections for table in section.tables for row in table.rows]
    return environment.get_template("page.html").render(
        findings=in_short(models, metrics, reference["paper"], found),
        sections=sections,
        tasks=[*models, *study.tasks(found)],
        algorithms=sorted({row.algorithm for row in rows if row.algorithm}),
        style=(WEB / "page.css").read_text(),
        script=(WEB / "page.js").read_text(),
        library=charts.library(),
        shown=shown,
        inline=INLINE.renderInline,
    )


def _papers(metrics: Mapping[str, Any], reference: Mapping[str, Any]) -> list[Table]:
    return [
        paper.paper_table(metrics, reference["paper"]),
        paper.published_table(metrics, reference["published"]),
        paper.claims_table(metrics, reference["claims"]),
    ]


def _learning(models: Mapping[str, list[Arm]], metrics: Mapping[str, Any]) -> Section:
    drawn = []
    for model, arms in models.items():
        rows = default.curves(model, arms)
        for x, title in (("step", "training step"), ("tokens", "generated tokens, erased ones included")):
            about = f"Mean reward of the rollouts on {model} against the {title}, of each algorithm and seed."
            if rows:
                spec = charts.learning(rows, x, title)
                drawn.append(Chart(f"curve-{model}-{x}", f"{model}: reward by {x}", about, "curves", model, spec))
    return Section(
        "learning", "Learning curves", drawn, [default.curves_table(models), default.training_table(metrics)]
    )


def _study(found: study.Study) -> Section:
    drawn = []
    kinds = (
        ("letter", study.against_letter(found), "variant minus the letter (e3rl)", "study-training", True),
        ("rivals", study.against_rivals(found), "minus a baseline, at equal tokens", "study-training", True),
        ("controls", study.controls(found), "untrained, Avg@16 by sampling", "study-sampling", False),
    )
    for kind, points, title, table, zero in kinds:
        for task in study.tasks(found):
            rows = [point for point in points if point["task"] == task]
            about = (
                f"{task}, {title}: mean and 95 % interval of each of {len({row['algorithm'] for row in rows})} arms."
            )
            if rows:
                name = f"{kind}-{task.replace(' ', '-')}"
                spec = charts.forest(rows, "difference of plain accuracy" if zero else "Avg@16", zero)
                drawn.append(Chart(name, f"{task}: {title}", about, table, task, spec))
    tables = [study.training_table(found), study.controls_table(found)] if found else []
    return Section("study", "Ablations and controls", drawn, tables)


def _anatomy(models: Mapping[str, list[Arm]]) -> Section:
    drawn: list[Chart] = []
    segments: list[dict[str, Any]] = []
    counts: list[dict[str, Any]] = []
    dots: list[dict[str, Any]] = []
    for model, arms in models.items():
        rows, taken, points = (of(model, arms) for of in (anatomy.by_segment, anatomy.by_attempts, anatomy.points))
        segments, counts, dots = segments + rows, counts + taken, dots + points
        if not rows:
            continue
        rate, auc = (
            charts.by_segment(rows, *what, (0, 1)) for what in (("rate", "share erased"), ("AUC plain", "AUC of U"))
        )
        kinds = (
            ("rate", "share of attempts erased", "anatomy-segments", rate),
            ("attempts", "attempts until a segment was kept", "anatomy-attempts", charts.attempts(taken)),
            ("threshold", "U against the threshold", "anatomy-points", charts.against_threshold(points)),
            ("auc", "AUC of U for samples that are wrong, plain", "anatomy-segments", auc),
        )
        for kind, title, table, spec in kinds:
            about = f"{title[0].upper()}{title[1:]}, on {model}, by algorithm."
            drawn.append(Chart(f"{kind}-{model}", f"{model}: {title}", about, table, model, spec))
    tables = [anatomy.sample_table(models), *anatomy.tables(segments, counts, dots)]
    return Section("anatomy", "Anatomy of erasing", drawn, tables)


def _cost(metrics: Mapping[str, Any]) -> Section:
    drawn, points = [], default.costs(metrics)
    for model in metrics:
        rows = [point for point in points if point["task"] == model]
        about = f"Avg@k with its interval against the tokens a sample takes on {model}, by algorithm and sampling."
        spec = charts.accuracy_by_tokens(rows)
        drawn.append(Chart(f"cost-{model}", f"{model}: accuracy by tokens a sample", about, "results", model, spec))
    return Section("cost", "Cost", drawn, [_bench()] if BENCH.exists() else [])


def _bench() -> Table:
    rows = [
        Row([row[key] for key in ("name", "ours", "peer", "ratio", "unit", "note")]) for row in read_json(BENCH)["rows"]
    ]
    columns = ["what", "ours", "the other's", "ratio", "unit", "note"]
    return Table("bench", "Speed beside other software (make bench)", columns, rows)


def _provenance(models: Mapping[str, list[Arm]], data: Mapping[str, Any]) -> list[Table]:
    return [provenance.runs_table(models), provenance.data_table(data), provenance.machine_table()]


def _ledger() -> list[Table]:
    if not LEDGER.exists():
        return []
    lines = [line for line in LEDGER.read_text().splitlines() if line.startswith("| ")]
    header, *rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [Table("ledger", "The ledger of open choices (docs/ledger.md)", header, [Row(row) for row in rows])]
