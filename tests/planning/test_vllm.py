"""The plan of rollouts on vLLM, by hand."""

import json
from dataclasses import replace

import pytest
from commands import ROOT
from plans import paper

from replication.cli import load_run
from replication.evaluate import SECTIONS
from replication.planning import evaluation, memory, pace, seconds, vllm
from replication.planning.page import findings, page

pytestmark = pytest.mark.usefixtures("fixed_settings")
FLAGS = "--rollout.engine vllm --rollout.gpu_share 0.5 --rollout.max_rows 256 --objective.correction none"


def test_memory_and_passes_of_4b_by_hand():
    """40 GiB of each GPU, less 2 of workspace and 8.04 GB of bfloat16 weights, for pages of 147,456 bytes a token."""
    p = paper("4b", FLAGS)
    weights, token = 4_022_468_096, 2 * 36 * 8 * 128 * 2
    assert vllm.held(p) == 40 * 2**30 and vllm.token(p) == token
    room = 38 * 2**30 - 2 * weights
    rows = room / (token * (256 + 4096))
    assert vllm.cache(p) == room and vllm.rows_at_once(p) == pytest.approx(rows) and 51 < rows < 52
    assert seconds.decoding_passes(p) == pytest.approx(256 * 8192 * 1.26 / rows)
    assert pace.decoding_pass(p, 51) == pytest.approx((2 * weights + 51 * 4352 * token) / (0.6 * 3.35e12))
    step = seconds.step_seconds(p, 1000, 10)
    again = 256 * (0.26 * 256 + 1.26 * sum(256 + 512 * n for n in range(1, 16)))
    pages = 256 * (0.26 * 240 + 1.26 * sum(240 + 512 * n for n in range(1, 16)))  # of 16 tokens, one short of all
    there = 0.4 + 0.3 * room / (token * 256 * (256 + 4096))
    assert vllm.resent(p) == pytest.approx(again) and vllm.remembered(p) == pytest.approx(there) and 0.45 < there < 0.47
    assert vllm.recomputed(p) == pytest.approx(again - there * pages)
    prompts = (16 * 256 + again - there * pages) * 2 * p.sizes.linear / (0.35 * 989e12)
    assert step["rollout"] == pytest.approx(prompts + 10 * pace.decoding_pass(p, 100) + 2 * weights / 10e9)
    held = {phase: parts["vLLM"] for phase, parts in memory.memory(p).items()}
    assert held == {"rollout": 40 * 2**30, "scoring": 2**30, "backward": 2**30, "update": 2**30}
    assert all("KV cache" not in parts for parts in memory.memory(p).values())


def test_with_room_for_all_the_slowest_row_decides():
    """Of 16 rows, each writes its 8,192 tokens and waits for its group."""
    p = paper("4b", f"{FLAGS} --train.prompts 8 --train.minibatches 1")
    assert p.rows == 16 and vllm.rows_at_once(p) == 16
    assert seconds.decoding_passes(p) == pytest.approx(8192 * seconds.rounds(p))


def test_with_room_for_all_the_cache_serves_what_was_measured():
    """Prompts of 40 tokens and eight segments of 32 on a CPU: reports/engines.json."""
    flags = "--rollout.engine vllm --rollout.segments 8 --rollout.segment_tokens 32 --erasure.cap 0"
    p = replace(paper("tiny", flags), prompt=40)
    assert vllm.remembered(p) == 1
    measured = json.loads((ROOT / "reports/engines.json").read_text())["models"]["tiny"]["boundaries"]
    share = 1 - vllm.recomputed(p) / vllm.resent(p)
    assert round(share, 3) == measured["resubmitted tokens from the cache"]


def test_rows_that_are_not_begun_need_no_room():
    few, many = (paper("4b", f"{FLAGS} --rollout.max_rows {rows}") for rows in (64, 256))
    assert few.rows > 64 and vllm.room(few) == 4 * vllm.room(many)


