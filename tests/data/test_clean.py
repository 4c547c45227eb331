from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.config import Source
from replication.data.clean import decontaminate, draw_subset, drop_duplicates, normalize_question
from replication.data.sources import Problem, load_problems

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "benchmarks"

WALK = (
    "Every morning Aya goes for a $9$-kilometer-long walk and stops at a coffee shop afterwards. When she walks at a"
    " constant speed of $s$ kilometers per hour, the walk takes her 4 hours, including $t$ minutes spent in the shop."
)

LONG = " ".join(f"Remark {i} says that nothing in remark {i + 1} matters." for i in range(20))


def problems(*pairs: tuple[str, str]) -> list[Problem]:
    return [Problem(f"train-{i}", question, answer) for i, (question, answer) in enumerate(pairs, 1)]


def kept_ids(kept: list[Problem]) -> list[str]:
    return [problem.id for problem in kept]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Find  $x$.\n", "find $x$"),
        ("If $x\\,=\\,3$, find $\\left( x \\right)$", "If $x=3$, find $(x)$"),
        ("Compute $\\dfrac{1}{2}+x^{2}$", "compute \\(\\frac12 + x^2\\)"),
        ("$1,000$ or $10{,}000$ or $10,\\!000$", "$1000$ or $10000$ or $10000$"),
        ("$a \\leq b$ and $60^\\circ$", "a ≤ b and 60°"),
        ("Ｆｉｎｄ x² − 1", "Find x^2 - 1"),
        ("Area? [asy]draw((0,0)--(1,1));[/asy]", "Area?"),
        ("How many eggs does Janet’s duck lay?", "How many eggs does Janet's duck lay?"),
    ],
)
def test_copies_of_a_question_are_equal(a, b):
    assert normalize_question(a) == normalize_question(b) != ""


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Compute $3+4$", "Compute $3-4$"),
        ("Compute $3 \\cdot 4$", "Compute $34$"),
        ("Compute $3.5$", "Compute $35$"),
        ("The point $(1,2)$", "The point $(12)$"),
        ("Find $n!$", "Find $n$"),
        ("Find $f'(x)$", "Find $f(x)$"),
        ("Compute $\\sin x$", "Compute $\\cos x$"),
        ("Compute $\\frac{1}{23}$", "Compute $\\frac{12}{3}$"),
    ],
)
def test_different_questions_differ(a, b):
    assert normalize_question(a) != normalize_question(b)


@given(st.lists(st.sampled_from(["Find", "x", "12", "+", "=", "\\frac", "\\sin", "(", ")", "y"]), min_size=1))
def test_spaces_case_and_layout_do_not_matter(parts):
    plain = " ".join(parts)
    dressed = " \\left \n".join(parts).upper().replace("\\FRAC", "\\dfrac").replace("\\SIN", "\\sin")
    assert normalize_question(plain) == normalize_question(dressed)


def test_duplicates_keep_the_first_and_conflicts_go_entirely():
    given = problems(
        ("What is $1+1$?", "2"),
        ("What is $2+2$?", "4"),
        ("what is 1 + 1", " 2"),
        ("What is  $2+2$", "5"),
        ("What is $3+3$?", "6"),
        ("what is $2+2$", "4"),
    )
    kept, removed = drop_duplicates(given)
    assert kept_ids(kept) == ["train-1", "train-5"]
    assert [(r.problem.id, r.reason, r.match) for r in removed] == [
        ("train-2", "conflicting", "train-4"),
        ("train-3", "duplicate", "train-1"),
        ("train-4", "conflicting", "train-2"),
        ("train-6", "conflicting", "train-2"),
    ]


def test_a_benchmark_problem_is_found_whatever_its_layout():
    train = problems(
        ("Find  $\\left( x+1 \\right)\\,^{2}$", "a"),
        ("Find $(x-1)^2$.", "b"),
        (LONG + WALK.replace("$", "") + LONG, "c"),
        (WALK.replace("coffee", "tea"), "d"),
        ("Every morning Aya goes for a run.", "e"),
    )
    kept, removed = decontaminate(train, {"short": ["Find $(x+1)^2$."], "aime": ["Unlike the rest.", WALK]})
    assert kept_ids(kept) == ["train-2", "train-5"]
    assert [(r.problem.id, r.reason, r.match) for r in removed] == [
        ("train-1", "exact", "short-1"),
        ("train-3", "overlap", "aime-2"),
        ("train-4", "overlap", "aime-2"),
    ]


def test_a_common_ending_is_no_copy():
    ending = (
        " The result can be written as $\\frac{m}{n}$, where $m$ and $n$ are relatively prime positive integers."
        " Find $m+n$."
    )
    octagon = "Each vertex of a regular octagon is independently colored either red or blue with equal probability."
    lottery = "Jen enters a lottery by picking four distinct numbers from the first ten, and wins if two are drawn."
    train = problems((lottery + " She plays it again every week for a year with the same numbers." + ending, "116"))
    benchmark = octagon + " It is then rotated so that all blue vertices end up where red ones were." + ending
    kept, removed = decontaminate(train, {"aime24": [benchmark]})
    assert kept == train and removed == []


def test_the_first_benchmark_in_order_is_blamed():
    kept, removed = decontaminate(problems((WALK, "204")), {"b": ["No.", WALK], "a": [WALK]})
    assert kept == [] and removed[0].match == "b-2"
    kept, removed = decontaminate(problems((WALK + " Why?", "204")), {"b": ["No.", WALK], "a": [WALK]})
    assert kept == [] and removed[0].match == "b-2"


def test_without_benchmarks_everything_stays():
    train = problems((WALK, "204"))
    assert decontaminate(train, {}) == (train, [])


def test_the_subset_depends_on_the_seed_and_keeps_the_order():
    given = problems(*[(f"What is {i}?", str(i)) for i in range(200)])
    drawn = draw_subset(given, 50, seed=3)
    places = [given.index(problem) for problem in drawn]
    assert len(set(places)) == 50 and places == sorted(places)
    assert drawn == draw_subset(given, 50, seed=3)
    assert drawn != draw_subset(given, 50, seed=4)
    assert places != list(range(50))
    assert draw_subset(given, 200, seed=3) == draw_subset(given, 999, seed=3) == given


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
def test_gsm8k_shares_few_problems_with_the_benchmarks_and_copies_are_all_found():
    columns = {"question": "problem", "final_answer": "answer"}
    names = ("aime24", "aime25", "amc23", "math500", "minerva", "olympiadbench", "gsm8k_test", "gsm8k_train")
    loaded = {n: load_problems(Source(str(SHARED / f"{n}.jsonl"), columns=columns), n) for n in names}
    train = loaded.pop("gsm8k_train")
    questions = {name: [p.question for p in found] for name, found in loaded.items()}
    kept, removed = decontaminate(train, questions)
    assert len(kept) + len(removed) == len(train)
    assert {r.match for r in removed} == {"gsm8k_test-603", "gsm8k_test-633"}  # two templates with other numbers

    rng = random.Random(0)
    every = [p for found in loaded.values() for p in found]
    copies = [Problem(p.id, p.question.replace(" ", "  ").upper(), p.final_answer) for p in rng.sample(every, 300)]
    kept, removed = decontaminate([*train[:100], *copies], questions)
    assert {r.problem.id for r in removed} == {p.id for p in copies}
