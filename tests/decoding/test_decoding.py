"""Erasable decoding of any model: the call, transformers' interface, what a terminal shows, and the page."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from replication.config import ErasureConfig, PolicyConfig, RolloutConfig
from replication.data.template import encode
from replication.decoding import erasable, generate
from replication.decoding.page import page
from replication.decoding.terminal import STRUCK, Terminal
from replication.decoding.trace import Token, Try, completion, segments
from replication.errors import UserError
from replication.policy import small_model, small_tokenizer
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.engine import roll_out
from replication.seeds import seed_for

SIZE = PolicyConfig(hidden_size=32, layers=2, heads=4, kv_heads=2, ffn_size=48)
ROLLOUT = RolloutConfig(group_size=4, segments=6, segment_tokens=5, max_rows=4)
ERASURE = ErasureConfig(kappa=-0.5, growth=0.05, cap=3, window=3)


@pytest.fixture(scope="module")
def policy():
    tokenizer = small_tokenizer()
    model = small_model(SIZE, tokenizer, 0)
    return model.eval(), tokenizer


class Tty(io.StringIO):
    def isatty(self):
        return True


def screen(text, width, height=1000):
    """What a terminal of that size shows, what has scrolled off included: (character, struck through) by place.

    A cursor behind the last column stands on it for all purposes but for printing, and none goes above the screen.
    """
    cells, row, column, struck, top = {}, 0, 0, False, 0
    for part in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|.|\n", text, re.DOTALL):
        if part == STRUCK:
            struck = True
        elif part == "\x1b[0m":
            struck = False
        elif part == "\x1b[J":
            cells = {at: cell for at, cell in cells.items() if at < (row, min(column, width - 1))}
        elif part.startswith("\x1b[") and part[-1] == "A":
            row, column = max(top, row - int(part[2:-1])), min(column, width - 1)
        elif part.startswith("\x1b[") and part[-1] == "G":
            column = min(int(part[2:-1]), width) - 1
        elif part == "\n":
            row, column = row + 1, 0
        else:
            if column == width:
                row, column = row + 1, 0
            cells[row, column] = (part, struck)
            column += 1
        top = max(top, row - height + 1)
    return cells


def read(cells, struck):
    """The text in one of the two ways, line by line as it stands on the screen."""
    rows = sorted({row for (row, _), cell in cells.items() if cell[1] == struck})
    return ["".join(cells[at][0] for at in sorted(cells) if at[0] == row and cells[at][1] == struck) for row in rows]


def test_a_terminal_shows_the_completion_and_strikes_through_what_was_erased(policy, monkeypatch):
    model, tokenizer = policy
    monkeypatch.setattr(
        "replication.decoding.terminal.shutil.get_terminal_size", lambda: SimpleNamespace(columns=17, lines=24)
    )
    stream = Tty()
    done = generate(model, tokenizer, "12+3", ROLLOUT, ERASURE, seed=2, watcher=Terminal(tokenizer, stream, row=1))
    shown = screen(stream.getvalue(), 17)
    attempts = [a for a in done.attempts if a.row == 1]
    assert attempts
    assert "".join(read(shown, False)) == completion(done, 1, tokenizer)
    erased = "".join(tokenizer.decode(a.tokens, skip_special_tokens=True) for a in attempts)
    assert "".join(read(shown, True)) == erased


class Letters:
    """A tokenizer whose ids are characters."""

    def decode(self, ids, skip_special_tokens):
        return "".join(map(chr, ids))


@pytest.mark.parametrize(
    ("attempts", "kept", "struck"),
    [
        (["0123456789", "-bad", "+ok"], ["0123456789", "ok"], ["bad"]),  # a segment that ends at the right margin
        (["0123456789", "-\nbad", "+\nok"], ["0123456789", "ok"], ["bad"]),
        (["01234", "-56789abc", "+xyz"], ["01234", "xyz"], ["56789", "abc"]),
        (["01234", "-56789", "-a", "+b"], ["01234", "b"], ["56789", "a"]),
        (
            ["ab", "-" + "c" * 38 + "defg", "+h"],
            ["ab" + "c" * 8, "h"],
            ["c" * 10, "c" * 10, "c" * 10, "defg"],
        ),  # 4 rows
    ],
)
def test_erased_text_is_struck_where_it_stands(monkeypatch, attempts, kept, struck):
    """On a screen of ten columns and four rows; what has scrolled off stays as it is."""
    monkeypatch.setattr(
        "replication.decoding.terminal.shutil.get_terminal_size", lambda: SimpleNamespace(columns=10, lines=4)
    )
    stream = Tty()
    watcher = Terminal(Letters(), stream)
    row = torch.tensor([0])
    for text in attempts:
        for character in text.lstrip("+-"):
            watcher.sampled(row, torch.tensor([ord(character)]))
        (watcher.erased if text[0] == "-" else watcher.accepted)(row)
    cells = screen(stream.getvalue(), 10, 4)
    assert read(cells, False) == kept and read(cells, True) == struck


def test_a_pipe_gets_whole_segments_and_marks(policy):
    model, tokenizer = policy
    stream = io.StringIO()
    done = generate(model, tokenizer, "12+3", ROLLOUT, ERASURE, seed=2, watcher=Terminal(tokenizer, stream, row=1))
    marks = re.findall(r"\[-(.*?)-\]", stream.getvalue())
    erased = [tokenizer.decode(a.tokens, skip_special_tokens=True) for a in done.attempts if a.row == 1]
    assert marks == erased and erased
    assert re.sub(r"\[-.*?-\]", "", stream.getvalue()) == completion(done, 1, tokenizer)


def test_the_completions_are_a_function_of_seed_and_prompt(policy):
    one, same, other = (generate(*policy, "12+3", ROLLOUT, ERASURE, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.tokens, same.tokens) and not torch.equal(one.tokens, other.tokens)


def test_one_completion_needs_a_threshold_of_its_own(policy):
    alone = RolloutConfig(group_size=1, segments=6, segment_tokens=5, max_rows=1)
    with pytest.raises(UserError, match="one completion has no group to take the baseline 'group' from"):
        generate(*policy, "12+3", alone, ERASURE)
    done = generate(*policy, "12+3", alone, ErasureConfig(baseline="fixed", level=3.0, cap=3))
    assert done.attempts and all(a.u > 3.0 for a in done.attempts)


def test_segments_hold_every_attempt_in_order(policy):
    done = generate(*policy, "12+3", ROLLOUT, ERASURE)
    for row in range(4):
        found = segments(done, row, policy[1], "surprisal")
        assert len(found) == int(done.segments[row])
        assert [len(tries) - 1 for tries in found] == done.erasures[row, : len(found)].tolist()
        kept = [token for tries in found for token in tries[-1].tokens]
        assert [-t.logp for t in kept] == pytest.approx([t.uncertainty for t in kept])
        assert "".join(t.text for t in kept) == policy[1].decode(done.tokens[row, : done.length[row]])
        for tries in found:
            assert all(t.u > t.theta and t.erased for t in tries[:-1]) and not tries[-1].erased
    entropies = segments(done, 0, policy[1], "entropy")[0][-1].tokens
    assert [t.uncertainty for t in entropies] == pytest.approx(
        done.uncertainty("entropy")[0, : len(entropies)].tolist()
    )


def member():
    """Two segments, of which the first was erased once."""
    bad = Try([Token("<b>", 2.0, -2.0)], u=3.0, theta=2.5, erased=True)
    good = Try([Token("ok", 0.0, -0.0)], u=1.0, theta=2.75, erased=False)
    plain = Try([Token("end", 5.0, -5.0)], u=float("nan"), theta=float("nan"), erased=False)
    return [[bad, good], [plain]]


def test_the_page_shows_each_attempt_and_escapes_text():
    text = page("A <title>", 'ask "this"', [member()], {"seed": "0"})
    assert "A &lt;title&gt;" in text and "&lt;b&gt;" in text and "<b>" not in text
    assert "segment 0: U 3.00 &gt; Θ 2.50, erased" in text and "attempt 2: U 1.00 ≤ Θ 2.75, kept" in text
    assert "segment 1: not judged, kept" in text and "completion 0: 2 tokens kept, 1 erased" in text
    assert '<span style="background:rgba(214,96,32,0.40)" title="H 2.00 nats, p 0.135">' in text  # half of 4 nats
    assert text.count("<circle") == 2 and "<script" not in text and "http" not in text


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_the_page_opens_in_a_browser(tmp_path):
    (tmp_path / "trace.html").write_text(page("Trace", "ask", [member(), member()], {"seed": "0"}))
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --dump-dom --window-size=900,700"
    profile, picture = f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={tmp_path / 'page.png'}"
    argv = ["chromium", *flags.split(), profile, picture, f"file://{tmp_path}/trace.html"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('class="try erased"') == 2 and done.stdout.count("<summary>") == 2
    assert (tmp_path / "page.png").read_bytes()[:4] == b"\x89PNG"


def test_transformers_generate_takes_it_as_a_decoding_method(policy):
    model, tokenizer = policy
    prompts = [tokenizer("12+3>").input_ids, tokenizer("7>").input_ids]
    width = max(map(len, prompts))
    ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    settings = {"do_sample": True, "top_k": 0, "temperature": 0.8, "num_return_sequences": 3, "max_new_tokens": 18}
    out = model.generate(
        ids, attention_mask=mask, custom_generate=erasable, erasure=ERASURE, segment_tokens=5, seed=4, **settings
    )
    keys = torch.tensor([seed_for(4, "generate", *prompt, "again", 0, i) for prompt in prompts for i in range(3)])
    rollout = RolloutConfig(group_size=3, segments=4, segment_tokens=5, temperature=0.8, max_rows=6)
    want = roll_out(
        TorchEngine(model), prompts, keys, rollout, ERASURE, [tokenizer.eos_token_id], tokenizer.pad_token_id
    )
    assert want.attempts and out.shape[1] == width + min(18, int(want.length.max()))
    assert torch.equal(out[:, :width], ids.repeat_interleave(3, 0))
    assert torch.equal(out[:, width:], want.tokens[:, : out.shape[1] - width])
    for row in out[:, width:].tolist():  # nothing of an erased attempt is left behind an end
        if tokenizer.eos_token_id in row:
            assert set(row[row.index(tokenizer.eos_token_id) + 1 :]) <= {tokenizer.pad_token_id}


def test_the_completions_of_a_prompt_do_not_depend_on_the_others_of_its_batch(policy):
    """In another order the same ids; the same prompt twice draws anew."""
    model, tokenizer = policy
    ids = torch.tensor([tokenizer(text).input_ids for text in ("12+3>", "45-6>", "12+3>")])
    settings = {"do_sample": True, "top_k": 0, "num_return_sequences": 2, "max_new_tokens": 12, "segment_tokens": 4}

    def sample(prompts):
        out = model.generate(prompts, custom_generate=erasable, erasure=ERASURE, seed=4, **settings)
        padded = torch.nn.functional.pad(out, (0, 17 - out.shape[1]), value=tokenizer.pad_token_id)
        return padded.view(len(prompts), 2, -1)

    first = sample(ids)
    assert torch.equal(sample(ids[[1, 0, 2]]), first[[1, 0, 2]])
    assert torch.equal(sample(ids[1:2]), first[1:2])
    assert not torch.equal(first[0], first[2])


def test_a_batch_of_lone_completions_may_be_each_others_baseline(policy):
    ids = torch.tensor([policy[1](text).input_ids for text in ("12+3>", "45-6>")])
    batch = replace(ERASURE, baseline="batch")
    out = policy[0].generate(ids, custom_generate=erasable, do_sample=True, top_k=0, max_new_tokens=8, erasure=batch)
    assert out.shape[0] == 2


def test_transformers_generate_passes_top_k_and_top_p_on(policy):
    model, tokenizer = policy
    ids = torch.tensor([tokenizer("12+3>").input_ids])
    settings = {"do_sample": True, "num_return_sequences": 3, "max_new_tokens": 10, "top_k": 6, "top_p": 0.7}
    out = model.generate(ids, custom_generate=erasable, erasure=ERASURE, segment_tokens=5, seed=4, **settings)
    keys = torch.tensor([seed_for(4, "generate", *ids[0].tolist(), "again", 0, member) for member in range(3)])
    rollout = RolloutConfig(group_size=3, segments=2, segment_tokens=5, max_rows=3, top_k=6, top_p=0.7)
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    want, free = (
        roll_out(TorchEngine(model), ids.tolist(), keys, r, ERASURE, [eos], pad)
        for r in (rollout, replace(rollout, top_k=0, top_p=1.0))
    )
    width = out.shape[1] - ids.shape[1]
    assert torch.equal(out[:, ids.shape[1] :], want.tokens[:, :width])
    assert not torch.equal(want.tokens, free.tokens)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_sample": False}, "do_sample=True"),
        ({"do_sample": True, "top_k": 0, "repetition_penalty": 1.2}, "RepetitionPenaltyLogitsProcessor"),
        ({"do_sample": True, "top_k": 0, "max_time": 5.0}, "MaxTimeCriteria"),
        ({"do_sample": True, "top_k": 0}, "one completion has no group"),
        ({"do_sample": True, "top_k": 0, "return_dict_in_generate": True}, "erasable returns ids"),
    ],
)
def test_transformers_generate_is_refused_clearly(policy, settings, message):
    ids = torch.tensor([policy[1]("12+3>").input_ids])
    with pytest.raises(UserError, match=message):
        policy[0].generate(ids, custom_generate=erasable, max_new_tokens=8, erasure=ERASURE, **settings)


def test_an_empty_prompt_begins_with_the_beginning_of_text_token():
    tokenizer = small_tokenizer()
    tokenizer.chat_template = None
    assert encode(tokenizer, "") == []  # and `roll_out` says that it is empty
    tokenizer.bos_token = "="
    assert encode(tokenizer, "") == [tokenizer.bos_token_id] and encode(tokenizer, "3") == tokenizer("3").input_ids
