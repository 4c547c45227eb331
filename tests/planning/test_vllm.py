"""The plan of rollouts on vLLM, by hand."""

import pytest
from plans import paper

from replication.planning import memory, pace, seconds, vllm
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
    prompts = 16 * 256 * 2 * p.sizes.linear / (0.35 * 989e12)
    assert step["rollout"] == pytest.approx(prompts + 10 * pace.decoding_pass(p, 100) + 2 * weights / 10e9)
    held = {phase: parts["vLLM"] for phase, parts in memory.memory(p).items()}
    assert held == {"rollout": 40 * 2**30, "scoring": 2**30, "backward": 2**30, "update": 2**30}
    assert all("KV cache" not in parts for parts in memory.memory(p).values())


def test_with_room_for_all_the_slowest_row_decides():
    """Of 16 rows, each writes its 8,192 tokens and waits for its group."""
    p = paper("4b", f"{FLAGS} --train.prompts 8 --train.minibatches 1")
    assert p.rows == 16 and vllm.rows_at_once(p) == 16
    assert seconds.decoding_passes(p) == pytest.approx(8192 * seconds.rounds(p))


def test_on_a_cpu_a_copy_of_the_weights_and_a_gibibyte():
    p = paper("tiny", "--rollout.engine vllm")
    assert vllm.held(p) == vllm.asleep(p) == 4 * p.sizes.parameters + 2**30 and vllm.cache(p) == 2**30


def test_the_page_names_its_assumptions():
    p = paper("4b", FLAGS)
    assert "vLLM" in page(findings(p, "4b"), p)
    said = " ".join(seconds.assumptions(p, timed=True))
    assert "of 51 rows each; vLLM has room for" in said and "decoding at 60% of the bandwidth;" in said
    assert "vLLM keeps 1.0 GiB while the policy is trained; new weights take 0.8 s" in said and "lanes" not in said
