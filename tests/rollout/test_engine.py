"""The erasable rollout against a plain loop, and against the method's rules replayed from its own trace."""

import gc
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import transformers
from small_models import FAMILIES, small_model

from replication.config import ErasureConfig, RolloutConfig
from replication.errors import UserError
from replication.rollout.builtin.cache import RowCache
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.engine import roll_out
from replication.rollout.judge import Judge
from replication.rollout.threshold import frequency_penalty, group_baseline, history_modulation
from replication.rollout.trace import Rollout
from replication.rollout.uncertainty import segment_uncertainty
from replication.seeds import fold, seed_for, uniforms

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]
ROLLOUT = RolloutConfig(group_size=4, segments=4, segment_tokens=5, max_rows=8, temperature=0.8)
PLAIN = ErasureConfig(fraction=0.0)
ERASED = ErasureConfig(kappa=0.0, growth=0.2, history=0.3, cap=3, window=3)


def keys(prompts, size=4, seed=0):
    return torch.tensor([seed_for(seed, str(p), m) for p in prompts for m in range(size)])


def run(model, prompts=PROMPTS, rollout=ROLLOUT, erasure=PLAIN, eos=(1,), **kwargs):
    return roll_out(TorchEngine(model), prompts, keys(prompts, rollout.group_size, **kwargs), rollout, erasure, eos, 0)


