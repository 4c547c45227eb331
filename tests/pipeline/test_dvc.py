"""DVC's own commands: those that the documents name exist, and show what lies in this repository."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from itertools import takewhile

import pytest
from commands import ROOT
from dvc.cli.parser import get_main_parser

from replication.cli import Matrix
from replication.config import SECTIONS

PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
METRICS = "reports/metrics.json"


def named(text):
    """DVC's commands in a document: lines of its blocks, and what stands between backticks."""
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    lines = re.findall(r"^(?:\S+ -m )?dvc (.*)$", blocks, re.MULTILINE)
    inline = re.findall(r"`(?:\S+ -m )?dvc ([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    words = (shlex.split(line, comments=True) for line in [*lines, *inline])
    return [list(takewhile(lambda word: word != "|", line)) for line in words]


FOUND = [(page.name, argv) for page in PAGES for argv in named(page.read_text())]


def test_every_command_of_dvc_that_a_page_names_is_one():
    parser = get_main_parser()
    for page, argv in FOUND:
        assert parser.parse_args(argv).func, (page, argv)  # DVC raises where a flag or a command is none of its own
    of_the_page = {" ".join(argv[:2]) for page, argv in FOUND if page == "dvc.md"}
    wanted = ["exp run", "exp show", "exp apply", "exp branch", "exp remove", "metrics show", "metrics diff"]
    wanted += ["params diff", "plots show", "plots diff", "status dvc.yaml", "remote add"]
    assert of_the_page >= {*wanted}


def test_every_setting_that_an_experiment_changes_is_one():
    settings = [argv[i + 1] for _, argv in FOUND for i, word in enumerate(argv) if word == "-S"]
    assert settings
    for setting in settings:
        group, _, rest = setting.removeprefix("+").partition("=")[0].partition(".")
        if group == "matrix":
            assert rest in {field.name for field in fields(Matrix)}, setting
        else:
            _, section, key = rest.split(".")
            assert group == "models" and key in SECTIONS[section].__dataclass_fields__, setting


@pytest.fixture
def dvc(tmp_path):
    """DVC in this repository, whose answers are read as JSON."""
    env = {**os.environ, "DVC_SITE_CACHE_DIR": str(tmp_path / "site"), "DVC_NO_ANALYTICS": "1"}

    def ask(*argv):
        command = [sys.executable, "-m", "dvc", *argv, "--json"]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


def without_lists(metrics):
    """What DVC shows of metrics: numbers and texts."""
    if not isinstance(metrics, dict):
        return metrics
    return {key: without_lists(value) for key, value in metrics.items() if not isinstance(value, list)}


def test_metrics_show_has_the_metrics(dvc):
    """Those of the default, and the study's beside them."""
    shown = dvc("metrics", "show")[""]["data"]
    assert shown.keys() == {METRICS, "reports/study.json"}
    metrics = json.loads((ROOT / METRICS).read_text())
    assert (
        shown[METRICS]["data"] == without_lists(metrics) and "lift" in metrics["tiny"]["untrained"]["heldout"]["erased"]
    )


def test_plots_show_has_every_figure_of_the_report(dvc, tmp_path):
    figures = sorted((ROOT / "reports/figures").iterdir())
    shown = dvc("plots", "show", "--out", str(tmp_path / "plots"))["data"]
    assert figures and sorted(shown) == [str(figure.relative_to(ROOT)) for figure in figures]
    for path, (entry,) in shown.items():
        copied = tmp_path / "plots" / f"workspace_{path.replace('/', '_')}"
        assert entry["type"] == "image" and copied.read_bytes() == (ROOT / path).read_bytes()
        assert copied.read_bytes().startswith(b"\x89PNG") and len(copied.read_bytes()) > 50_000, "curves, not a blank"
