"""params.yaml and the command line: defaults, layers, and errors that say what, where, and what to do."""

from pathlib import Path

import pytest
import yaml

from replication.cli import load_run
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
    assert (
        run.model == "smollm2-135m-instruct" and run.config.policy.pretrained == "HuggingFaceTB/SmolLM2-135M-Instruct"
    )
    assert run.config.rollout.segment_tokens == 32
    assert load(params, "--model", str(tmp_path)).config.policy.pretrained == str(tmp_path)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--model", "9b"], ["--model 9b", "tiny, 4b, custom", "hub id"]),
        (["--model", "/no/such/folder"], ["/no/such/folder", "no such folder"]),
        (["--algorithm", "ppo"], ["--algorithm ppo", "grpo, e3rl"]),
        (["--train.lr", "fast"], ["command line", "train.lr", "fast"]),
        (["--train.rate", "1"], ["command line", "--train.rate"]),
        (["--train.steps", "0"], ["train.steps = 0", "positive whole number"]),
        (["--rollout.segments", "2.5"], ["rollout.segments", "2.5"]),
        (["--erasure.fraction", "1.5"], ["erasure.fraction = 1.5", "between 0 and 1"]),
        (["--erasure.uncertainty", "vibes"], ["erasure.uncertainty", "surprisal", "vibes"]),
        (["--trainer.devices", "0"], ["trainer.devices = 0", "positive"]),
        (["--policy.kv_heads", "3"], ["policy.kv_heads = 3", "divisor"]),
        (["--train.warmup", "-1"], ["train.warmup = -1"]),
        (["--evaluate.modes", "[]"], ["evaluate.modes", "plain or erased"]),
        (
            ["--credit.negatives", "true", "--credit.overlong_buffer", "0.2"],
            ["credit.negatives = True", "overlong_buffer"],
        ),
        (["--model", "ck/tiny"], ["ck/tiny", "rename"]),
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
    ],
)
def test_bad_params(params, old, new, words):
    params.write_text(PARAMS.replace(old, new, 1))
    with pytest.raises(UserError) as error:
        load(params, "--algorithm", "grpo")
    text = str(error.value)
    assert "\n" not in text and all(word in text for word in [*words, *([] if "=" in words[0] else [str(params)])])


def test_missing_params_file(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load(tmp_path)
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
