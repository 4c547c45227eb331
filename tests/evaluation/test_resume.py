"""What an interrupted evaluation takes up again, and what it must not."""

from commands import PARAMS

from replication.cli import load_run
from replication.evaluate import SECTIONS as EVALUATED
from replication.evaluate import fingerprint, finished_chunks


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