def reference(model, prompt, key, rollout, eos):
    """One completion, token by token, each from a fresh forward pass over the whole text."""
    ids, logps = list(prompt), []
    for t in range(rollout.segments * rollout.segment_tokens):
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        p = torch.softmax(logits / rollout.temperature, 0).double()
        seed = fold(key[None], torch.tensor([t // rollout.segment_tokens]), torch.tensor([0]))
        u = uniforms(seed, torch.tensor([t]))
        token = int((p.cumsum(0) <= u * p.sum()).sum())
        logps.append(math.log(p[token]))
        ids.append(token)
        if token in eos:
            break
    return ids[len(prompt) :], logps


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rows", [5, 64])
def test_plain_rollout_equals_a_reference_loop(family, rows):
    """Unequal prompts, early ends, caps reached; all together, and entering one by one as others leave."""
    model = small_model(family)
    done = run(model, rollout=replace(ROLLOUT, max_rows=rows))
    assert done.ended.any() and not done.ended.all()
    for row, key in enumerate(keys(PROMPTS)):
        ids, logps = reference(model, PROMPTS[row // 4], key, ROLLOUT, (1,))
        assert done.tokens[row, : done.length[row]].tolist() == ids
        torch.testing.assert_close(done.logp[row, : len(ids)], torch.tensor(logps), atol=1e-5, rtol=1e-5)
        assert bool(done.ended[row]) == (ids[-1] == 1)
    assert (done.tokens[~done.mask] == 0).all()
    assert done.row_steps == int(done.length.sum())


def test_segments_cut_the_completion(model):
    done = run(model)
    index = done.segment_of
    for row in range(12):
        size = int(done.length[row])
        assert index[row, :size].tolist() == [t // 5 for t in range(size)]
        assert (index[row, size:] == -1).all()
        assert int(done.segments[row]) == math.ceil(size / 5)


@pytest.fixture(scope="module")
def erased(model):
    return run(model, erasure=ERASED)


def test_erasing_happens_and_every_sampled_token_is_counted(erased):
    assert len(erased.attempts) > 10
    assert erased.row_steps == int(erased.length.sum() + erased.erased_tokens.sum())
    counted = torch.zeros_like(erased.erasures)
    for a in erased.attempts:
        counted[a.row, a.segment] += 1
        assert a.number == counted[a.row, a.segment] - 1
        assert a.start == erased.start[a.row, a.segment]
    assert torch.equal(counted, erased.erasures)


def test_nothing_of_an_erased_attempt_is_left_behind_a_completion(erased):
    """Where the attempt that was kept ends earlier than an erased one."""
    reach = torch.tensor(
        [max((a.start + len(a.tokens) for a in erased.attempts if a.row == r), default=0) for r in range(12)]
    )
    assert (reach > erased.length).any()
    for part in (erased.tokens, erased.logp, erased.uncertainty("entropy")):
        assert (part[~erased.mask] == 0).all()


def test_kept_tokens_have_the_log_probabilities_of_a_fresh_prefill(model, erased):
    """What was erased has left no trace in the cache."""
    for row in range(12):
        prompt, size = PROMPTS[row // 4], int(erased.length[row])
        ids = prompt + erased.tokens[row, :size].tolist()
        with torch.no_grad():
            logp = torch.log_softmax(model(torch.tensor([ids])).logits[0] / ROLLOUT.temperature, -1)
        want = logp[len(prompt) - 1 : -1].gather(1, torch.tensor(ids[len(prompt) :])[:, None]).squeeze(1)
        torch.testing.assert_close(erased.logp[row, :size], want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("baseline", ["group", "fixed"])
def test_decisions_follow_the_method(model, baseline):
    """Replay: recompute every U and Theta from the trace, and find each decision where the rule puts it."""
    erased = run(model, erasure=replace(ERASED, baseline=baseline, level=4.0))
    assert erased.attempts
    first_u = {(a.row, a.segment): a.u for a in erased.attempts if a.number == 0}
    n_segments = erased.erasures.shape[1]
    for group in range(3):
        members = range(group * 4, group * 4 + 4)
        for n in range(n_segments):
            reached = torch.tensor([[int(erased.segments[m]) > n for m in members]])
            if not reached.any():
                continue
            first = torch.tensor([[first_u.get((m, n), float(erased.u[m, n])) for m in members]])
            past = torch.tensor([[float(erased.u[m, :n].mean()) if n else 0.0 for m in members]])
            beta = group_baseline(first, reached, ERASED.kappa) if baseline == "group" else 4.0
            phi = history_modulation(past, reached, ERASED.history)[0]
            for i, m in enumerate(members):
                if not reached[0, i]:
                    continue
                spent = int(erased.erasures[m, n])
                for a in (a for a in erased.attempts if (a.row, a.segment) == (m, n)):
                    theta = float(beta * frequency_penalty(torch.tensor(float(a.number)), ERASED.growth) * phi[i])
                    assert a.theta == pytest.approx(theta, rel=1e-5)
                    assert a.u > a.theta and a.number < ERASED.cap
                theta = float(beta * frequency_penalty(torch.tensor(float(spent)), ERASED.growth) * phi[i])
                assert float(erased.theta[m, n]) == pytest.approx(theta, rel=1e-5)
                assert float(erased.u[m, n]) <= theta or spent == ERASED.cap


def test_segment_uncertainty_is_that_of_the_kept_tokens(erased):
    for row in range(12):
        for n in range(int(erased.segments[row])):
            span = erased.start[row, n][None], erased.start[row, n + 1][None]
            want = segment_uncertainty(-erased.logp[row][None], *span, 3, 1.0, 0.5, 0.5)
            assert float(erased.u[row, n]) == pytest.approx(float(want), rel=1e-5)


def test_cap_is_never_passed(model):
    done = run(model, erasure=ErasureConfig(kappa=-5.0, growth=0.0, cap=2))
    assert int(done.erasures.max()) == 2


def test_fraction_leaves_the_other_members_plain(model):
    done = run(model, erasure=ErasureConfig(fraction=0.5, kappa=-5.0, growth=0.0, cap=2))
    plain = run(model)
    assert done.erasable.tolist() == [True, True, False, False] * 3
    assert (done.erasures[~done.erasable] == 0).all() and (done.erasures[done.erasable].sum(1) > 0).all()
    assert torch.equal(done.tokens[~done.erasable], plain.tokens[~done.erasable])


def test_a_group_does_not_depend_on_its_company(model):
    """Same ids alone, in another order, and with other batch sizes."""
    together = run(model, erasure=ERASED)
    for order, rows in (([2, 0, 1], 4), ([1, 2, 0], 64), ([0, 1, 2], 5), ([2, 1, 0], 7)):
        prompts = [PROMPTS[i] for i in order]
        rollout = RolloutConfig(**{**vars(ROLLOUT), "max_rows": rows})
        again = run(model, prompts=prompts, rollout=rollout, erasure=ERASED)
        for place, i in enumerate(order):
            mine, theirs = slice(place * 4, place * 4 + 4), slice(i * 4, i * 4 + 4)
            assert torch.equal(again.tokens[mine], together.tokens[theirs])
            assert torch.equal(again.erasures[mine], together.erasures[theirs])


@pytest.mark.parametrize("lanes", [1, 3, 7])
def test_lanes_change_nothing_but_the_passes(model, lanes):
    """However few completions a pass takes: same ids and decisions, no pass above it, and none wasted."""
    free = run(model, rollout=replace(ROLLOUT, max_rows=12), erasure=ERASED)
    done = run(model, rollout=replace(ROLLOUT, max_rows=12, lanes=lanes), erasure=ERASED)
    for name in ("tokens", "length", "erasures", "start", "segments"):
        assert torch.equal(getattr(done, name), getattr(free, name))
    torch.testing.assert_close(done.theta, free.theta, equal_nan=True)
    assert [a[:5] for a in done.attempts] == [a[:5] for a in free.attempts]
    assert done.row_steps == free.row_steps and done.steps >= done.row_steps / lanes


def test_rows_of_other_groups_fill_the_lanes_of_those_that_wait(model):
    """With many groups for few lanes nine tenths of them are busy; with a lane for everyone far fewer."""
    prompts = [[token] for token in range(2, 26)]
    settings = replace(ROLLOUT, segments=6)
    done = run(model, prompts=prompts, rollout=replace(settings, max_rows=48, lanes=16), erasure=ERASED, eos=())
    alone = run(model, prompts=prompts[:4], rollout=replace(settings, max_rows=16), erasure=ERASED, eos=())
    assert done.row_steps / (done.steps * 16) > 0.9
    assert alone.row_steps / (alone.steps * 16) < 0.8


def test_finished_rows_make_room_for_waiting_prompts(model):
    done = run(model, prompts=PROMPTS * 4, rollout=replace(ROLLOUT, max_rows=8))
    waves = sum(int(done.length.view(-1, 8)[i].max()) for i in range(6))
    assert done.row_steps / 8 <= done.steps < waves


@pytest.mark.parametrize(("top_k", "top_p"), [(3, 1.0), (0, 0.6), (4, 0.8)])
def test_truncated_draws_stay_among_the_likeliest(model, top_k, top_p):
    """A row's tokens lie in the truncated set of their own distribution; log-probabilities are the whole one's."""
    done, row = run(model, rollout=replace(ROLLOUT, top_k=top_k, top_p=top_p)), 5
    ids = PROMPTS[1] + done.tokens[row, : done.length[row]].tolist()
    with torch.no_grad():
        logp = torch.log_softmax(model(torch.tensor([ids])).logits[0] / ROLLOUT.temperature, -1)[:-1]
    for t, p in enumerate(logp.exp()):
        order = p.argsort(descending=True)
        order = order[: top_k or None]
        kept = p[order] / p[order].sum()
        allowed = order[kept.cumsum(0) - kept < top_p]
        assert ids[1 + t] in allowed
    want = logp.gather(1, torch.tensor(ids[1:])[:, None]).squeeze(1)
    torch.testing.assert_close(done.logp[row, : len(want)], want, atol=1e-5, rtol=1e-5)
    assert not torch.equal(done.tokens, run(model).tokens)


def test_seeds_differ_between_members_attempts_and_runs(model):
    done = run(model)
    assert len({tuple(row) for row in done.tokens[:4].tolist()}) == 4
    other = run(model, seed=1)
    assert not torch.equal(done.tokens, other.tokens)
    stubborn = run(model, erasure=ErasureConfig(kappa=-5.0, growth=0.0, cap=3))
    texts = {tuple(a.tokens) for a in stubborn.attempts if (a.row, a.segment) == (0, 0)}
    assert len(texts) > 1


def test_prompts_leave_no_caches_behind(model):
    """The layers and their cache refer to each other: without an end by hand their memory waits for a collection."""
    gc.collect()
    gc.disable()
    try:
        run(model, prompts=PROMPTS * 5, rollout=replace(ROLLOUT, max_rows=4))
        held = [x for c in gc.get_objects() if type(c) is RowCache for x in c.tensors()]
    finally:
        gc.enable()
    assert held == []


def test_a_group_larger_than_the_cache_is_an_error_and_not_an_endless_wait(model):
    settings = replace(ROLLOUT, max_rows=4)
    settings.max_rows = 3  # as no configuration allows
    with pytest.raises(RuntimeError, match="completions wait"):
        run(model, rollout=settings, erasure=ERASED)


def test_a_model_that_also_sees_is_read_by_its_text_part():
    torch.manual_seed(0)
    seen = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = small_model("gemma3").config.to_dict() | {"tie_word_embeddings": True}
    both = transformers.Gemma3Config(text_config=text, vision_config={**seen, "image_size": 8, "patch_size": 4})
    whole = transformers.Gemma3ForConditionalGeneration(both).eval()
    done = run(whole, erasure=ERASED)
    row, ids = 5, PROMPTS[1] + done.tokens[5, : done.length[5]].tolist()
    with torch.no_grad():
        logp = torch.log_softmax(whole(torch.tensor([ids])).logits[0] / ROLLOUT.temperature, -1)
    want = logp[:-1].gather(1, torch.tensor(ids[1:])[:, None]).squeeze(1)
    torch.testing.assert_close(done.logp[row, : len(want)], want, atol=1e-5, rtol=1e-5)


def test_bad_prompts_are_named(model):
    with pytest.raises(UserError, match="no prompt"):
        run(model, prompts=[])
    with pytest.raises(UserError, match="prompt 1 is empty"):
        run(model, prompts=[[3], []])
    with pytest.raises(UserError, match="prompt 0 has 250 tokens"):
        run(model, prompts=[[3] * 250])


def test_end_at_the_first_token_and_other_ends():
    model = small_model(seed=3)
    done = run(model, eos=tuple(range(1, 31)), erasure=ERASED)
    assert (done.length == 1).all() and done.ended.all() and (done.segments == 1).all()


def first_attempts(done):
    """(row, segment) -> U of the first attempt, from the trace."""
    kept = {(r, n): float(done.u[r, n]) for r in range(len(done.u)) for n in range(int(done.segments[r]))}
    return kept | {(a.row, a.segment): a.u for a in done.attempts if a.number == 0}


def test_first_attempts_are_kept(erased):
    for (row, n), u in first_attempts(erased).items():
        assert float(erased.first_u[row, n]) == pytest.approx(u)


def test_a_batch_baseline_is_the_mean_over_all_groups(model):
    settings = ErasureConfig(baseline="batch", history=0.0, growth=0.2, kappa=0.5, cap=3, window=3)
    done = run(model, rollout=RolloutConfig(**{**vars(ROLLOUT), "max_rows": 64}), erasure=settings)
    assert done.attempts
    for a in done.attempts:
        u = torch.tensor([v for (_, n), v in first_attempts(done).items() if n == a.segment])
        beta = float(u.mean() + 0.5 * u.std(correction=0))
        assert a.theta == pytest.approx(beta * math.exp(0.2 * a.number), rel=1e-5)


def test_a_fixed_threshold_waits_for_nobody(model):
    """Theta is the level times the penalty, and every row goes on alone: as many passes as the longest row takes."""
    done = run(
        model,
        rollout=RolloutConfig(**{**vars(ROLLOUT), "max_rows": 64}),
        erasure=ErasureConfig(baseline="fixed", level=4.0, history=0.0, growth=0.1, cap=3, window=3),
    )
    assert done.attempts
    assert all(a.theta == pytest.approx(4.0 * math.exp(0.1 * a.number), rel=1e-5) for a in done.attempts)
    assert done.steps == int((done.length + done.erased_tokens).max())


def test_a_running_baseline_is_used_where_it_is_known(model):
    settings = ErasureConfig(baseline="running", history=0.0, growth=0.0, cap=3, window=3)
    running = torch.tensor([4.0, 4.5, torch.nan, 5.0])
    done = roll_out(TorchEngine(model), PROMPTS, keys(PROMPTS), ROLLOUT, settings, (1,), 0, running)
    assert {a.segment for a in done.attempts} >= {0, 1, 2}
    for a in done.attempts:
        group = [v for (r, n), v in first_attempts(done).items() if n == 2 and r // 4 == a.row // 4]
        want = {0: 4.0, 1: 4.5, 2: sum(group) / max(1, len(group)), 3: 5.0}[a.segment]
        assert a.theta == pytest.approx(want, rel=1e-5)
    group = run(model, erasure=ErasureConfig(history=0.0, growth=0.0, cap=3, window=3))
    assert torch.equal(run(model, erasure=settings).tokens, group.tokens)  # the group's before the first step


def test_rows_at_a_known_and_at_an_unknown_segment_are_judged_apart():
    """Segment 0 is known to have 4 nats; segment 1 is not, and takes the mean of the group's first attempts, 2."""
    state = SimpleNamespace(
        group_size=2, segments=2, segment=torch.tensor([0, 1]), first_u=torch.tensor([[9.0, 1.0], [9.0, 3.0]])
    )
    state.u = state.first_u
    judge = Judge(state, ErasureConfig(baseline="running"), torch.tensor([4.0, torch.nan]), None)
    assert judge._baseline(torch.tensor([0, 1])).tolist() == [4.0, 2.0]


def test_a_floor_spares_certain_segments(model):
    free = run(model, erasure=ERASED)
    floor = sorted(a.u for a in free.attempts)[len(free.attempts) // 2]
    done = run(model, erasure=ErasureConfig(**{**vars(ERASED), "floor": floor}))
    assert done.attempts and all(a.u > floor for a in done.attempts)


def test_cool_members_are_drawn_cooler_and_scored_at_the_temperature(model):
    settings = RolloutConfig(**{**vars(ROLLOUT), "cool_fraction": 0.5, "cool_temperature": 0.1})
    done, plain = run(model, rollout=settings), run(model)
    warm = torch.tensor([True, True, False, False] * 3)
    assert torch.equal(done.tokens[warm], plain.tokens[warm])
    assert float(done.logp[~warm][done.mask[~warm]].mean()) > float(plain.logp[~warm][plain.mask[~warm]].mean()) + 0.3
    row = 2
    ids = PROMPTS[0] + done.tokens[row, : done.length[row]].tolist()
    with torch.no_grad():
        logp = torch.log_softmax(model(torch.tensor([ids])).logits[0] / ROLLOUT.temperature, -1)
    want = logp[2:-1].gather(1, torch.tensor(ids[3:])[:, None]).squeeze(1)
    torch.testing.assert_close(done.logp[row, : len(want)], want, atol=1e-5, rtol=1e-5)
    entropy = -(logp.exp() * logp).sum(-1)[2:-1]
    torch.testing.assert_close(done.uncertainty("entropy")[row, : len(want)], entropy, atol=1e-5, rtol=1e-5)


def test_groups_can_be_picked_and_put_together(erased):
    last = erased.pick([2])
    assert sorted(last.attempts) == sorted(a._replace(row=a.row - 8) for a in erased.attempts if a.row >= 8)
    assert last.attempts
    both = Rollout.concatenate([last, erased.pick([0, 1])])
    again = both.pick([1, 2, 0])
    assert again.prompts == erased.prompts and torch.equal(again.tokens, erased.tokens)
    assert sorted(again.attempts) == sorted(erased.attempts)
    assert torch.equal(again.erased_tokens, erased.erased_tokens)


def test_the_entropy_reading_judges_by_entropies(model):
    done = run(model, erasure=ErasureConfig(**{**vars(ERASED), "uncertainty": "entropy"}))
    assert done.attempts
    for row in range(12):
        for n in range(int(done.segments[row])):
            span = done.start[row, n][None], done.start[row, n + 1][None]
            want = segment_uncertainty(done.uncertainty("entropy")[row][None], *span, 3, 1.0, 0.5, 0.5)
            assert float(done.u[row, n]) == pytest.approx(float(want), rel=1e-5)


def test_the_last_members_are_the_cool_ones(model):
    """Drawn at a temperature of nearly 0, three of four write the likeliest text; the first does not."""
    settings = RolloutConfig(**{**vars(ROLLOUT), "cool_fraction": 0.75, "cool_temperature": 1e-4})
    for warm, *cool in run(model, rollout=settings).tokens.view(3, 4, -1):
        assert all(torch.equal(text, cool[0]) for text in cool) and not torch.equal(warm, cool[0])


def test_segments_of_uneven_length():
    """Rows of 6 and 3 tokens; what stands after a row's last segment is left over from nothing."""
    both = Rollout(
        group_size=2,
        prompts=[[5]],
        **{name: torch.zeros(2, 7) for name in ("tokens", "logp")},
        measured={},
        length=torch.tensor([6, 3]),
        **{name: torch.tensor([True, False]) for name in ("ended", "erasable")},
        start=torch.tensor([[0, 1, 5, 6], [0, 3, 0, 0]]),
        segments=torch.tensor([3, 1]),
        **{name: torch.zeros(2, 3) for name in ("erasures", "first_u", "u", "theta")},
        attempts=[],
    )
    assert both.segment_of.tolist() == [[0, 1, 1, 1, 1, 2, -1], [0, 0, 0, -1, -1, -1, -1]]


def test_a_model_that_gives_nan_is_refused():
    broken = small_model()
    with torch.no_grad():
        broken.model.norm.weight.fill_(torch.nan)
    with pytest.raises(UserError, match="log-probabilities are nan"):
        run(broken)


def test_tokens_without_a_probability_are_judged_by_the_others(model):
    """As another engine may return them; every fifth here. No completion waits for ever, and none is erased for it."""

    class Losing(TorchEngine):
        def open(self, *args):
            session = super().open(*args)
            whole = session.next

            def losing():
                piece = whole()
                lost = piece.tokens % 5 == 0
                measured = {name: h.masked_fill(lost, math.nan) for name, h in piece.measured.items()}
                return piece._replace(logp=piece.logp.masked_fill(lost, -math.inf), measured=measured)

            session.next = losing
            return session

    for uncertainty in ("surprisal", "entropy"):
        erasure = replace(ERASED, uncertainty=uncertainty)
        done = roll_out(Losing(model), PROMPTS, keys(PROMPTS), ROLLOUT, erasure, (1,), 0)
        assert done.attempts and not done.logp.isfinite().all()
        reached = torch.arange(ROLLOUT.segments) < done.segments[:, None]
        assert done.u[reached].isfinite().all() and done.u[reached].gt(0).any()


def test_attention_is_decoded_without_cudnn_which_is_back_afterwards(model):
    """It would plan anew for every length of the keys. The flag is torch's own, and there without a GPU."""
    seen = []
    hook = model.register_forward_pre_hook(lambda *_: seen.append(torch.backends.cuda.cudnn_sdp_enabled()))
    before = torch.backends.cuda.cudnn_sdp_enabled()
    run(model)
    hook.remove()
    assert before and len(seen) > 5 and not any(seen)
    assert torch.backends.cuda.cudnn_sdp_enabled()
