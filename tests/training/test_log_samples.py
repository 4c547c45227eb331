"""Completions of a run as its logger shows them."""

import json

import pytest
import torch
from small_models import small_model

from replication.config import ErasureConfig, RolloutConfig
from replication.policy import small_tokenizer
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.engine import roll_out
from replication.training.samples import COLUMNS, as_markdown, sample_rows


def test_rows_show_what_was_erased_where_it_stood():
    tokenizer = small_tokenizer()
    rollout = RolloutConfig(group_size=3, segments=2, segment_tokens=3, max_rows=6)
    erasure = ErasureConfig(baseline="fixed", level=1e-6, cap=1)  # each first attempt
    done = roll_out(TorchEngine(small_model()), [[5, 6], [7]], torch.arange(6), rollout, erasure, [1], 0)
    rows = sample_rows(4, done, torch.tensor([[1.0, 0, 0], [1, 0, 0]]), tokenizer)
    assert len(rows) == 4 and [row[3] for row in rows] == [True, False, False, True]
    for index, (step, prompt, text, _, tokens, erased) in enumerate(rows):
        assert (step, prompt, tokens) == (4, "01" if index < 3 else "2", int(done.length[index]))
        kept = "".join(text.split("~~")[::2])  # erased parts stand between pairs of tildes
        assert kept == tokenizer.decode(done.tokens[index, :tokens].tolist())
        assert text.startswith("~~") and text.count("~~") == 2 * int(done.erasures[index].sum()) and erased > 0


def test_a_table_survives_what_is_in_it():
    table = as_markdown([[1, "a|b", "c\nd", True, 2, 0]]).splitlines()
    assert table[0] == f"| {' | '.join(COLUMNS)} |" and table[2] == "| 1 | a\\|b | c d | True | 2 | 0 |"


@pytest.mark.parametrize("logger", ["tensorboard", "dvclive", "wandb"])
def test_each_tracker_gets_metrics_and_samples_by_one_setting(quick_fit, tmp_path, monkeypatch, logger):
    if logger != "dvclive":
        pytest.importorskip(logger)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    quick_fit("--out=run", f"--trainer.logger={logger}", "--train.steps=2", "--train.checkpoint_every=2")
    scratch = tmp_path / ".scratch/train/run"
    if logger == "dvclive":
        assert "| 1 | " in (scratch / "dvclive/samples.md").read_text()
        assert len((scratch / "dvclive/plots/metrics/train/reward.tsv").read_text().splitlines()) == 3
    if logger == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(next(scratch.rglob("events.*")).parent)).Reload()
        assert len(events.Scalars("train/reward")) == 2
        assert b"| 1 | " in events.Tensors("samples/text_summary")[0].tensor_proto.string_val[0]
    if logger == "wandb":
        import wandb

        wandb.finish()
        table = json.loads(next(scratch.rglob("*.table.json")).read_text())
        assert table["columns"] == COLUMNS and len(table["data"]) == 4
