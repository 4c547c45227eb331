"""vLLM as an engine against the embedded one and against plain forward passes; `make vllm` runs these."""

import copy
import os
import random
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

if find_spec("vllm") is None:
    pytest.skip("vLLM is not installed here: `make vllm`", allow_module_level=True)

import transformers
from scipy import stats
from small_models import SIZE, small_model

from replication.config import ErasureConfig, RolloutConfig
from replication.errors import UserError
from replication.rollout.agreement import check_engine
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.engine import finish, roll_out, rolling
from replication.rollout.vllm import engine as vllm_engine
from replication.rollout.vllm import weights
from replication.rollout.vllm.engine import VLLMEngine
from replication.seeds import seed_for

PROMPTS = [[5 + (7 * i + j * j) % 25 for j in range(3 + 9 * i % 40)] for i in range(8)]
ROLLOUT = RolloutConfig(group_size=4, segments=4, segment_tokens=6, max_rows=32, temperature=0.8)
PLAIN = ErasureConfig(fraction=0.0)
ERASED = ErasureConfig(kappa=0.0, growth=0.2, history=0.3, cap=3, window=3)
KEYS = torch.tensor([seed_for(0, p, m) for p in range(len(PROMPTS)) for m in range(4)])


def made(seed=0):
    torch.manual_seed(seed)
    config = transformers.Qwen3Config(
        **{**SIZE, "hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}, head_dim=32
    )
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="module")
def model():
    return made()


@pytest.fixture(scope="module")
def engine(model):
    return VLLMEngine(model, longest=128, rows=32)


def sample(engine, rollout=ROLLOUT, erasure=ERASED, rows=slice(None)):
    return roll_out(engine, PROMPTS, KEYS, rollout, erasure, (1,), 0)


