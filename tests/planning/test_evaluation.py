"""The plan of an evaluation, by hand, and what the page says of it."""

import json
import re
from pathlib import Path

import pytest
from commands import command

from replication.cli import load_run
from replication.evaluate import SECTIONS
from replication.planning.evaluation import PUBLISHED, chunk_plan, findings, makespan, memory

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs/evaluation.md").read_text()
EMBEDDED = ["--rollout.engine=torch", "--rollout.max_rows=32"]


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.chdir(ROOT)


def paper(model, *flags):
    config = load_run([*SECTIONS, "grading", "trainer"], [f"--model={model}", *flags]).config
    return config, findings(config, PUBLISHED, model)


def test_the_next_chunk_goes_to_the_device_that_is_free_first():
    assert makespan([3, 2, 2, 1], 1) == 8
    assert makespan([3, 2, 2, 1], 2) == 4  # 3 and 1 beside 2 and 2
    assert makespan([3, 2], 4) == 3


def test_the_papers_evaluation_by_hand():
    config, found = paper("4b")
    assert found["completions"] == 1577 * 32 * 2 == 100_928
    assert found["kept"]["plain"] == found["sampled"]["plain"] == 1577 * 32 * 16 * 512
    assert found["sampled"]["erased"] == pytest.approx(1.26 * found["kept"]["erased"])
    assert found["memory"] == {"vLLM": 40 * 2**30}
    one, eight = found["seconds"]["1"], found["seconds"]["8"]
    assert one / 8 < eight < one / 6
    p = chunk_plan(config, "plain", 32)
    assert (p.world, p.rows, p.erasures, p.element) == (1, 1024, 0, 2)


def test_the_embedded_engine_holds_weights_and_cache():
    config, found = paper("4b", *EMBEDDED)
    assert set(found["memory"]) == {"weights", "KV cache", "logits", "record"}
    assert memory(chunk_plan(config, "erased", 1))["weights"] == 2 * 4_022_468_096


def test_the_hours_that_the_page_tells_are_the_plans():
    rows = []
    for model, flags, name in [
        ("4b", [], "vllm"),
        ("4b", EMBEDDED, "torch"),
        ("8b", [], "vllm"),
        ("8b", EMBEDDED, "torch"),
    ]:
        hours = [paper(model, *flags)[1]["seconds"][n] / 3600 for n in ("1", "8", "16")]
        rows.append(f"| {model.upper()}, `{name}` | {' | '.join(f'{h:.0f}' for h in hours)} |")
    assert "\n".join(rows) in DOC


def test_the_command_needs_nothing_and_says_what_it_would_take(tmp_path):
    said = command("evaluate", "--model=4b", "--plan", cwd=tmp_path)
    assert re.search(r"^time on 8 GPUs: [\d.]+ h$", said.stdout, re.M) and "assumed:" in said.stdout
    found = json.loads(command("evaluate", "--model=4b", "--plan", "--json", cwd=tmp_path).stdout)
    assert found["benchmarks"] == PUBLISHED
    refused = command("evaluate", "--model=4b", "--plan", "--rollout.max_rows=512", cwd=tmp_path, check=False)
    assert refused.returncode == 1 and re.search(r"DOES NOT FIT: \d{3}\.\d GiB of 73.6 GiB of each GPU", refused.stdout)
    asked = command("evaluate", "--model=4b", "--json", cwd=tmp_path, check=False)
    assert asked.returncode == 2 and "--json is for --plan" in asked.stderr
