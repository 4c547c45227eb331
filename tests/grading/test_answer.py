"""The answer a completion commits to: the last balanced box after its thinking."""

from __future__ import annotations

import time

import pytest

from replication.grading.answer import extract_answer

FOUND = [
    (r"so \boxed{42}.", "42"),
    (r"\fbox{42}", "42"),
    (r"\framebox{42}", "42"),
    (r"\boxed {42}", "42"),
    ("\\boxed{\n 42 \n}", "42"),
    (r"\boxed{1} then \boxed{2}", "2"),
    (r"\boxed{1} then \fbox{2}", "2"),
    (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    (r"\boxed{\{1,2\}}", r"\{1,2\}"),
    (r"\boxed{\left\{x : x > 1\right\}}", r"\left\{x : x > 1\right\}"),
    (r"\boxed{1\\}", "1\\\\"),  # the double backslash escapes no brace
    (r"\boxed{\boxed{42}}", "42"),
    (r"\boxed{\boxed{42}", "42"),
    (r"\boxed{x = \boxed{5} }", "5"),
    (r"\boxed{7} and then \boxed{4", "7"),  # the last balanced one
    (r"stray } and { then \boxed{42}", "42"),
    (r"$\boxed 42$", "42"),
    (r"\boxed 42", "42"),
    (r"\boxed42", "42"),
    ("\\boxed -7\nthat was it", "-7"),
    (r"\(\boxed \frac{1}{2}\)", r"\frac{1}{2}"),
    (r"<think>\boxed{7}</think> \boxed{42}", "42"),
    (r"\boxed{7}</think> \boxed{42}", "42"),  # the template opened the thinking
    (r"<think>a</think>\boxed{1}<think>b</think>\boxed{2}", "2"),
    (r"\boxed{5}. Put answers in \boxed.", "5"),
    (r"\boxed{5}. I used \boxed as told.", "5"),
    (r"\boxed{1} or \boxed{2}", r"1 \text{ or } 2"),  # hedging: nothing but "or" between the last two
    (r"$\boxed{1}$, or $\boxed{2}$.", r"1 \text{ or } 2"),
    (r"\[\boxed{1}\quad\text{or}\quad\boxed{2}\]", r"1 \text{ or } 2"),
    ("\\boxed{1}\n\n**OR**\n\n\\boxed{2}", r"1 \text{ or } 2"),
    (r"\boxed{1} or \boxed{2} or \boxed{3}", r"1 \text{ or } 2 \text{ or } 3"),
    (r"\boxed{1}, \boxed{2} or \boxed{3}", r"2 \text{ or } 3"),
    (r"\boxed 1 or \boxed 2", r"1 \text{ or } 2"),
    (r"\boxed{2} or \boxed{2}", "2"),
    (r"\boxed{} or \boxed{2}", "2"),
    (r"\boxed{1} or rather \boxed{2}", "2"),  # the last one counts
    (r"\boxed{1} or equivalently, \boxed{2}", "2"),
    (r"\boxed{1} for \boxed{2}", "2"),
    (r"\boxed{1} or \boxed{2}. So \boxed{3}", "3"),
    (r"\boxed{1} and \boxed{2}", "2"),
    (r"<think>\boxed{1} or</think>\boxed{2}", "2"),
]

NOTHING = [
    "",
    "The answer is 42",
    "Answer: 42",
    r"\boxed{}",
    r"\boxed{ \ }",
    r"\boxed{\text{ }}",
    r"\boxed{42} or rather \boxed{}",
    r"\boxed{42",
    r"\boxed{\frac{1}{2}",
    r"\boxed{42\}",
    r"\boxed",
    r"\boxedly{42}",
    r"<think>\boxed{42}</think> I could not finish.",
    r"<think>\boxed{42}",
    r"<think>a</think>\boxed{1}<think>\boxed{2}",
]

LONG = [
    "\\boxed{" * 200_000,
    "\\boxed{" * 100_000 + "}" * 100_000,
    "\\boxed " * 200_000,
    "{" * 1_000_000,
    "\\boxed" + " " * 1_000_000,
    "\\boxed{" + " " * 1_000_000 + "}",
    "\\boxed{" + "\\text" * 200_000 + "}",
    "<think></think>" * 100_000,
    "\\boxed{1} or " * 100_000 + "\\boxed{2}",
    "\\boxed 1 or " * 100_000,
    "\\boxed 1" + " " * 1_000_000,
    "\\boxed{1}" + " " * 1_000_000 + "or \\boxed{2}",
]


@pytest.mark.parametrize(("completion", "answer"), FOUND)
def test_answer_is_found(completion: str, answer: str) -> None:
    assert extract_answer(completion) == answer


@pytest.mark.parametrize("completion", NOTHING)
def test_there_is_no_answer(completion: str) -> None:
    assert extract_answer(completion) is None


@pytest.mark.parametrize("text", LONG, ids=lambda text: text[:12])
def test_a_megabyte_takes_linear_time(text: str) -> None:
    started = time.process_time()
    extract_answer(text)
    assert time.process_time() - started < 2.0
