"""reports/index.html of made-up runs: its numbers, its HTML, and how it behaves in a browser."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import chromium
import pytest
import yaml
from made_up_runs import write_run

from experiments.machines import READ
from replication import report
from replication.evaluation.samples import anatomies
from replication.reporting import html, study

ROOT = Path(__file__).parents[2]
MATRIX = {"bases": ["toy"], "models": ["toy"], "algorithms": ["e3rl", "grpo"], "seeds": [0, 1]}
PARAMS = {"models": {"toy": {"data": {"task": "adding", "seed": 7}}}, "algorithms": {"e3rl": {}, "grpo": {}}}


def attempts(folder, times):
    """anatomy.json of two samples whose first segment was erased so many times; U is 0.5 above the threshold then."""
    made = [[0, e + 1, 1.5 + e, 1.0 + e, True] for e in range(times)] + [[0, times + 1, 0.5, 1.0 + times, False]]
    rows = [
        {
            "benchmark": "held",
            "mode": mode,
            "problem": "p0",
            "verdict": word,
            "attempts": [*made, [1, 1, u, 2.0, False]],
        }
        for mode in ("plain", "erased")
        for word, u in (("correct", 0.2), ("wrong", 0.9))
    ]
    (folder / "anatomy.json").write_text(json.dumps(anatomies(rows)))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The page, beside the runs that it is of; what the paper reports and the study are the repository's."""
    folder = tmp_path_factory.mktemp("page")
    write_run(folder / "runs", "untrained", 0, [[0, 0], [1, 0]])
    for seed in (0, 1):
        write_run(folder / "runs", "grpo", seed, [[1, 0], [1, 1]], steps=3)
        write_run(folder / "runs", "e3rl", seed, [[seed, 0], [1, 0]], steps=3)
        attempts(folder / f"runs/evaluate/toy/e3rl/{seed}", 1 + seed)
    (folder / "params.yaml").write_text(json.dumps({**PARAMS, "matrix": MATRIX}))
    for path in (html.REFERENCE, html.STUDY, html.BENCH, html.LEDGER):
        (folder / path).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["report"])
        report.main()
    return folder


@pytest.fixture(scope="module")
def text(place):
    return (place / "reports/index.html").read_text()


def table(text, name):
    """A table as it is downloaded, a dict a row."""
    link = re.search(rf'download="{name}\.csv" href="data:text/csv;charset=utf-8,([^"]*)"', text)
    return list(csv.DictReader(io.StringIO(unquote(link[1]))))


def test_numbers_are_those_of_the_runs(place, text):
    metrics = json.loads((place / "reports/metrics.json").read_text())["toy"]
    rows = {(row["algorithm"], row["sampling"]): row for row in table(text, "results")}
    assert len(rows) == 6
    row, want = rows["e3rl", "plain"], metrics["e3rl"]["held"]["plain"]
    assert [float(row[key]) for key in ("Avg@k", "Avg@k, low", "Avg@k, high")] == [*want["avg"].values()]
    assert float(row["Avg@k"]) == (0 + 0 + 1 + 0 + 1 + 0 + 1 + 0) / 8 and float(row["tokens a sample"]) == 10.0
    assert float(row["minus the best baseline"]) == 0.375 - 0.75 and row["a gain is"] == "underpowered"
    assert rows["grpo", "plain"]["minus the best baseline"] == ""
    shown_avg = f"{want['avg']['mean']:.3f} [{want['avg']['low']:.3f}, {want['avg']['high']:.3f}]"
    assert f'<td class="number">{shown_avg}</td>' in text
    curve = [row for row in table(text, "curves") if row["algorithm"] == "e3rl" and row["seed"] == "mean"]
    assert [(float(r["step"]), float(r["tokens"]), float(r["reward"])) for r in curve] == [
        (1, 75, 0.5),
        (2, 150, 0.5),
        (3, 225, 0.5),
    ]
    assert [float(row["tokens generated"]) for row in table(text, "training")] == [225.0, 225.0]


