"""`python -m replication.report`: reports/report.md, index.html, metrics.json and the learning curves from the runs of
the matrix of params.yaml, and of nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from replication.cli import read_matrix, read_params
from replication.errors import Parser, run_command


def main() -> None:
    parser = Parser(description="Write the report from the finished runs.")
    parser.add_argument("--runs", default="runs", type=Path, help="folder of the runs")
    parser.add_argument("--out", default="reports", type=Path, help="folder of the report")
    parser.add_argument("--params", default="params.yaml", type=Path, help="the settings file, whose matrix it is of")
    arguments = parser.parse_args()

    from replication.reporting.figures import learning_curves
    from replication.reporting.html import page
    from replication.reporting.metrics import model_metrics
    from replication.reporting.page import head, model_section
    from replication.reporting.results import read_arms

    models = read_arms(arguments.runs, read_matrix(arguments.params).arms())
    settings = read_params(arguments.params)["models"]
    metrics = {model: model_metrics(arms) for model, arms in models.items()}
    html = page(models, metrics, {model: (settings[model] or {}).get("data") or {} for model in models})
    (arguments.out / "figures").mkdir(parents=True, exist_ok=True)
    sections = [head(list(models))]
    for model, arms in models.items():
        trained = [arm for arm in arms if arm.history]
        name = f"figures/learning_curves_{model}.png"
        if trained:
            learning_curves(trained, arguments.out / name)
        sections.append(model_section(model, arms, name if trained else None))
    (arguments.out / "report.md").write_text("\n\n".join(sections) + "\n")
    (arguments.out / "index.html").write_text(html, encoding="utf-8")
    (arguments.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"{sum(map(len, models.values()))} arms -> {arguments.out / 'report.md'}")


if __name__ == "__main__":
    run_command(main)