def apart(model, done, temperature):
    """Largest differences of log-probabilities and entropies from plain forward passes, in nats."""
    worst = [0.0, 0.0]
    for row in range(len(done.tokens)):
        prompt, size = done.prompts[row // done.group_size], int(done.length[row])
        ids = torch.tensor([prompt + done.tokens[row, :size].tolist()])
        with torch.no_grad():
            logp = torch.log_softmax(model(ids).logits[0, len(prompt) - 1 : -1] / temperature, -1)
        own = logp.gather(1, ids[0, len(prompt) :, None]).squeeze(1)
        entropy = -(logp.exp() * logp).sum(-1)
        for i, (got, want) in enumerate([(done.logp, own), (done.uncertainty("entropy"), entropy)]):
            worst[i] = max(worst[i], float((got[row, :size] - want).abs().max()))
    return worst


def test_log_probabilities_and_entropies_are_those_of_plain_forward_passes(model, engine):
    done = sample(engine)
    assert len(done.attempts) > 20 and done.row_steps == int(done.length.sum() + done.erased_tokens.sum())
    assert max(apart(model, done, 0.8)) < 1e-4


def test_greedy_text_is_that_of_the_embedded_engine(model, engine):
    """One token is left to draw from, so that both write the same; a threshold near 0 erases every segment twice. 64
    prompts, eight segments each."""
    greedy = replace(ROLLOUT, group_size=1, segments=8, top_k=1)
    always = ErasureConfig(baseline="fixed", level=1e-6, growth=0.0, history=0.0, cap=2)
    prompts = [[5 + (7 * i + j * j) % 25 for j in range(3 + 9 * i % 40)] for i in range(64)]
    theirs, ours = (
        roll_out(one, prompts, torch.arange(64), greedy, always, (), 0) for one in (engine, TorchEngine(model))
    )
    assert len(theirs.attempts) == 64 * 8 * 2 and torch.equal(theirs.tokens, ours.tokens)
    torch.testing.assert_close(theirs.logp, ours.logp, atol=1e-4, rtol=0)
    torch.testing.assert_close(theirs.u, ours.u, atol=1e-4, rtol=1e-4, equal_nan=True)
    assert [a[:5] for a in theirs.attempts] == [a[:5] for a in ours.attempts]


def test_a_completion_does_not_depend_on_its_company(engine):
    whole = sample(engine)
    alone = roll_out(engine, PROMPTS[3:4], KEYS[12:16], ROLLOUT, ERASED, (1,), 0)
    assert torch.equal(alone.tokens, whole.tokens[12:16]) and torch.equal(alone.erasures, whole.erasures[12:16])
    assert torch.equal(sample(engine).tokens, whole.tokens)


@pytest.mark.parametrize("baseline", ["batch", "running", "fixed"])
def test_every_baseline(model, engine, baseline):
    done = sample(engine, erasure=replace(ERASED, baseline=baseline, level=3.0))
    assert done.attempts and max(apart(model, done, 0.8)) < 1e-4


def test_cool_members_and_truncation_are_scored_by_the_whole_distribution(model, engine):
    done = sample(engine, replace(ROLLOUT, cool_fraction=0.5, cool_temperature=0.2, top_k=5, top_p=0.9))
    assert max(apart(model, done, 0.8)) < 1e-4
    warm = done.logp[done.mask & (torch.arange(32)[:, None] % 4 < 2)].mean()
    assert done.logp[done.mask & (torch.arange(32)[:, None] % 4 >= 2)].mean() > warm + 0.2


def places_in_the_distribution(model, engine, *temperatures):
    """Of each of 51,200 sampled tokens a number in [0, 1): the mass of the words before it, and a random part of its
    own. These are independent and uniform where each token is drawn from its own distribution, whatever the model."""
    settings = RolloutConfig(group_size=128, segments=5, segment_tokens=10, max_rows=128, temperature=0.8)
    keys = torch.tensor([seed_for(1, p, m) for p in range(8) for m in range(128)])
    done = roll_out(engine, PROMPTS, keys, settings, PLAIN, (), 0)
    chance, found = torch.Generator().manual_seed(0), {temperature: [] for temperature in temperatures}
    for (group, prompt), temperature in product(enumerate(PROMPTS), temperatures):
        tokens = done.tokens[group * 128 : group * 128 + 128]
        ids = torch.cat([torch.tensor(prompt).expand(128, -1), tokens], 1)
        with torch.no_grad():
            p = torch.softmax(model(ids).logits[:, len(prompt) - 1 : -1].double() / temperature, -1)
        mine = p.gather(2, tokens[..., None]).squeeze(2)
        upto = p.cumsum(2).gather(2, tokens[..., None]).squeeze(2)
        found[temperature].append(
            (upto - mine * torch.rand(mine.shape, generator=chance, dtype=torch.double)).flatten()
        )
    return [torch.cat(parts).numpy() for parts in found.values()]


def test_tokens_are_drawn_from_the_models_distribution(model, engine):
    """Kolmogorov and Smirnov on 51,200 tokens, alone and beside the embedded engine's. What it can see: the same
    tokens held against a temperature that is 10 % higher are rejected, by p = 1.5e-6 when this was written."""
    theirs, warmer = places_in_the_distribution(model, engine, 0.8, 0.88)
    (ours,) = places_in_the_distribution(model, TorchEngine(model), 0.8)
    assert len(theirs) == 51_200
    assert stats.kstest(theirs, "uniform").pvalue > 1e-3 and stats.ks_2samp(theirs, ours).pvalue > 1e-3
    assert stats.kstest(warmer, "uniform").pvalue < 1e-4


def test_new_weights_reach_the_engine_and_old_prefixes_are_forgotten(model, engine):
    sample(engine)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    try:
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.05 * torch.randn_like(weight))
        engine.sync()
        assert max(apart(model, sample(engine), 0.8)) < 1e-4
    finally:
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.copy_(before[name])
        engine.sync()


