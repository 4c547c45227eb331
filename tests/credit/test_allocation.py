"""The answer's attention against transformers' own attention weights, and the hand-worked split of the reward."""

import math

import pytest
import torch
from small_models import FAMILIES, small_model
from torch.utils._python_dispatch import TorchDispatchMode

from replication.credit.allocation import allocation_spread, allocation_weights, answer_attention, segment_mass
from replication.errors import UserError


def test_weights_average_to_one_over_a_completions_segments():
    mass = torch.tensor([[0.2, 0.4, 0.1, 0.0], [0.3, 0.1, 0.0, 0.0]])
    tokens = torch.tensor([[2, 4, 4, 0], [1, 2, 0, 0]])
    present = torch.tensor([[True, True, True, False], [True, True, False, False]])
    got = allocation_weights(mass, tokens, present, 2.0)
    a = [math.sqrt(x) for x in (0.1, 0.1, 0.025)]  # softmax(log(a) / 2) goes like the square root
    b = [math.sqrt(x) for x in (0.3, 0.05)]
    want = [[3 * x / sum(a) for x in a] + [0.0], [2 * x / sum(b) for x in b] + [0.0, 0.0]]
    torch.testing.assert_close(got, torch.tensor(want), rtol=1e-5, atol=1e-6)


def test_the_spread_is_the_distance_from_an_even_share():
    """Shares 0.5 and 1.5 are 0.5 away; 0.25, 0.5 and 2.25 are sqrt((0.75^2 + 0.5^2 + 1.25^2) / 3) = 0.8898 away."""
    shares = torch.tensor([[0.5, 1.5, 0.0], [0.25, 0.5, 2.25], [1.0, 1.0, 1.0]])
    present = torch.tensor([[True, True, False], [True, True, True], [True, True, True]])
    torch.testing.assert_close(
        allocation_spread(shares, present), torch.tensor([0.5, 0.889757, 0.0]), rtol=1e-5, atol=1e-6
    )


def test_an_absent_segment_takes_no_share_however_evenly_the_others_have_theirs():
    """At tau 10 a segment of no tokens, if it were let in, would take a tenth."""
    mass, tokens = torch.tensor([[0.2, 0.4, 0.0]]), torch.tensor([[2, 4, 0]])
    got = allocation_weights(mass, tokens, torch.tensor([[True, True, False]]), 10.0)
    torch.testing.assert_close(got, torch.tensor([[1.0, 1.0, 0.0]]), rtol=1e-6, atol=1e-6)


def test_no_attention_at_all_is_no_infinity():
    got = allocation_weights(
        torch.tensor([[0.0, 1.0]]), torch.tensor([[3, 3]]), torch.ones(1, 2, dtype=torch.bool), 1.0
    )
    assert got.isfinite().all()


def test_segment_mass_sums_by_segment():
    mass = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    assert segment_mass(mass, torch.tensor([[0, 2, 2, -1]]), 3).tolist() == [[1.0, 0.0, 6.0]]


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "gemma2"])
def test_answer_attention_is_the_last_layers(family):
    model = small_model(family)
    ids = torch.tensor([[5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 15, 16, 0, 0]])
    mask = torch.tensor([[True] * 7, [True] * 5 + [False] * 2])
    start, end = torch.tensor([4, 3]), torch.tensor([7, 5])
    got = answer_attention(model, ids, start, end)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        weights = model(ids, attention_mask=mask.long(), output_attentions=True).attentions[-1]  # [R, H, S, S]
    for row in range(2):
        want = weights[row, :, start[row] : end[row]].mean((0, 1))
        torch.testing.assert_close(got[row], want, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(got.sum(1), torch.ones(2))


def test_the_model_is_left_as_it_was():
    model = small_model()
    before = model.config._attn_implementation
    with pytest.raises(IndexError):
        answer_attention(model, torch.tensor([[99]]), torch.tensor([0]), torch.tensor([1]))
    assert model.config._attn_implementation == before


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [x for x in torch.utils._pytree.tree_leaves(out) if isinstance(x, torch.Tensor)]
        held = [x.untyped_storage().nbytes() // x.element_size() for x in tensors]
        self.size = max([self.size, *held])
        return out


def test_attention_that_cannot_be_looked_into_is_refused():
    with pytest.raises(UserError, match=r"gemma2 has (no sdpa attention|softcap)"):
        answer_attention(small_model("gemma2"), torch.tensor([[5, 6]]), torch.tensor([0]), torch.tensor([2]))


@pytest.mark.parametrize("family", ["qwen3", "llama", "qwen2"])  # transformers' sliding masks have T x T elements
def test_memory_grows_with_the_text_not_with_its_square(family):
    """No tensor of the pass, the model's own included, has T x T elements; twice the text, twice the largest tensor."""
    sizes = {}
    for t in (512, 1024, 2048):
        model = small_model(family, positions=4096)
        with Largest() as largest:
            answer_attention(model, torch.full((1, t), 5), torch.tensor([t - 8]), torch.tensor([t]))
        sizes[t] = largest.size
    assert sizes[512] < 512 * 512
    assert sizes[1024] <= 2.01 * sizes[512] and sizes[2048] <= 2.01 * sizes[1024]


@pytest.mark.parametrize("added", [False, True])
def test_the_mask_of_the_layer_counts(added):
    """What a layer is told to see, or adds to its scores, beside what is causal: here the first token is hidden."""
    model = small_model("llama")
    ids, start, end = torch.tensor([[5, 6, 7, 8]]), torch.tensor([2]), torch.tensor([4])
    whole = answer_attention(model, ids, start, end)
    forward = model.model.layers[1].self_attn.forward

    def masked(*args, **kwargs):
        seen = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()
        seen[..., 0] = False
        seen[..., 0, 0] = True
        least = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
        return forward(*args, **{**kwargs, "attention_mask": least if added else seen})

    model.model.layers[1].self_attn.forward = masked
    mass = answer_attention(model, ids, start, end)
    assert whole[0, 0] > 0.01 and mass[0, 0] < 1e-6
    torch.testing.assert_close(mass.sum(1), torch.ones(1))
