"""Named evaluation profiles: their numbers, what they set and what comes before them, and the whole path under each."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from commands import PARAMS, ROOT
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from replication import evaluate, grade, prepare
from replication.cli import load_run
from replication.config import Config
from replication.config.profiles import BOXED, LAST_LINE, PROFILES, SEGMENT
from replication.data.template import prompt_ids
from replication.errors import UserError
from replication.policy import save_policy

SHARED = ROOT.parent / "shared"
PEERS = (SHARED / "docs/peers").with_suffix(".md")
PAGE = (ROOT / "docs/profiles.md").read_text()
SECTIONS = [*evaluate.SECTIONS, "grading"]
WORDINGS = {BOXED: "boxed", LAST_LINE: "last line", None: "not stated"}


def load(*argv, params=PARAMS):
    return load_run(SECTIONS, ["--params", str(params), *argv])


def numbers(name):
    """Temperature, top-p, top-k, samples and longest answer of a profile."""
    p = PROFILES[name]
    return tuple(stated.value for stated in (p.temperature, p.top_p, p.top_k, p.samples, p.longest))


def table(text, first):
    """The rows of a table in Markdown whose header begins with a word."""
    lines = text[text.index(f"\n| {first} |") :].lstrip("\n").split("\n\n")[0].splitlines()
    header, _, *rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows}


@pytest.mark.skipif(not PEERS.exists(), reason="needs ../shared/docs")
def test_the_numbers_are_those_of_the_peers():
    text = PEERS.read_text()
    rows = table(text, "harness")

    def row(name):
        found = next(row for key, row in rows.items() if key.startswith(name))
        return found["samples"], found["temperature, top-p"], found["longest answer"]

    def shown(name):
        temperature, top_p, _, samples, longest = numbers(name)
        return str(samples), f"{temperature}, {top_p}", f"{longest:,}"

    assert row("ours, q4b") == (*shown("paper")[:2], "8,192 (16 x 512)") and shown("paper")[2] == "8,192"
    samples, drawn, longest = row("DeepMath README")
    assert (samples, drawn, longest.split()[0]) == shown("deepmath")
    samples, drawn, longest = row("sober-reasoning")
    assert (drawn, longest) == shown("sober")[1:] and samples.startswith("one a seed")
    samples, drawn, longest = row("lighteval")
    assert f"avg@{numbers('lighteval')[3]}" in samples and f"MATH-500 {numbers('lighteval')[4]:,}" in longest
    assert drawn == "the caller's" and numbers("lighteval")[:3] == (None, None, None)


def test_the_numbers_of_the_cards():
    assert (
        numbers("qwen3_thinking") == (0.6, 0.95, 20, 64, 38_912) and PROFILES["qwen3_thinking"].thinking.value is True
    )
    assert numbers("qwen3_plain") == (0.7, 0.8, 20, 64, 38_912) and PROFILES["qwen3_plain"].thinking.value is False


def test_the_page_has_every_number_with_its_source():
    rows = table(PAGE, "profile")
    assert list(rows) == list(PROFILES)
    for name, profile in PROFILES.items():
        values = ["not stated" if v is None else f"{v:,}" if isinstance(v, int) else str(v) for v in numbers(name)]
        mode = {True: "on", False: "off", None: "not stated"}[profile.thinking.value]
        assert list(rows[name].values())[1:8] == [*values, WORDINGS[profile.wording.value], mode], name
        part = PAGE.split(f"**`{name}`**")[1].split("\n\n")[0]
        assert profile.origin in part and profile.beyond in part
        assert all(stated.source in part for stated in profile.stated().values()), name
    assert all(word in PAGE for wording in (BOXED, LAST_LINE) for word in wording.split("{question}") if word.strip())


def test_own_is_what_it_was():
    config = load("--model=4b").config
    assert config.evaluate.profile == config.profile_label() == "own" and config.evaluate.wording is None
    assert Config().fingerprint("evaluate") == "5ece8ca233627f12", "runs of before have other folders"


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_sets_what_is_stated_and_leaves_the_rest(name):
    run = load("--model=tiny", f"--evaluate.profile={name}")
    own, config, profile = run.filed, run.config, PROFILES[name]
    for key in ("temperature", "top_p", "top_k", "samples", "wording"):
        value = getattr(profile, key).value
        assert getattr(config.evaluate, key) == (getattr(own.evaluate, key) if value is None else value)
    assert config.rollout.segments * config.rollout.segment_tokens == profile.longest.value
    assert profile.longest.value % SEGMENT == 0 and config.policy.thinking is bool(profile.thinking.value)
    assert config.evaluate.modes == own.evaluate.modes and config.erasure == own.erasure
    assert config.profile_label() == name


def test_params_yaml_then_the_profile_then_the_command_line(tmp_path):
    params = tmp_path / "params.yaml"
    evaluation = "{samples: 5, temperature: 0.1, profile: deepmath, seed: 7}"
    params.write_text(f"models: {{a: {{evaluate: {evaluation}, rollout: {{segments: 3}}}}}}\nalgorithms: {{}}\n")

    def found(*flags):
        config = load("--model=a", *flags, params=params).config
        e = config.evaluate
        return e.samples, e.temperature, e.top_p, e.seed, config.rollout.segments, config.profile_label()

    assert found() == (16, 0.6, 0.95, 7, 64, "deepmath")
    assert found("--evaluate.profile=own") == (5, 0.1, 1.0, 7, 3, "own")
    assert found("--evaluate.profile=sober") == (10, 0.8, 0.9, 7, 64, "sober")
    assert found("--evaluate.profile=lighteval")[:3] == (64, 0.1, 1.0), "what it does not state is as it is filed"
    changed = "deepmath but evaluate.samples, rollout.segments"
    assert found("--evaluate.samples=2", "--rollout.segments=1") == (2, 0.6, 0.95, 7, 1, changed)
    assert found("--evaluate.temperature=0.6")[-1] == "deepmath", "as the profile has it"
    assert load("--model=a", params=params).filed.evaluate.profile == "deepmath"


def test_what_cannot_be_is_refused_in_one_line():
    with pytest.raises(
        UserError, match=r"evaluate\.profile = 'best' is not one of own, paper, deepmath, .*sober: corr"
    ):
        load("--evaluate.profile=best")
    with pytest.raises(
        UserError, match=r"evaluate\.wording = 'Go' is not a text with \{question\} in it once: correct"
    ):
        load("--evaluate.wording=Go")


def test_help_says_which_there_are_and_what_wins(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluate", "--help"])
    with pytest.raises(SystemExit):
        evaluate.main()
    said = " ".join(capsys.readouterr().out.split())
    assert "stronger than params.yaml. A flag that says otherwise wins" in said and ", ".join(PROFILES) in said


TOKENS = ["<pad>", "<eos>", *map(chr, range(9, 127))]
TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[answer]"
    "{% if not enable_thinking %}[no thinking]{% endif %}"
)


def words():
    """A tokenizer of characters whose chat template knows a thinking mode, as Qwen3's does."""
    made = Tokenizer(models.WordLevel({token: i for i, token in enumerate(TOKENS)}, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<eos>")
    fast.chat_template = TEMPLATE
    return fast


def test_a_wording_is_what_is_asked():
    def asked(*more):
        return "".join(TOKENS[i] for i in prompt_ids(words(), "1 + {x}?", *more))

    assert asked(False, BOXED) == asked() and asked().endswith("[answer][no thinking]")
    assert asked(True, LAST_LINE) == f"[user]{LAST_LINE.replace('{question}', '1 + {x}?')}[answer]"
    assert asked(False, load("--evaluate.wording={question} Go.").config.evaluate.wording).startswith(
        "[user]1 + {x}? Go."
    )


BENCHMARKS = ("aime24", "aime25", "math500", "minerva", "olympiadbench", "amc23")
COLUMNS = "columns: {question: problem, final_answer: answer"
CUT = ["--evaluate.samples=2", "--evaluate.problems=2", "--rollout.segments=2", "--rollout.segment_tokens=6"]
MADE = "evaluate.samples, rollout.segments, rollout.segment_tokens"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The public benchmarks, prepared, and a small model that reads their letters."""
    folder = tmp_path_factory.mktemp("profiles")
    torch.manual_seed(0)
    size = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }
    size |= {"intermediate_size": 48, "max_position_embeddings": 8192, "vocab_size": len(TOKENS)}
    model = Qwen3ForCausalLM(Qwen3Config(**size, pad_token_id=0, eos_token_id=1, bos_token_id=None))
    (folder / "policy").mkdir()
    save_policy(model, words(), folder / "policy")
    (folder / "train.jsonl").write_text('{"question": "What is 1 + 1?", "final_answer": "2"}\n')
    tolerance = {"olympiadbench": ", tolerance: error"}
    files = SHARED / "data/benchmarks"
    named = [f"{n}: {{path: {files}/{n}.jsonl, {COLUMNS}{tolerance.get(n, '')}}}}}" for n in BENCHMARKS]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        argv = ["--model=policy", "--data.train.path=train.jsonl", f"--data.benchmarks={{{', '.join(named)}}}"]
        call(patch, prepare, *argv, "--out=data")
    return folder


def call(patch, module, *argv):
    patch.setattr(sys, "argv", [module.__name__, "--params", str(PARAMS), *argv])
    module.main()


@pytest.mark.skipif(not (SHARED / "data/benchmarks").is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("name", ["own", *PROFILES])
def test_public_benchmarks_under_every_profile(place, monkeypatch, name):
    monkeypatch.chdir(place)
    call(monkeypatch, evaluate, "--model=policy", "--data=data", f"--out={name}", f"--evaluate.profile={name}", *CUT,
         "--grading.max_no_answer=1")  # fmt: skip
    metrics = json.loads(Path(name, "metrics.json").read_text())
    rows = [row for modes in metrics.values() for row in modes.values()]
    assert set(metrics) == set(BENCHMARKS) and len(rows) == 12 and {row["samples"] for row in rows} == {2}
    assert {row["profile"] for row in rows} == {name if name == "own" else f"{name} but {MADE}"}
    assert {row["thinking"] for row in rows} == {name == "qwen3_thinking"}
    assert all(0 <= row["truncated"] <= 1 for row in rows) and any(row["truncated"] for row in rows)
    if name != "sober":
        return
    monkeypatch.setattr(sys, "argv", ["grade", name, "--out", "again"])
    grade.main()
    again = json.loads(Path("again/metrics.json").read_text())
    assert again == metrics, "graded again it is still of its profile"


@pytest.mark.skipif(not PEERS.exists(), reason="needs ../shared/docs")
def test_what_is_published_is_what_the_peers_have():
    rows = json.loads((ROOT / "reports/reference.json").read_text())["published"]
    text = " ".join(PEERS.read_text().split())

    def values(model, thinking):
        found = [r for r in rows if (r["model"], r["thinking"]) == (model, thinking) and "table" in r["source"]]
        assert [r["benchmark"] for r in found] == ["aime24", "aime25", "math500"]
        return " / ".join(f"{100 * r['value']:.1f}" for r in found)

    four = f"4B without thinking {values('q4b', False)} (AIME 2024, 2025, MATH-500), with {values('q4b', True)}"
    assert f"{four}; 8B {values('q8b', False)} and {values('q8b', True)}" in text
    card = next(row for row in rows if "card" in row["source"])
    assert (
        f"Qwen3-4B without thinking, AIME 2025: {100 * card['value']:.1f} (the card of Qwen3-4B-Instruct-2507" in text
    )
    assert not re.search(r"81\.5", json.dumps(rows)), "a trap that the peers have"