def test_without_seeds_of_requests_every_attempt_and_every_rollout_draws_anew(model, engine):
    """And the same rollout the same, where its company is the same."""
    always = ErasureConfig(baseline="fixed", level=1e-6, growth=0.0, history=0.0, cap=3)
    engine.reproducible = False
    try:
        first, again = (sample(engine, erasure=always) for _ in range(2))
        other = roll_out(engine, PROMPTS, KEYS.flip(0), ROLLOUT, always, (1,), 0)
    finally:
        engine.reproducible = True
    assert torch.equal(first.tokens, again.tokens) and not torch.equal(first.tokens, other.tokens)
    texts = {}
    for a in first.attempts:
        texts.setdefault((a.row, a.segment), set()).add(tuple(a.tokens))
    assert sum(map(len, texts.values())) > 0.9 * len(first.attempts) > 100
    assert max(apart(model, first, 0.8)) < 1e-4


def test_the_trainers_random_numbers_are_its_own(model):
    """An engine seeds them as it begins, and draws from torch's where requests have no seeds."""
    one = VLLMEngine(model, longest=128, rows=32, reproducible=False)

    def drawn():
        return torch.rand(3).tolist(), random.random(), np.random.rand()

    def seed():
        torch.manual_seed(3)
        random.seed(3)
        np.random.seed(3)

    try:
        seed()
        want = drawn()
        seed()
        sample(one)
        assert drawn() == want
        seed()
        sample(one)
        assert drawn() == want
    finally:
        one.close()