def test_with_little_room_the_cache_serves_about_what_was_measured():
    measured = json.loads((ROOT / "reports/engines.json").read_text())["models"]["tiny"]["little room"]
    shares, most = measured["resubmitted tokens from the cache"], 0.952  # of it, whole pages alone are kept
    for room in (1.0, 0.8, 0.4, 0.2):
        assert shares[f"group, room for {room}"] / most == pytest.approx(0.4 + 0.3 * room, abs=0.1)
        assert shares[f"plain, room for {room}"] / most == pytest.approx(0.95, abs=0.06)
    erasing, plain = (paper("4b", f"{FLAGS} --erasure.cap {cap}") for cap in (3, 0))
    assert vllm.room(erasing) < 1
    assert vllm.remembered(erasing) == 0.4 + 0.3 * vllm.room(erasing) and vllm.remembered(plain) == 0.95


def test_one_segment_without_erasing_sends_nothing_again():
    p = paper("4b", f"{FLAGS} --rollout.segments 1 --erasure.cap 0")
    assert vllm.resent(p) == vllm.recomputed(p) == 0
    assert "sent again" not in " ".join(seconds.assumptions(p, timed=True))


def test_without_room_for_one_row_nothing_fits_and_the_share_is_what_to_change():
    """Of 8B: 0.2 x 80 GiB are less than its weights; at 0.3 there are 24 GiB less 2 and 15.3, and a row takes 1.2."""
    flags = FLAGS.replace("gpu_share 0.5", "gpu_share 0.2")
    p = paper("8b", flags)
    assert memory.peak(p) < memory.available(p, 0) and not memory.fits(p, 0)
    found = findings(p, "8b")
    said = page(found, p)
    assert "DOES NOT FIT" in said and "0.0 GiB of its 16.0 GiB are left for keys and values" in said
    assert found["remedies"] == [{"rollout.gpu_share": 0.3}]
    share = (2 * 2**30 + 2 * 8_190_735_360 + 8448 * 147_456) / (80 * 2**30)
    for less, fits in ((-1e-6, False), (1e-6, True)):
        assert memory.fits(paper("8b", flags.replace("0.2", f"{share + less:.9f}")), 0) == fits


def test_a_share_that_is_too_large_is_lowered_and_the_rows_are_left_alone():
    found = findings(paper("8b", FLAGS.replace("gpu_share 0.5", "gpu_share 0.8")), "8b")
    assert not found["fits"] and found["lack"] == "" and found["remedies"] == [{"rollout.gpu_share": 0.5}]


def test_more_rows_are_advised_as_far_as_they_decode_together():
    """51 rows are at once in the cache; 48 are the most in whole groups of 16."""
    few, many = (paper("4b", FLAGS.replace("max_rows 256", f"max_rows {rows}")) for rows in (16, 256))
    assert "--rollout.max_rows 48" in page(findings(few, "4b"), few)
    assert "more rows" not in page(findings(many, "4b"), many)


def test_an_evaluation_without_room_for_one_row_does_not_fit():
    flags = ["--model=8b", "--rollout.engine=vllm", "--rollout.gpu_share=0.2"]
    found = evaluation.findings(load_run([*SECTIONS, "trainer"], flags).config, {"aime24": 30}, "8b")
    assert sum(found["memory"].values()) < found["available"] and not found["fits"]
    said = evaluation.page(found, "GPU")
    assert "DOES NOT FIT: 16.0 GiB" in said and "raise rollout.gpu_share" in said


def test_on_a_cpu_a_copy_of_the_weights_and_a_gibibyte():
    p = paper("tiny", "--rollout.engine vllm")
    assert vllm.held(p) == vllm.asleep(p) == 4 * p.sizes.parameters + 2**30 and vllm.cache(p) == 2**30


def test_the_page_names_its_assumptions():
    p = paper("4b", FLAGS)
    assert "vLLM" in page(findings(p, "4b"), p)
    said = " ".join(seconds.assumptions(p, timed=True))
    assert "with each segment all before it is sent again, 21,073,756 tokens: 46% come from vLLM's cache" in said
    assert "of 51 rows each; vLLM has room for" in said and "decoding at 60% of the bandwidth;" in said
    assert "vLLM keeps 1.0 GiB while the policy is trained; new weights take 0.8 s" in said and "lanes" not in said
