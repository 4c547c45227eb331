"""A checkpoint is read as it was saved, or refused in one line; nothing in between."""

import json
import random
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import small_model

from replication.errors import UserError
from replication.loading import eos_ids, load_policy
from replication.policy import save_policy, small_tokenizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "qwen3"
    save_policy(small_model(), small_tokenizer(), folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to damage."""
    return shutil.copytree(saved, tmp_path / "model")


def weights(folder, change):
    """Change the weights by name."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def settings(folder, name="config.json", **change):
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def refused(folder):
    with pytest.raises(UserError) as error:
        load_policy(str(folder))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_whole_one_is_the_file(folder):
    model, tokenizer = load_policy(str(folder))
    for name, weight in load_file(folder / "model.safetensors").items():
        assert model.state_dict()[name].equal(weight)
    assert not model.training and tokenizer.pad_token_id == 0


def test_missing_weights_are_not_drawn_anew(folder):
    weights(folder, lambda t: [t.pop(name) for name in list(t) if ".layers.1." in name])
    words = refused(folder)
    assert "lacks the weights model.layers.1." in words and "and 8 more: restore them" in words


def test_a_missing_head_that_is_not_tied_is_not_drawn_anew(folder):
    settings(folder, tie_word_embeddings=False)
    weights(folder, lambda t: t.pop("lm_head.weight", None))
    assert "lacks the weights lm_head.weight" in refused(folder)


def test_weights_that_the_architecture_does_not_use_stop(folder):
    settings(folder, num_hidden_layers=1, layer_types=["full_attention"])
    assert "has weights that its architecture does not use, such as model.layers.1." in refused(folder)


def test_another_vocabulary_than_the_weights(folder):
    settings(folder, vocab_size=40)
    assert "could not be loaded" in refused(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_gits_pointers_are_named(folder, name):
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert f"{name} is Git's pointer to a file, not the file: run `git lfs pull`" in refused(folder)


@pytest.mark.parametrize("text", ["[]", "", "{", "null", '{"model_type": "nope"}', '{"model_type": 3}'])
def test_a_config_that_is_none(folder, text):
    (folder / "config.json").write_text(text)
    assert "could not be loaded" in refused(folder)


def test_a_file_that_may_not_be_read(folder, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, _: path.name != "model.safetensors")
    assert "model.safetensors may not be read" in refused(folder)


def test_a_model_that_never_ends_is_refused(folder):
    """Neither its tokenizer nor its settings say what ends a completion."""
    settings(folder, "tokenizer_config.json", eos_token=None)
    for name in ("config.json", "generation_config.json"):
        settings(folder, name, eos_token_id=None)
    assert "has no end-of-text token" in refused(folder)


def test_several_ends_and_padding(folder):
    """All ends count, none beyond the embedding does, and a tokenizer without padding pads by an end."""
    settings(folder, "generation_config.json", eos_token_id=[1, 5, 99])
    settings(folder, "tokenizer_config.json", pad_token=None)
    model, tokenizer = load_policy(str(folder))
    assert eos_ids(model, tokenizer) == [1, 5] and tokenizer.pad_token_id == 1


def test_dropout_is_off_however_it_is_kept(tmp_path):
    """OPT keeps it as numbers, Falcon as layers under the same name, GPT-2 as layers."""
    from transformers import OPTConfig, OPTForCausalLM

    size = {"hidden_size": 16, "ffn_dim": 16, "word_embed_proj_dim": 16, "vocab_size": 31, "num_hidden_layers": 1}
    opt = OPTConfig(**size, num_attention_heads=2, dropout=0.5, attention_dropout=0.5, layerdrop=0.5, eos_token_id=1)
    save_policy(OPTForCausalLM(opt), small_tokenizer(), tmp_path / "opt")
    model, _ = load_policy(str(tmp_path / "opt"))
    ids = torch.tensor([[5, 6, 7, 8]])
    assert model.train()(ids).logits.equal(model.eval()(ids).logits)
    assert json.loads((tmp_path / "opt/config.json").read_text())["dropout"] == 0.5


def test_quantised_weights_are_refused(folder):
    settings(folder, quantization_config={"quant_method": "nope"})
    assert "has quantised weights" in refused(folder)


def test_whole_numbers_in_place_of_weights_are_refused(folder):
    name = "model.layers.0.self_attn.q_proj.weight"
    weights(folder, lambda t: t.update({name: (10 * t[name]).round().to(torch.int8)}))
    assert f"{name} holds I8, not floating-point numbers: restore the file" in refused(folder)


def test_a_package_that_is_missing_is_named(folder, monkeypatch):
    def missing(*_, **__):
        raise ImportError("This model needs timm")

    monkeypatch.setattr("replication.loading.AutoTokenizer.from_pretrained", missing)
    assert refused(folder).endswith("needs a package that is missing: This model needs timm")


def test_too_little_memory_is_not_the_models_fault(folder, monkeypatch):
    def short(*_, **__):
        raise MemoryError

    monkeypatch.setattr("replication.loading.AutoModelForCausalLM.from_pretrained", short)
    with pytest.raises(MemoryError):
        load_policy(str(folder))


DAMAGES = 200


def damage(folder, seed):
    """One thing that goes wrong with files: bytes cut or changed, a key renamed or gone, a file lost."""
    rng = random.Random(seed)
    path = rng.choice(sorted(folder.iterdir()))
    kind = rng.choice(["cut", "bytes", "lost", "empty", "renamed", "dropped", "type", "list", "numbers"])
    if path.suffix == ".json" and kind in ("renamed", "dropped", "type"):
        content = json.loads(path.read_text())
        key = rng.choice(sorted(content))
        value = content.pop(key)
        if kind == "renamed":
            content[f"{key}x"] = value
        elif kind == "type":
            content[key] = rng.choice([[], "x", None, -1, 1e9, {}, [value], True])
        path.write_text(json.dumps(content))
    elif kind == "lost":
        path.unlink()
    elif kind == "list" and path.suffix == ".json":
        path.write_text("[1]")
    elif path.suffix == ".safetensors" and kind in ("renamed", "dropped", "type", "numbers"):
        tensors = load_file(path)
        name = rng.choice(sorted(tensors))
        value = tensors.pop(name)
        if kind == "renamed":
            tensors[f"{name}x"] = value
        elif kind == "numbers":
            tensors[name] = value.to(rng.choice([torch.int8, torch.int32, torch.bool]))
        elif kind == "type":
            tensors[name] = value.reshape(-1)[:-1].clone()
        save_file(tensors, path, {"format": "pt"})
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size or 1)])
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        whole = bytearray(path.read_bytes())
        for _ in range(4):
            whole[rng.randrange(len(whole))] = rng.randrange(256)
        path.write_bytes(bytes(whole))
    return path.name, kind


def test_damaged_folders_are_refused_or_hold_the_weights_of_the_file(saved, tmp_path):
    """200 random damages: never another error than one line, never weights that are not the file's."""
    from replication.rollout.agreement import check_sampler

    read = 0
    for seed in range(DAMAGES):
        folder = shutil.copytree(saved, tmp_path / "model", dirs_exist_ok=False)
        what = damage(folder, seed)
        try:
            model, tokenizer = load_policy(str(folder))
            check_sampler(model, [5, 6, 7, 8], eos_ids(model, tokenizer), tokenizer.pad_token_id)
            held = load_file(folder / "model.safetensors")
            assert all(model.state_dict()[name].float().equal(w.float()) for name, w in held.items()), what
            assert held.keys() >= {n for n, _ in model.named_parameters()}, what
            read += 1
        except UserError as error:
            assert "\n" not in str(error), what
        except Exception as error:
            raise AssertionError(f"seed {seed}, {what}: {type(error).__name__}: {error}") from error
        shutil.rmtree(folder)
    assert 0 < read < DAMAGES // 2