def test_memory_sleeps_between_rollouts_and_weights_come_before_the_cache(model, monkeypatch):
    """On a GPU; here the calls alone. At level 2 vLLM drops its weights: they are pushed before the cache wakes."""
    calls = []
    fake = SimpleNamespace(
        sleep=lambda level: calls.append(f"sleep {level}"), wake_up=lambda tags: calls.append(f"wake {tags[0]}")
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(vllm_engine, "push", lambda model, llm: calls.append("push"))
    one = VLLMEngine(model, longest=64, rows=4)
    one.rest()  # not begun yet
    one.llm = fake
    for _ in range(2):
        one.sync()
        one.rest()
        one.rest()
    assert calls == ["push", "sleep 2", "wake weights", "push", "wake kv_cache", "sleep 2"]


def test_weights_that_do_not_arrive_stop_the_run(model, engine, monkeypatch):
    sample(engine)
    monkeypatch.setattr(weights, "plain_weights", lambda model: [("model.norm.weight", model.model.norm.weight + 1)])
    with pytest.raises(UserError, match=r"RuntimeError: vLLM did not take 18 weights, lm_head.weight among them"):
        engine.sync()
    monkeypatch.undo()
    engine.sync()


@pytest.mark.parametrize("left_out", ["model.layers.1.mlp.gate_proj.weight", "model.embed_tokens.weight"])
def test_a_weight_that_vllm_says_it_took_and_did_not_stops_the_run(model, engine, monkeypatch, left_out):
    """One that it holds fused with others, and a large one."""
    sample(engine)
    theirs = engine.llm.llm_engine.model_executor.driver_worker.worker.model_runner.model
    load = type(theirs).load_weights

    def some(weights):
        sent = dict(weights)
        load(theirs, ((name, weight) for name, weight in sent.items() if name != left_out))
        return {name for name, _ in theirs.named_parameters()}

    before = model.get_parameter(left_out).detach().clone()
    monkeypatch.setattr(theirs, "load_weights", some)
    try:
        with torch.no_grad():
            model.get_parameter(left_out)[-1].add_(1e-4)
        with pytest.raises(UserError, match="RuntimeError: vLLM did not take 1 weights, model"):
            engine.sync()
    finally:
        monkeypatch.undo()
        with torch.no_grad():
            model.get_parameter(left_out).copy_(before)
        engine.sync()


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox"])
def test_weights_that_vllm_keeps_in_another_order_are_taken(family):
    """GPT-2's are turned, GPT-NeoX's queries, keys and values are sorted."""
    torch.manual_seed(0)
    same = {"vocab_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 64}
    sizes = {
        "gpt2": {**same, "n_positions": 128},
        "gpt_neox": {**same, "intermediate_size": 96, "max_position_embeddings": 128},
    }
    config = transformers.AutoConfig.for_model(family, **sizes[family])
    other = transformers.AutoModelForCausalLM.from_config(config).eval()
    one = VLLMEngine(other, longest=128, rows=32)
    try:
        assert max(apart(other, sample(one), 0.8)) < 1e-4
    finally:
        one.close()


def test_rows_that_are_interrupted_and_read_again_in_parts(model, monkeypatch):
    """Twelve pages for sixteen rows of up to four each, and 24 tokens a pass: a text that vLLM reads again
    takes several, of which the last alone samples. (vLLM takes back the random numbers of the others, which it
    can on a GPU only: without seeds here.)"""
    layers, kv_heads, head = 2, 1, 32
    monkeypatch.setattr(vllm_engine, "MEMORY", 12 * vllm_engine.BLOCK * layers * 2 * kv_heads * head * 4)
    one = VLLMEngine(model, longest=128, rows=16, reproducible=False)
    one.at_once = 24
    seen = []
    try:
        one.sync()
        scheduler = one.llm.llm_engine.engine_core.engine_core.scheduler
        preempt = scheduler._preempt_request
        monkeypatch.setattr(scheduler, "_preempt_request", lambda *a, **k: (seen.append(a[0]), preempt(*a, **k))[1])
        long = replace(ROLLOUT, segments=3, segment_tokens=30)
        done = roll_out(one, PROMPTS[:4], KEYS[:16], long, ERASED, (), 0)
    finally:
        one.close()
    assert len(seen) > 5, "nothing was interrupted"
    assert max(apart(model, done, 0.8)) < 1e-4
    assert done.erasures.sum() > 0


def test_two_rollouts_in_turns_are_what_each_is_alone(model, engine):
    """At two temperatures; and one that is given up leaves the other as it is."""
    cool = replace(ROLLOUT, temperature=0.5)
    alone = [sample(engine), sample(engine, cool)]

    def begun(rollout):
        return rolling(engine, PROMPTS, KEYS, rollout, ERASED, (1,), 0)

    both, done, turns = {0: begun(ROLLOUT), 1: begun(cool)}, {}, 0
    while both:
        for i, steps in list(both.items()):
            try:
                next(steps)
                turns += len(both) == 2
            except StopIteration as end:
                done[i] = end.value
                del both[i]
    assert turns > 10
    for i in range(2):
        assert torch.equal(done[i].tokens, alone[i].tokens) and torch.equal(done[i].erasures, alone[i].erasures)
        torch.testing.assert_close(done[i].logp, alone[i].logp, atol=1e-5, rtol=0)
    given_up, kept = begun(cool), begun(ROLLOUT)
    for steps in (given_up, kept, given_up, kept):
        next(steps)
    given_up.close()
    again = finish(kept)
    assert torch.equal(again.tokens, alone[0].tokens) and not engine.asked and not engine.measuring.found


def test_rows_that_are_begun_go_on_before_others(model):
    """Eight rows fit: the first ones are through before the last ones begin."""
    one = VLLMEngine(model, longest=128, rows=8)
    ended, begun_at, steps = {}, {}, []

    class Watch:
        def sampled(self, rows, tokens):
            steps.append(1)
            for row in rows.tolist():
                begun_at.setdefault(row, len(steps))
                ended[row] = len(steps)

        def accepted(self, rows):
            pass

    try:
        roll_out(one, PROMPTS, KEYS, ROLLOUT, PLAIN, (), 0, watcher=Watch())
    finally:
        one.close()
    assert len(ended) == 32 and max(ended[row] for row in range(8)) < min(begun_at[row] for row in range(24, 32))


@pytest.mark.parametrize("change", [{"temperature": 0.005}, {"cool_temperature": 2.5, "cool_fraction": 0.5}])
def test_a_temperature_at_which_vllm_does_not_draw_is_one_line(engine, change):
    with pytest.raises(UserError, match=rf"^{next(iter(change))} = .*vLLM draws at 0.01 to 2"):
        sample(engine, replace(ROLLOUT, **change))
    sample(engine, replace(ROLLOUT, cool_temperature=2.5))  # which nobody is drawn at


def test_a_context_of_exactly_the_models_length(model):
    """And no token more."""
    limit = model.config.max_position_embeddings
    longest = ROLLOUT.segments * ROLLOUT.segment_tokens
    one = VLLMEngine(model, longest=limit, rows=4)
    try:
        done = roll_out(one, [[5] * (limit - longest)], KEYS[:4], ROLLOUT, PLAIN, (), 0)
    finally:
        one.close()
    assert done.length.tolist() == [longest] * 4
    with pytest.raises(UserError, match=rf"{limit + 1} tokens, and the model reads {limit}: lower rollout.segments"):
        VLLMEngine(model, longest=limit + 1, rows=4).sync()


def test_what_vllm_refuses_of_a_request_is_one_line(engine, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("no such\nrequest")

    sample(engine)
    monkeypatch.setattr(engine.llm.llm_engine, "add_request", refuse)
    with pytest.raises(UserError, match=r"vLLM failed with qwen3 .*no such request"):
        sample(engine)


def test_a_closed_engine_gives_its_memory_back_and_starts_again(model, monkeypatch):
    monkeypatch.setattr(vllm_engine, "MEMORY", 2**28)
    one = VLLMEngine(model, longest=128, rows=32)
    first = sample(one)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    assert torch.get_num_threads() == threads + 1  # vLLM takes this from a process
    torch.set_num_threads(threads)
    used = resident()
    one.close()
    one.close()
    assert used - resident() > 2**27
    assert torch.equal(sample(one).tokens, first.tokens)
    one.close()


def resident():
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_an_engine_that_dies_in_a_rollout_is_one_line(model, engine, monkeypatch):
    before = sample(engine)
    steps = []

    def step():
        steps.append(1)
        if len(steps) > 3:
            raise ValueError("the device\nis lost")
        return type(engine.llm.llm_engine).step(engine.llm.llm_engine)

    monkeypatch.setattr(engine.llm.llm_engine, "step", step)
    with pytest.raises(UserError, match="the device is lost"):
        sample(engine)
    monkeypatch.undo()
    after = sample(engine)  # what was asked is forgotten
    assert torch.equal(after.tokens, before.tokens) and torch.equal(after.logp, before.logp)


def test_a_prompt_that_is_too_long_is_one_line(engine):
    with pytest.raises(UserError, match="prompt 0 has 120 tokens"):
        roll_out(engine, [[5] * 120], KEYS[:4], ROLLOUT, ERASED, (1,), 0)


def test_bfloat16_is_as_near_as_its_rounding(model):
    """Two kernels' rounding, of a mean token; the check before a run lets 0.1 nats pass."""
    rough = copy.deepcopy(model).bfloat16()
    one = VLLMEngine(rough, longest=128, rows=32)
    try:
        assert 0 < check_engine(one, rough, PROMPTS[2], (1,), 0) < 0.02
    finally:
        one.close()


def test_a_model_that_vllm_does_not_serve_is_one_line():
    """Heads of 8: its attention on a CPU knows 32, 64, 128 and the like."""
    with pytest.raises(UserError, match="vLLM failed with qwen3") as error:
        sample(VLLMEngine(small_model("qwen3"), longest=128, rows=32))
    assert "\n" not in str(error.value)


def test_too_little_memory_for_one_row_is_one_line(model, monkeypatch):
    monkeypatch.setattr(vllm_engine, "MEMORY", 2**15)
    with pytest.raises(UserError, match=r"vLLM failed with qwen3 .*memory.*--rollout.engine torch") as error:
        sample(VLLMEngine(model, longest=128, rows=32))
    assert "\n" not in str(error.value)