def test_the_anatomy_adds_seeds_up(text):
    """Seed 0 erased the first segment once in each of its two samples, seed 1 twice."""
    first, second = table(text, "anatomy-segments")
    assert (first["attempts"], first["erased"], first["rate"]) == ("10", "6", "0.6")
    assert (second["attempts"], second["erased"], second["AUC erased"], second["pairs erased"]) == (
        "4",
        "0",
        "1.0",
        "2",
    )
    assert float(first["AUC plain"]) == 0.5  # both samples have the same U there
    needed = {row["attempts"]: float(row["share"]) for row in table(text, "anatomy-attempts")}
    assert needed == {"1": 0.5, "2": 0.25, "3": 0.25}
    points = table(text, "anatomy-points")  # of the first seed
    assert [(p["segment"], p["attempt"], p["U"], p["threshold"], p["fate"]) for p in points[:2]] == [
        ("1", "1", "1.5", "1.0", "erased"),
        ("1", "2", "0.5", "2.0", "kept"),
    ]


def test_five_lines_open_the_page(text):
    opening = re.search(r'<dl class="short">(.*?)</dl>', text, re.DOTALL)[1]
    assert re.findall("<dt>(.*?)</dt>", opening) == [
        "What was run",
        "Found, without training",
        "Found, trained",
        "Found, in the study",
        "What was not run",
    ]
    assert "On toy: e3rl and grpo trained with 2 seeds each; 2 problems x 2 samples." in opening
    assert "On toy (held) erasing is not shown to change accuracy, 0.250 to 1.000, at 1.50 times the tokens." in opening
    assert "e3rl minus the best baseline on toy, sampled plainly: -0.375 [" in opening
    assert "The paper&#39;s Qwen3-4B and Qwen3-8B, which need eight 80 GiB GPUs." in opening
    assert "Of the 9 values that the paper reports, none could be held against ours." in opening


def test_every_row_of_the_paper_says_that_it_was_not_run(text):
    rows = table(text, "paper")
    assert len(rows) == len(json.loads((ROOT / html.REFERENCE).read_text())["paper"]) == 40
    assert {row["verdict"] for row in rows} == {"not run here"} and {row["ours"] for row in rows} == {""}
    assert {row["source"] for row in rows} == {"[A] abstract", "[R] reading"} and rows[0]["theirs"] == "0.05349"


def test_where_the_numbers_come_from(text):
    assert {row["what"]: row["which"] for row in table(text, "machine")}["torch"].startswith("2.")
    data = table(text, "data")
    assert [(row["source"], row["revision or seed"]) for row in data] == [("made: adding", "seed 7")]
    runs = {row["algorithm"]: row for row in table(text, "runs")}
    assert runs["e3rl"]["seeds"] == "0, 1" and runs["e3rl"]["started from"] == "runs/warmstart/toy"
    assert re.fullmatch("[0-9a-f]{12}", runs["grpo"]["settings"])  # one: both seeds had the same
    assert len(table(text, "ledger")) > 40 and "<code>erasure.kappa</code>" in text


def test_the_studys_numbers_are_all_there(text):
    found = json.loads((ROOT / html.STUDY).read_text())
    want = found["selfcheck"]["e3rl_mixed"]["minus_grpo_equal_tokens"]
    row = next(
        r for r in table(text, "study-training") if (r["task"], r["algorithm"]) == ("study selfcheck", "e3rl_mixed")
    )
    assert float(row["minus grpo, equal tokens, low"]) == want["low"]
    specs = [json.loads(found) for found in re.findall(r'<script type="application/json">(.*?)</script>', text)]
    assert len(specs) == 2 + 3 * 4 + 4 + 1
    assert len(text.encode()) < 3_000_000


def test_the_report_depends_on_what_the_page_reads():
    """But for the study, which DVC would run for it: it is the output of another pipeline."""
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["report"]
    named = {*stage["deps"], *(next(iter(entry)) for entry in stage["params"] if isinstance(entry, dict))}
    read = {str(path) for path in vars(html).values() if isinstance(path, Path) and not path.is_absolute()}
    assert read - named == {"reports/study.json"} and len(read) == 4
    assert "reports/study.json" in (ROOT / "experiments/study/dvc.yaml").read_text()
    elsewhere = {str(path) for path in READ}  # what the simulated machines are given beside code and runs
    assert {path for path in named if not path.startswith(("replication", "runs"))} == elsewhere


