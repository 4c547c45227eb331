"""The page of rules, its examples, and what other graders' users reported."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from replication.grading.pool import Grader

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "scoring.md"
REPORTS = Path(__file__).with_name("public_reports.jsonl")
SOURCES = sorted((ROOT / "replication").rglob("*.py"))

Case = tuple[str, str, str]


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as grader:
        yield grader


def rows(section: str) -> list[list[str]]:
    """The cells of a table of the page, without its head."""
    text = PAGE.read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def misjudged(grader: Grader, cases: list[Case]) -> list[tuple[Case, str, str]]:
    """The cases (reference, completion, verdict) that get another verdict than they must."""
    graded = grader.grade_many([(gold, completion) for gold, completion, _ in cases])
    return [(case, g.verdict, g.reason) for case, g in zip(cases, graded, strict=True) if g.verdict != case[2]]


def test_the_pages_examples_get_the_verdict_it_says(grader: Grader) -> None:
    cases = []
    for gold, text, verdict, _ in rows("Examples"):
        is_whole = re.search(r"\\boxed|think>", text)
        cases.append((gold.strip("`"), text.strip("`") if is_whole else rf"\boxed{{{text.strip('`')}}}", verdict))
    assert len(cases) > 40 and {verdict for *_, verdict in cases} == {"correct", "wrong", "no answer"}
    assert misjudged(grader, cases) == []


def test_each_rule_of_the_page_names_a_test_that_exists() -> None:
    named = [row[2].strip("`").split("::") for row in rows("The rules")]
    assert len(named) == 18
    for path, test in named:
        assert test in {node.name for node in ast.parse((ROOT / path).read_text()).body if hasattr(node, "name")}, test


def test_what_users_of_other_graders_reported_gets_its_verdict(grader: Grader) -> None:
    reports = [json.loads(line) for line in REPORTS.read_text().splitlines()]
    assert all(report["reason"] and "/" in report["source"] for report in reports)
    assert len([report for report in reports if "#" in report["source"]]) >= 100, "issues and pull requests alone"
    texts = [report["completion"] if "completion" in report else rf"\boxed{{{report['answer']}}}" for report in reports]
    cases = [(report["gold"], text, report["verdict"]) for report, text in zip(reports, texts, strict=True)]
    assert len(set(cases)) == len(cases)
    assert misjudged(grader, cases) == []


def test_nothing_here_evaluates_text() -> None:
    """No name of a function that runs text is called or imported anywhere in the grader."""
    forbidden = {"eval", "exec", "compile", "sympify", "parse_expr", "lambdify", "S"}
    for path in (ROOT / "replication" / "grading").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "id", getattr(node, "attr", getattr(node, "name", "")))
            is_regex = isinstance(node, ast.Attribute) and ast.unparse(node) == "re.compile"
            assert is_regex or name not in forbidden, f"{path.name}: {name}"


def test_math_verify_is_called_in_one_place_and_by_keywords() -> None:
    """Its arguments changed places between releases; and two ways to grade would be two graders."""
    callers = [path for path in SOURCES if re.search("^ *(?:from|import) math_verify", path.read_text(), re.MULTILINE)]
    assert [path.name for path in callers] == ["symbolic.py"]
    calls = [node for node in ast.walk(ast.parse(callers[0].read_text())) if isinstance(node, ast.Call)]
    theirs = [call for call in calls if ast.unparse(call.func) in {"parse", "verify"}]
    assert len(theirs) == 2 and not any(call.args for call in theirs)
