"""Two runs on the same problems: gains at equal samples and at equal tokens."""

import json
import sys

import pytest

from replication import compare
from replication.errors import UserError
from replication.evaluation.samples import write_samples


def write_run(folder, hits, tokens, modes=("plain",), problems=None):
    """`hits` is [problems][samples]."""
    folder.mkdir()
    rows = [
        {
            "benchmark": "held",
            "mode": mode,
            "problem": name,
            "sample": j,
            "verdict": "correct" if hit else "wrong",
            "answer": "7" if hit else str(j),
            "tokens": tokens,
            "erased_tokens": 0,
            "erasures": 0,
            "uncertainty": 0.0,
            "ended": True,
        }
        for mode in modes
        for name, samples in zip(problems or "abcd", hits, strict=True)
        for j, hit in enumerate(samples)
    ]
    write_samples(folder, rows)
    return str(folder)


@pytest.fixture
def runs(tmp_path):
    a = write_run(tmp_path / "a", [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], 20, ("erased", "plain"))
    b = write_run(tmp_path / "b", [[1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], 10, ("plain",))
    return a, b


def test_gains_are_paired_and_at_equal_tokens(runs):
    a, b = runs
    ((name, ours, theirs),) = compare.pairs(a, b)
    assert name == "held, plain"
    gains = compare.gains(ours, theirs)
    assert list(gains) == [
        "Avg@k",
        "Pass at 40 tokens (2 against 4 samples)",
        "Maj at 40 tokens (2 against 4 samples)",
    ]
    average, passed, voted = gains.values()
    assert average.mean == pytest.approx((0.25 + 0.25 + 0.5 + 0) / 4)
    # two of a's samples against all four of b's: 5/6, 1/2, 1, 0 against 1, 0, 1, 0
    assert passed.mean == pytest.approx((5 / 6 - 1 + 0.5) / 4)
    assert average.low < average.mean < average.high and voted.mean <= 1


def test_a_mode_of_each_may_be_named(runs):
    a, b = runs
    ((name, ours, _),) = compare.pairs(f"{a}:erased", f"{b}:plain")
    assert name == "held, erased against plain" and ours.tokens == 20
    with pytest.raises(UserError) as error:
        compare.pairs(f"{a}:erased", f"{b}:erased")
    held = f"{a} holds held erased, held plain; {b} holds held plain"
    what = f"{a}:erased and {b}:erased share no benchmark and mode ({held}): name a mode of each, FOLDER:MODE"
    assert str(error.value) == what


def test_other_problems_are_refused(runs, tmp_path):
    c = write_run(tmp_path / "c", [[1, 0]] * 4, 10, problems="abce")
    with pytest.raises(UserError, match="different problems"):
        compare.pairs(runs[0], c)
    with pytest.raises(UserError, match="name a folder of"):
        compare.pairs(runs[0], str(tmp_path / "none"))


def test_a_file_that_cannot_be_written_is_known_before_the_work(runs, monkeypatch):
    monkeypatch.setattr(compare, "pairs", None)  # is not reached
    monkeypatch.setattr(sys, "argv", ["compare", *runs, "--out", "/dev/null"])
    with pytest.raises(UserError, match="--out /dev/null is a device"):
        compare.main()


def test_the_command_says_one_of_three_words(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["compare", *runs, "--out", str(tmp_path / "gains.jsonl")])
    compare.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and all(line.endswith(("reproduced", "underpowered")) for line in lines[1:])
    found = [json.loads(line) for line in (tmp_path / "gains.jsonl").read_text().splitlines()]
    assert found[0]["verdict"] == "underpowered" and found[0]["low"] < 0.25 < found[0]["high"]
