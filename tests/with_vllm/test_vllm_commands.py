"""`generate` and `evaluate` on vLLM, by command: what they write, killed and resumed, and what they refuse."""

import json
from importlib.util import find_spec

import pytest
from commands import chunks_in, command, started, wait_until

if find_spec("vllm") is None:
    pytest.skip("vLLM is not installed here: `make vllm`", allow_module_level=True)

VLLM = "--rollout.engine=vllm"
CHECKPOINT = "runs/warmstart/tiny"


def test_generate(workshop):
    flags = [f"--model={CHECKPOINT}", "--prompt=12+3", VLLM, "--rollout.segments=4", "--rollout.segment_tokens=6"]
    done = command("generate", *flags, "--trace=out.html", cwd=workshop)
    assert done.stdout.strip() and "4 completions, " in done.stderr
    assert (workshop / "out.html").read_text().count("<summary>") == 4
    again = command("generate", *flags, cwd=workshop)
    assert again.stdout == done.stdout
    long = command("generate", *flags, "--rollout.segments=2000", cwd=workshop, check=False)
    assert long.returncode == 2 and long.stderr.splitlines()[-1].startswith("error: the longest prompt and completion")


def test_an_evaluation_that_was_killed_goes_on_to_the_same_samples(workshop):
    flags = [f"--checkpoint={CHECKPOINT}", "--model=tiny", "--evaluate.samples=4", VLLM, "--rollout.group_size=4"]
    flags += [
        "--rollout.max_rows=8",
        "--evaluate.modes=[plain,erased,plain@0.5]",
        "--grading.max_no_answer=1",
    ]
    command("evaluate", *flags, "--out=whole", cwd=workshop)
    process = started("evaluate", *flags, "--out=killed", cwd=workshop)
    wait_until(process, lambda: chunks_in(workshop))
    process.kill()
    process.wait()
    assert not (workshop / "killed").exists()
    done = command("evaluate", *flags, "--out=killed", cwd=workshop)
    assert "resuming after" in done.stdout
    for name in ("metrics.json", "samples.jsonl"):
        assert (workshop / "whole" / name).read_text() == (workshop / "killed" / name).read_text()
    assert set(json.loads((workshop / "whole/metrics.json").read_text())["heldout"]) == {
        "plain", "erased", "plain@0.5"
    }  # fmt: skip


def test_a_temperature_of_a_mode_is_refused_before_anything_is_sampled(workshop):
    flags = [f"--checkpoint={CHECKPOINT}", "--model=tiny", VLLM, "--evaluate.modes=[plain,plain@0.001]"]
    done = command("evaluate", *flags, "--out=cold", cwd=workshop, check=False)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(
        "error: temperature = 0.001, and vLLM draws"
    )
    assert not (workshop / "cold").exists()
