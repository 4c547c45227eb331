"""What the comparison of engines and the evidence on a pretrained model rest on."""

import json

import numpy as np
import pytest
import torch
from small_models import small_model

from experiments.decoding import erasing, evidence, peers
from experiments.decoding.bench import COSTS, Case, Table, compare_engines
from experiments.decoding.families import CAPITALS, Family, Question, solution
from replication.config import RolloutConfig
from replication.policy import small_tokenizer

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12]]
SETTINGS = RolloutConfig(group_size=2, segments=3, segment_tokens=4, max_rows=4)


def test_the_peers_sample_completions_of_the_same_lengths(model):
    """The functions assert it of every completion; one prompt more than fits at once."""
    spent, done = peers.engine(model, PROMPTS, 2, 16, 1)
    lengths = done.length.tolist()
    assert spent > 0 and len(lengths) == 3 and max(lengths) <= 16
    assert peers.generate(model, PROMPTS, 2, lengths) > 0
    assert peers.continuous(model, PROMPTS, 2, lengths) > 0


def test_the_engine_without_erasing_samples_the_same(model):
    off, without = (
        erasing.judged(model, PROMPTS, SETTINGS, peers.PLAIN, judge) for judge in (erasing.Judge, erasing.Acceptor)
    )
    assert torch.equal(off.tokens, without.tokens) and torch.equal(off.start, without.start)


def test_erasing_takes_no_memory(model):
    on, off = (erasing.kv_bytes(model, PROMPTS, SETTINGS, e) for e in (erasing.ERASED, peers.PLAIN))
    # layers, keys and values, heads, width, bytes; rows and capacity of the completions, then of the prompts
    token = 2 * 2 * 2 * 8 * 4
    assert on == off == token * (4 * (4 + 12) + 2 * 2)


def test_exponent():
    assert erasing.exponent([1, 2, 4, 8], [3, 12, 48, 192]) == pytest.approx(2)
    assert erasing.exponent([1, 10], [5, 5]) == pytest.approx(0)


def test_starting_over_needs_all_segments_at_once(model):
    found = erasing.against_starting_over(
        model, PROMPTS * 4, RolloutConfig(**{**vars(SETTINGS), "group_size": 1}), 0.6, 40, 1
    )
    assert found["left"] == 0 == found["left again"]
    assert found["tokens again"] > found["tokens"] > 12 * 12


def test_rows_of_the_table_are_ours_over_theirs(capsys):
    table = Table()
    table.add("a name", 3.0, 2.0, "samples/s", ">= 1", "a note")
    (row,) = table.rows
    assert (row["ours"], row["peer"], row["ratio"], row["unit"]) == (3.0, 2.0, 1.5, "samples/s")
    assert "a name" in capsys.readouterr().out


def test_a_row_gives_way_to_the_newer_one_of_its_name_and_unit(tmp_path):
    table = Table(tmp_path / "rows.json")
    for unit in ("s", "tokens"):
        table.add("a name", 1.0, 2.0, unit, "")
    again = Table(tmp_path / "rows.json", rows=json.loads((tmp_path / "rows.json").read_text())["rows"])
    again.add("a name", 3.0, 2.0, "s", "")
    again.add("another", 3.0, 2.0, "s", "<= 1")
    assert again.rows[-1]["met"] is False
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [(r["name"], r["unit"], r["ours"]) for r in rows] == [
        ("a name", "s", 3.0),
        ("a name", "tokens", 1.0),
        ("another", "s", 3.0),
    ]


def test_every_comparison_runs_and_has_its_row(model):
    table = Table()
    compare_engines(table, "small", model, PROMPTS, 1, 16, {2: (3, 1, 1.3)})
    for cost in COSTS.values():
        cost(table, Case("small", model, PROMPTS, 8, 1, (1, 2)))
    names = [row["name"].split(", ", 2)[2] for row in table.rows]
    assert names[:2] == ["generate", "continuous batching"] and len(names) == 16
    assert names[2:4] == ["erasing, generate", "erasing, continuous batching"]
    wanted = {row["name"].split(", ", 2)[2]: row["wanted"] for row in table.rows}
    assert wanted["generate"] == ">= 1.3" and wanted["erasure off, without its code"] == "<= 1.03"
    for row in table.rows:
        if row["wanted"]:
            sign, bound = row["wanted"].split()
            met = row["ratio"] >= float(bound) if sign == ">=" else row["ratio"] <= float(bound)
            assert row["met"] == met
    assert {row["name"].split(", ", 2)[2] for row in table.rows if row["met"] is None} == {
        "time over length",
        "a token where groups wait, erasure on, off",
    }


