"""The metrics of saved samples, by hand."""

import json

import pytest

from replication.errors import UserError
from replication.evaluation.samples import read_samples, summarise, write_samples


def sample(problem, index, verdict, answer, tokens, erased=0, mode="plain"):
    return {
        "benchmark": "held",
        "mode": mode,
        "problem": problem,
        "sample": index,
        "verdict": verdict,
        "answer": answer,
        "tokens": tokens,
        "erased_tokens": erased,
        "erasures": 1 if erased else 0,
        "uncertainty": float(index),
        "ended": verdict != "no answer",
        "text": "a\u2028b",  # a line separator, which is no end of a row
    }


ROWS = [
    sample("a", 0, "correct", "1/2", 10),
    sample("a", 1, "correct", r"\frac12", 20, erased=10),
    sample("a", 2, "wrong", "7.", 10),
    sample("a", 3, "wrong", "7", 10),
    sample("a", 4, "wrong", "8", 10),
    sample("b", 0, "wrong", "1", 10),
    sample("b", 1, "wrong", "2", 10),
    sample("b", 2, "correct", "3", 40),
    sample("b", 3, "no answer", None, 50),
    sample("b", 4, "timed out", "9^9", 10),
]


def test_metrics_by_hand():
    m = summarise(ROWS)["held"]["plain"]
    assert m["avg"] == pytest.approx((2 / 5 + 1 / 5) / 2) and m["pass"] == 1.0
    assert m["pass_at"]["2"] == pytest.approx((1 - 3 / 10 + 1 - 6 / 10) / 2)
    # a: two right answers, spelled differently, tie with two 7s; b: four answers, one vote each
    assert m["maj"] == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert list(m["maj_at"]) == ["1", "2", "4", "5"] and list(m["pass_at"]) == ["1", "2", "3", "4", "5"]
    assert m["accuracy_at_tokens"] == pytest.approx(
        {"5": 0, "10": 0.1, "15": 0.1, "20": 0.1, "25": 0.1, "30": 0.2, "35": 0.2, "40": 0.3, "45": 0.3, "50": 0.3}
    )
    assert (m["samples"], m["problems"], m["tokens"], m["erased_tokens"], m["erasures"]) == (5, 2, 19.0, 1.0, 0.1)
    assert (m["no_answer"], m["timed_out"], m["truncated"]) == (0.1, 0.1, 0.1)


def test_samples_are_read_as_they_were_written(tmp_path):
    assert write_samples(tmp_path, ROWS) == json.loads((tmp_path / "metrics.json").read_text())
    assert read_samples(tmp_path) == ROWS
    problems = [json.loads(line) for line in (tmp_path / "problems.jsonl").read_text().splitlines()]
    assert problems[0] == {
        "benchmark": "held",
        "mode": "plain",
        "problem": "a",
        "correct": 2,
        "samples": 5,
        "maj": 0.5,
        "tokens": 14.0,
    }


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("answer", 7, "`answer` is 7, not a text or null"),
        ("tokens", "5", '`tokens` is "5", not a whole number'),
        ("tokens", float("nan"), "`tokens` is NaN, not a whole number"),
        ("erased_tokens", -1, "`erased_tokens` is -1, not a whole number"),
        ("tokens", 10**30, "`tokens` is 1000000000000000000000000000000, not a whole number"),
        ("ended", 1, "`ended` is 1, not true or false"),
        ("uncertainty", None, "`uncertainty` is null, not a number"),
        ("gold", ["7"], '`gold` is ["7"], not a text or null'),
        ("problem", {}, "`problem` is {}, not a text"),
    ],
)
def test_a_field_of_another_type_is_named(tmp_path, field, value, wanted):
    rows = [ROWS[0], {**ROWS[1], field: value}]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError) as error:
        read_samples(tmp_path)
    what = f"{tmp_path}/samples.jsonl cannot be read (sample 2: {wanted}): name a folder of `replication.evaluate`"
    assert str(error.value) == what


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"verdict": "correct"}'])
def test_damaged_samples_are_named(tmp_path, text):
    (tmp_path / "samples.jsonl").write_text(text)
    with pytest.raises(UserError, match=r"samples\.jsonl cannot be read"):
        read_samples(tmp_path)
