"""params.yaml and the command line: defaults, layers, and errors that say what, where, and what to do."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from replication.__main__ import SETTINGS
from replication.cli import load_run, model_section, read_params
from replication.config import SECTIONS, Config, RolloutConfig
from replication.errors import UserError
from replication.training.machine import check_settings

ROOT = Path(__file__).parents[1]
PARAMS = """
models:
  tiny:
    train: {lr: 1e-3, steps: 7}
    erasure: {cap: 3}
  q4b:
    policy: {pretrained: Qwen/Qwen3-4B}
  custom:
    rollout: {segment_tokens: 32}
algorithms:
  grpo: {erasure: {fraction: 0.0}}
  e3rl:
"""


@pytest.fixture
def params(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS)
    return path


def load(params, *argv, sections=tuple(SECTIONS)):
    return load_run(sections, ["--params", str(params), *argv])


def test_layers_from_weakest_to_strongest(params):
    run = load(params, "--model", "tiny", "--algorithm", "grpo", "--train.steps", "9")
    assert run.config.train.lr == 1e-3  # PyYAML reads 1e-3 as text; the parser knows better
    assert run.config.train.steps == 9
    assert run.config.erasure.cap == 3 and run.config.erasure.fraction == 0.0
    assert run.config.train.prompts == 16  # the dataclass's default


def test_paper_models_by_their_short_names(params):
    run = load(params, "--model", "4b")
    assert run.model == "q4b" and run.config.policy.pretrained == "Qwen/Qwen3-4B"


def test_any_other_model_by_hub_id_or_folder(params, tmp_path):
    run = load(params, "--model", "HuggingFaceTB/SmolLM2-135M-Instruct")
    assert re.fullmatch("smollm2-135m-instruct-[0-9a-f]{8}", run.model)
    assert run.asked == run.config.policy.pretrained == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert run.config.rollout.segment_tokens == 32
    assert load(params, "--model", str(tmp_path)).config.policy.pretrained == str(tmp_path)


def test_no_two_models_share_a_name(params, tmp_path, monkeypatch):
    """Two checkpoints of the same number, two owners of a name, a folder named as a section; `.` has a name, too."""
    monkeypatch.chdir(tmp_path)
    folders = ["a/checkpoint-100", "b/checkpoint-100", "b/CHECKPOINT-100", "ck/tiny", "x" * 200]
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/checkpoint-100")

    def name(model):
        return model_section(yaml.safe_load(PARAMS), model, params)[0]

    names = {model: name(model) for model in [*folders, ".", "one/Qwen", "two/Qwen"]}
    assert len({found.lower() for found in names.values()} | {"tiny"}) == len(names) + 1
    assert names["."].startswith(tmp_path.name[:40].lower() + "-") and max(map(len, names.values())) < 50
    for same in ("a/checkpoint-100/", "./b/../a/checkpoint-100", str(tmp_path / "a/checkpoint-100"), "link"):
        assert name(same) == names["a/checkpoint-100"]
    assert name("One/qwen") == names["one/Qwen"]  # the hub knows no case


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--model", "9b"], ["--model 9b", "tiny, 4b, custom", "hub id"]),
        (["--model", "/no/such/folder"], ["/no/such/folder", "no such folder"]),
        (["--model", ""], ["--model  is not known"]),
        (["--model", "./no/such"], ["./no/such", "no such folder, and a hub id is owner/name"]),
        (["--algorithm", "ppo"], ["--algorithm ppo", "grpo, e3rl"]),
        (["--train.lr", "fast"], ["command line", "train.lr", "fast"]),
        (["--train", "{lr: null}"], ["command line: train.lr has no value: give it one, or take it out"]),
        (["--train.rate", "1"], ["command line", "--train.rate"]),
        (["--train.steps", "0"], ["train.steps = 0", "positive whole number"]),
        (["--rollout.segments", "2.5"], ["rollout.segments", "2.5"]),
        (["--erasure.fraction", "1.5"], ["erasure.fraction = 1.5", "between 0 and 1"]),
        (["--erasure.uncertainty", "vibes"], ["erasure.uncertainty", "surprisal", "vibes"]),
        (["--trainer.devices", "0"], ["trainer.devices = 0", "positive"]),
        (["--policy.kv_heads", "3"], ["policy.kv_heads = 3", "divisor"]),
        (["--train.warmup", "-1"], ["train.warmup = -1"]),
        (["--objective.correction", "clip"], ["objective.correction", "truncate", "mask", "clip"]),
        (["--objective.correction_cap", "0.9"], ["objective.correction_cap = 0.9", "a number >= 1"]),
        (["--objective.correction_high", ".inf"], ["objective.correction_high = inf", "a number >= 1"]),
        (["--objective.correction_low", "1.1"], ["objective.correction_low = 1.1", "between 0 and 1"]),
        (["--evaluate.modes", "[]"], ["evaluate.modes", "plain or erased"]),
        (
            ["--credit.negatives", "true", "--credit.overlong_buffer", "0.2"],
            ["credit.negatives = True", "overlong_buffer"],
        ),
        (["--erasure.window", "99999999999999999999"], ["erasure.window = 99999999999999999999", "at most 1,000,000"]),
        (["--evaluate.samples", "10001"], ["evaluate.samples = 10001", "at most 10,000"]),
        (["--grading.workers", "1.5"], ["grading.workers", "1.5"]),
        (["--grading.memory_gib", "1e300"], ["grading.memory_gib = 1e+300", "at most 1,000,000"]),
        (
            ["--rollout.lanes", "8", "--rollout.engine", "vllm"],
            ["rollout.lanes = 8 is not possible with rollout.engine vllm"],
        ),
        (["--rollout.max_rows", "3"], ["rollout.max_rows = 3", "rollout.group_size"]),
    ],
)
def test_bad_flags(params, argv, words):
    with pytest.raises(UserError) as error:
        load(params, *argv)
    text = str(error.value)
    assert "\n" not in text and all(word in text for word in words)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("cap: 3", "cap: many", ["models.tiny", "erasure.cap", "many"]),
        ("cap: 3", "caps: 3", ["models.tiny", "caps"]),
        ("    erasure:", "    erasing:", ["models.tiny", "erasing", "sections are"]),
        ("fraction: 0.0", "fraction: -1", ["erasure.fraction = -1", "between 0 and 1"]),
        ("models:", "model:", ["must hold the keys"]),
        ("models:", "models: [", ["not valid YAML"]),
        ("    train: {lr: 1e-3, steps: 7}", "    train: 5", ["models.tiny", "must map sections"]),
        ("    train:", "    objective: {kl: 0.1}\n    train:", ["models.tiny", "objective"]),
        ("    train: {lr: 1e-3, steps: 7}", "    train: []", ["models.tiny", "must map sections"]),
        ("    train: {lr: 1e-3, steps: 7}", "    train: {lr: null}", ["models.tiny: train.lr has no value"]),
        ("    train: {lr: 1e-3, steps: 7}", "    train: {7: 1}", ["models.tiny.train", "key 7 is no text", "quotes"]),
        ("  tiny:", "  7: {}\n  tiny:", ["models: the key 7 is no text: put it in quotes"]),
        (
            "    erasure:",
            "    5: {}\n    false: {}\n    erasing: {}\n    erasure:",
            ["models.tiny", "key 5 is no text"],
        ),
        ("cap: 3", "cap: 3, cap: 4", ["cap stands 2 times in the mapping", "line 5"]),
        ("cap: 3", "cap: 2024-13-45", ["not valid YAML", "month"]),
        ("cap: 3", f"cap: {'9' * 5000}", ["not valid YAML", "digits"]),
        ("cap: 3", f"cap: {'9' * 30}", ["erasure.cap = 9999", "at most 1,000"]),
        ("    erasure: {cap: 3}", "    erasure: &a {cap: *a}", ["holds itself"]),
        ("cap: 3", f"cap: {'[' * 3000}{']' * 3000}", ["nested too deeply"]),
        ("cap: 3", "cap: \udcff", ["not valid YAML"]),
    ],
)
def test_bad_params(params, old, new, words):
    params.write_bytes(PARAMS.replace(old, new, 1).encode(errors="surrogateescape"))
    with pytest.raises(UserError) as error:
        load(params, "--algorithm", "grpo")
    text = str(error.value)
    assert "\n" not in text and all(word in text for word in [*words, *([] if "=" in words[0] else [str(params)])])


def test_what_is_commented_out_is_as_if_it_were_not_there(params):
    params.write_text(PARAMS.replace("{cap: 3}", "\n      # cap: 3").replace("  e3rl:", "  e3rl:\n    train:"))
    assert load(params, "--model", "tiny").config.erasure.cap == 5


def test_words_that_yaml_reads_as_numbers(params):
    params.write_text(PARAMS.replace("    erasure:", "    trainer: {precision: 32}\n    erasure:", 1))
    assert load(params, "--model", "tiny").config.trainer.precision == "32"


@pytest.mark.parametrize("name", SECTIONS)
def test_every_whole_number_has_an_upper_bound(name):
    """Beyond it torch would overflow, or the command would seem to hang. A seed may be any."""
    whole = [field.name for field in fields(SECTIONS[name]) if field.type == "int" and field.name != "seed"]
    for key in whole:
        with pytest.raises(UserError, match=rf"^{name}\.{key} = 9+ is not a .* at most [0-9,]+: correct it"):
            SECTIONS[name](**{key: 99_999_999_999_999_999_999})


def test_missing_params_file(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"is a folder: name the settings file by --params"):
        load(tmp_path)
    monkeypatch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(UserError, match=r"cannot be read: Permission denied: let this user read it, or name another"):
        load(tmp_path / "params.yaml")
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"nowhere\.yaml does not exist"):
        load(tmp_path / "nowhere.yaml")


def test_flags_of_sections_that_a_command_does_not_read_are_refused(params):
    with pytest.raises(UserError, match=r"--train\.steps"):
        load(params, "--train.steps", "3", sections=("data",))


def test_every_shipped_setting_is_accepted():
    shipped = yaml.safe_load((ROOT / "params.yaml").read_text())
    cells = [(m, "e3rl") for m in shipped["models"]] + [("tiny", a) for a in shipped["algorithms"]]
    for model, algorithm in cells:
        load(ROOT / "params.yaml", "--model", model, "--algorithm", algorithm)


def test_the_consoles_own_settings_are_custom_of_the_shipped_ones():
    own, shipped = (read_params(p) for p in (SETTINGS, ROOT / "params.yaml"))
    custom = {"policy", "rollout", "erasure", "evaluate"}
    assert own["models"] == {"custom": {k: v for k, v in shipped["models"]["custom"].items() if k in custom}}


def test_fingerprint_knows_what_changed(params):
    one, same, other = (load(params, "--train.lr", lr).config for lr in ("1e-3", "0.001", "2e-3"))
    assert one.fingerprint("train", "erasure") == same.fingerprint("train", "erasure")
    assert one.fingerprint("train") != other.fingerprint("train")
    assert one.fingerprint("erasure") == other.fingerprint("erasure")


@pytest.mark.parametrize("truncated", [{"top_k": 5}, {"top_p": 0.9}])
def test_training_refuses_truncated_sampling(truncated):
    check_settings(Config())
    with pytest.raises(UserError, match=r"top_k.*evaluate\.top_k"):
        check_settings(Config(rollout=RolloutConfig(**truncated)))