def test_budgets_pay_for_samples():
    values = np.array([[0.2, 0.0], [0.4, 0.0], [0.5, 1.0]])  # of 1, 2, 3 samples, for each of two problems
    assert evidence.at_budget(values, 10.0, 10) == pytest.approx([0.2, 0.0])
    assert evidence.at_budget(values, 10.0, 20) == pytest.approx([0.4, 0.0])
    assert evidence.at_budget(values, 10.0, 25) == pytest.approx([0.45, 0.5])
    assert evidence.at_budget(values, 10.0, 30) == pytest.approx([0.5, 1.0])
    assert evidence.at_budget(values, 10.0, 9) is None and evidence.at_budget(values, 10.0, 31) is None


def test_erasing_is_compared_with_the_best_temperature_at_the_same_tokens():
    def row(*values):
        cells = dict.fromkeys(evidence.BUDGETS) | {64: np.array(values)}
        return {"majority": cells, "best": dict.fromkeys(evidence.BUDGETS)}

    settings = {"plain": row(0.0, 0.2), "plain, temperature 0.5": row(0.5, 0.3), "erased by surprisal": row(0.6, 0.6)}
    found = evidence.against_temperatures(settings, "erased by surprisal")
    assert found["best"] == {} and found["majority"].keys() == {"64"}
    assert found["majority"]["64"]["against"] == "plain, temperature 0.5"
    assert found["majority"]["64"]["gain"][0] == pytest.approx(0.2)  # of 0.1 and 0.3


def test_worked_sums():
    assert solution([4, 7, 5]) == "4 + 7 = 11; 11 + 5 = 16; Answer: 16"
    assert len(CAPITALS) == 48 == len(set(CAPITALS.values()))


@pytest.fixture
def family(monkeypatch):
    monkeypatch.setattr(evidence, "GROUP", 4)
    tokenizer = small_tokenizer()
    questions = [Question(q, tokenizer(q).input_ids, "3", tokenizer("3").input_ids) for q in ("1+2>", "2+1>")]
    return Family(questions, [tokenizer.eos_token_id], 2, lambda text: text[:1] or None), tokenizer


def test_measures_of_a_family(family):
    """Of the eight completions one group has two right, the other none."""
    questions, tokenizer = family
    model = small_model()
    done = evidence.sample(model, questions, erasing.ERASED, 1.0, 8)
    three, five = (tokenizer(c).input_ids[0] for c in "35")
    done.tokens[:, 0] = torch.tensor([three, five, three, five] + [five] * 4)
    found, by_problem = evidence.measure(done, questions, tokenizer, 8)
    assert by_problem["correct"].tolist() == [[True, False, True, False], [False] * 4]
    assert found["accuracy"][0] == 0.25 and found["distinct"] == 1.5
    assert found["tokens"] == pytest.approx(float((done.length + done.erased_tokens).float().mean()), abs=0.01)


def test_a_fault_is_the_first_token_that_differs(family):
    questions, tokenizer = family
    done = evidence.sample(small_model(), questions, peers.PLAIN, 1.0, 8)
    three, five = (tokenizer(c).input_ids[0] for c in "35")
    wrong = torch.tensor([False, True, False, True] * 2)
    done.tokens[:, 0] = torch.where(wrong, five, three)
    done.logp = torch.where(wrong, -5.0, -0.1)[:, None].expand_as(done.logp)
    assert evidence.first_fault_auc(done, questions, peers.PLAIN) == [1.0, None]


def test_the_page_names_every_setting(family):
    questions, tokenizer = family
    done = evidence.sample(small_model(), questions, peers.PLAIN, 1.0, 8)
    row, _ = evidence.measure(done, questions, tokenizer, 8)
    settings = {"plain": row, "erased": {**row, "gain": [0.1, -0.05, 0.25]}}
    equal = {"erased": {"majority": {"64": {"against": "plain", "gain": [-0.2, -0.3, -0.1]}}, "best": {}}}
    chain = {"problems": 2, "settings": settings, "auc_completion": {"surprisal": 0.5}, "equal_tokens": equal}
    text = evidence.page({"chain": chain}, "a model")
    assert "| erased |" in text and "0.100 [-0.050, 0.250]" in text and "surprisal 0.500" in text
    assert "| -0.200 [-0.300, -0.100] (plain) | - |" in text
