"""What the pages say of a run's cost is what the plan says of params.yaml."""

import re
from pathlib import Path

import pytest
from plans import paper

from replication.planning import vllm
from replication.planning.page import findings, page, times

ROOT = Path(__file__).parents[2]
RUNNING, ENGINES = ((ROOT / "docs" / name).read_text() for name in ("running.md", "engines.md"))
EMBEDDED = "--rollout.engine torch --rollout.max_rows 32"


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.chdir(ROOT)


def minutes(model, flags=""):
    p = paper(model, flags)
    return times(p, fits=True)["seconds"]


def test_the_minutes_of_a_step_are_the_plans():
    steps = {model: minutes(model) for model in ("4b", "8b")}
    slow = {model: minutes(model, EMBEDDED) for model in ("4b", "8b")}
    told = [f"{found['step'] / 60:.0f}" for found in (*steps.values(), *slow.values())]
    text = " ".join(RUNNING.split())
    assert f"a step takes about {told[0]} minutes for 4B and {told[1]} minutes for 8B on eight H100" in text
    assert f"with `{EMBEDDED}` a step takes {told[2]} and {told[3]} minutes" in text
    days = [f"{500 * found['step'] / 86400:.0f}" for found in steps.values()]
    assert f"500 steps are then {days[0]} and {days[1]} days" in text
    engines = " ".join(ENGINES.split())
    assert f"4B takes {told[0]} minutes instead of {told[2]}" in engines
    assert f"By it, the paper's 4B has room for {vllm.room(paper('4b')):.0%}".replace("%", " %") in engines


def test_the_plan_that_the_page_shows():
    p = paper("8b", "--train.steps 500")
    shown = RUNNING.split("$ python -m replication.fit --model 8b --plan\n")[1].split("```")[0].strip()
    assert page(findings(p, "q8b"), p).startswith(shown)
    for name, flags in (("4B on 8 GPUs", ""), ("8B on 8 GPUs", ""), ("8B on one GPU", "--trainer.devices 1")):
        found = findings(paper(name[:2].lower(), flags), name)["peak"] / 2**30
        told = float(re.search(rf"\| {name} \| ([\d.]+) GiB", RUNNING)[1])
        assert told == pytest.approx(found, abs=0.5 if told > 100 else 0.05)
