"""What an interrupted evaluation takes up again, and what it must not."""

import signal
import sys
from pathlib import Path

import pytest
from commands import PARAMS

from replication import evaluate
from replication.cli import load_run
from replication.config import PolicyConfig
from replication.data.prepared import write_prepared
from replication.data.tasks import TASKS
from replication.errors import run_command
from replication.evaluate import SECTIONS as EVALUATED
from replication.evaluate import fingerprint, finished_chunks
from replication.evaluation import run as sampling
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


def test_a_disk_without_room_is_one_line(run, small_files):
    Path(".scratch").touch()
    code, _, line = run()
    assert code == 2 and line.startswith("error: .scratch/evaluate/")
    assert line.endswith("cannot be written: Not a directory: run the command in a folder that can be written")
    Path(".scratch").unlink()
    with small_files(1000):
        code, _, line = run()
    what = "chunks.jsonl cannot be written: File too large: make room there, and run the same command to go on"
    assert code == 2 and line.startswith("error: .scratch/evaluate/") and line.endswith(what)
    assert run()[0] == 0


def test_a_damaged_chunk_and_what_follows_is_sampled_again(tmp_path):
    path = tmp_path / "chunks.jsonl"
    path.write_text('[{"a": 1}]\n[{"b": \n[{"c": 3}]\n')
    assert finished_chunks(path) == [[{"a": 1}]]
    assert path.read_text() == '[{"a": 1}]\n'


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
