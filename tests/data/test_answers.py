"""What is taken of an answer as it was published, by the rule in docs/data.md."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from replication.data.answers import take_answer
from replication.grading.verdict import Verdict, exact_verdict

GSM8K = (
    "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nNatalia sold 48+24 = <<48+24=72>>72 clips altogether.\n#### 72"
)


@pytest.mark.parametrize(
    ("published", "taken"),
    [
        # marked by ####, which is at the end
        (GSM8K, "72"),
        (GSM8K.replace("\n", " "), "72"),
        (GSM8K.replace("#### 72", "#### 1,200 \n\n"), "1,200"),
        (GSM8K.replace("#### 72", "####-3.50"), "-3.50"),
        ("#### $18", "$18"),
        ("#### $72$", "72"),
        (r"so $\boxed{71}$, no" + "\n" + r"#### \boxed{72}", "72"),
        # marked by a box, of which the last counts
        (r"We get $\boxed{1}$ first." + "\n" + r"Then \[x = \boxed{\frac{1}{\sqrt{2}}}.\]", r"\frac{1}{\sqrt{2}}"),
        (r"\fbox{4} is the number of ways in which a lot of words can say what nobody asked for here", "4"),
        (r"\boxed{72}", "72"),
        (r"$\boxed{\text{(C)}}$", r"\text{(C)}"),
        (r"\boxed 7", "7"),
        (r"\boxed{$\{1,2\}$}", r"\{1,2\}"),
        ("#### Step 1\nAdd.\n#### Step 2\n" + r"So $\boxed{5}$.", "5"),
        (r"<think>\boxed{3}</think> $\boxed{4}$", "4"),
        # not marked
        ("$f(x)=a x+b$, where $b$ is an arbitrary integer, and $a$ is an arbitrary positive integer", None),
        ("The sequence converges", None),
        ("Dr. No", None),
        ("+".join(f"x^{{{n}}}" for n in range(200)), None),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", None),
        ("a\nb", None),
        (r"\( 2n \)", "2n"),
        (r"\[ 2n \]", "2n"),
        (r"\(1\), \(2\)", None),
        ("$1$, $2$", None),
        ("#5", None),
        # numbers and lists
        (72, "72"),
        (Decimal("1.20E+3"), "1200"),
        (Decimal("72.00"), "72"),
        (Decimal("-0.0"), "0"),
        (1e22, "1" + "0" * 22),
        (1e-7, "0.0000001"),
        (2**64 - 1, "18446744073709551615"),
        (["1", 2, 0.5], "1, 2, 0.5"),
        ([r"so \boxed{3}", "#### 4"], "3, 4"),
        ("['$2$', '3']", "2, 3"),
    ],
)
def test_what_is_taken(published: Any, taken: str | None) -> None:
    found = take_answer(published)
    assert found == (published if taken is None else taken)
    assert take_answer(found) == found


@pytest.mark.parametrize(
    ("published", "why"),
    [
        (GSM8K.removesuffix("#### 72"), r"9 words, none marked as the answer by \boxed{...} or a last ####"),
        ("It follows from what was said before that for each of the many numbers there is one that is smaller than "
         "all of them", "24 words, none marked"),
        ("小明有五个苹果，又买了三个，一共有八个苹果。所以他现在有八个苹果。", "words, none marked"),
        ("#### Step 1\nadd\nand so 5", "has a mark (a box or ####) without an answer"),
        (GSM8K.removesuffix("72"), "empty, where an answer must stand"),
        (r"the answer is \boxed{", "has a mark"),
        (r"the answer is \boxed{}", "has a mark"),
        ("$ $", "empty"),
        ("\frac12", r"holds the control character '\x0c' (in JSON a backslash is written twice)"),
        (r"so $" + "\boxed{5}$", r"control character '\x08'"),
        ("2 \times 3", r"control character '\t'"),
        ("a\0b", r"control character '\x00'"),
        ("\ud800", "half of a surrogate pair"),
        ("9" * 2001, "an answer of 2,001 characters, more than 2,000"),
        (Decimal("1" * 5001), "a number of 5,001 digits, more than 2,000"),
        (Decimal("1e-999999999"), "a number of 1,000,000,000 digits"),
        (float("nan"), "nan is not a number"),
        (Decimal("NaN"), "NaN is not a number"),
        (float("inf"), "inf is not a number"),
        (True, "true is not an answer"),
        (None, "null is not an answer"),
        (b"5", "b'5' is not an answer"),
        ([], "an empty list"),
        ([[1, 2], [3]], "[1, 2] is not an answer"),
        (["1", None], "null is not an answer"),
        ({"value": 5}, "{'value': 5} is not an answer"),
        ("['a'" + ", [" * 100_000, "an answer of 300,004 characters"),
    ],
)  # fmt: skip
def test_what_is_refused_and_why(published: Any, why: str) -> None:
    with pytest.raises(ValueError) as error:
        take_answer(published)
    assert why in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 200


@pytest.mark.parametrize(("published", "answer"), [(GSM8K, "72"), ("5 * 240 = 1,200\n#### $1,200", "1200")])
def test_a_right_answer_is_graded_right_by_what_was_taken(published: str, answer: str) -> None:
    assert exact_verdict(take_answer(published), answer) is Verdict.CORRECT
    assert exact_verdict(published, answer) is not Verdict.CORRECT  # by the text as it was published