def test_the_committed_page_has_the_committed_study():
    """DVC does not know that the report reads reports/study.json (dvc.yaml says why)."""
    page = ROOT / "reports/index.html"
    if not page.exists():
        pytest.skip("`make repro` has not written it yet")
    found = study.training_table(json.loads((ROOT / html.STUDY).read_text()))
    rows = list(csv.DictReader(io.StringIO(found.csv())))
    assert table(page.read_text(), found.name) == rows, "run `python -m dvc repro --single-item --force report`"


@pytest.mark.skipif(shutil.which("tidy") is None, reason="tidy is not installed")
def test_the_html_is_valid(place):
    done = subprocess.run(["tidy", "-q", "-e", place / "reports/index.html"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture(scope="module")
def browser():
    if chromium.FOUND is None:
        pytest.skip("chromium is not installed")
    with chromium.started() as browser:
        yield browser


@pytest.fixture
def opened(browser, place):
    """Opens the page as wide and as light as asked; the console must stay empty, and nothing else be asked for."""
    said, asked, contexts = [], [], []

    def open_page(width=1280, scheme="light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        chromium.show(page, place / "reports/index.html")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not said and {url.split(":")[0] for url in asked} == {"file"} and len(asked) == len(contexts)


def shown_rows(page, table):
    return page.locator(f"#table-{table} tbody tr:not([data-hidden])").count()


def test_filters_hover_and_downloads(opened, text):
    page = opened()
    assert page.get_attribute("html", "data-drawn") == str(text.count('<div class="chart"')) == "19"
    lines = page.locator("#curve-toy-step .mark-line path[aria-label]")
    assert (shown_rows(page, "results"), lines.count()) == (6, 6)  # of two algorithms, two seeds and their mean
    page.select_option("#algorithm", "grpo")
    page.wait_for_function("document.querySelectorAll('#curve-toy-step .mark-line path[aria-label]').length === 3")
    assert shown_rows(page, "results") == 2 and shown_rows(page, "ledger") > 40  # what is of no algorithm stays
    page.select_option("#algorithm", "all")
    page.select_option("#task", "study sparse")
    assert shown_rows(page, "results") == 0 and page.locator("figure:visible").count() == 3
    assert page.inner_text("#told").startswith(str(page.locator("tbody tr:not([data-hidden])").count()))
    page.click("text=Show all")
    page.wait_for_function("document.querySelectorAll('figure:not([data-hidden])').length === 19")
    page.locator("#cost-toy .mark-symbol path").first.hover()
    tip = page.locator("#vg-tooltip-element.visible").inner_text()
    assert "tokens a sample" in tip and "Avg@k" in tip
    with page.expect_download() as download:
        page.click("text=Download results.csv")
    saved = Path(download.value.path()).read_text()
    assert list(csv.DictReader(io.StringIO(saved))) == table(text, "results")
    assert download.value.suggested_filename == "results.csv"


def test_by_keyboard_and_screen_reader(opened):
    from axe_playwright_python.sync_playwright import Axe

    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.focus("#algorithm")
    page.keyboard.press("ArrowDown")
    assert page.input_value("#algorithm") == "dapo" and shown_rows(page, "results") == 0
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelectorAll('#table-results tbody tr:not([data-hidden])').length === 6")
    page.focus("#curve-toy-step ~ .numbers a")
    page.keyboard.press("Enter")
    page.wait_for_selector("#table-curves table", state="visible")  # it was closed
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_on_a_phone_in_the_dark_and_in_print(opened):
    light, dark = opened(390), opened(390, "dark")
    colours = [page.evaluate("getComputedStyle(document.body).backgroundColor") for page in (light, dark)]
    label = "getComputedStyle(document.querySelector('.role-axis-label text')).fill"
    assert colours == ["rgb(255, 255, 255)", "rgb(21, 23, 26)"] and light.evaluate(label) != dark.evaluate(label)
    assert light.evaluate("document.documentElement.scrollWidth") == 390  # only tables scroll, in their own frames
    widths = light.evaluate("[...document.querySelectorAll('.chart svg')].map((e) => e.getBoundingClientRect().right)")
    assert max(widths) <= 390
    assert dark.pdf(format="A4")[:5] == b"%PDF-"  # tells the page that it is printed, which opens every table
    assert dark.locator("details:not([open]):not(.vega-embed details)").count() == 0
    dark.emulate_media(media="print")
    assert dark.evaluate(label) == light.evaluate(label) and not dark.is_visible(".filter")
