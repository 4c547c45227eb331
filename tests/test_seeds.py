"""Random numbers as functions of position."""

import torch

from replication.seeds import fold, mix, seed_for, uniforms


def test_splitmix_equals_the_published_sequence():
    """The first outputs of SplitMix64 seeded with 1234567, as Rosetta Code and the Java original list them."""
    gamma = 0x9E3779B97F4A7C15 - (1 << 64)
    state = torch.tensor([1234567])
    got = []
    for _ in range(3):
        got.append(int(mix(state)) % (1 << 64))
        state = state + gamma
    assert got == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_seed_depends_on_every_part_and_on_their_order():
    assert len({seed_for(1, 2), seed_for(2, 1), seed_for(12), seed_for("1", 2, 0), seed_for(1, 2, 1)}) == 5
    assert 0 <= seed_for("x") < 1 << 63


def test_uniforms_are_uniform_and_independent_of_each_other():
    key = torch.full((100_000,), seed_for("key"))
    u = uniforms(fold(key), torch.arange(100_000))
    v = uniforms(fold(key, torch.arange(100_000)), torch.ones(100_000, dtype=torch.long))
    for x in (u, v):
        assert float(x.min()) >= 0 and float(x.max()) < 1
        assert abs(float(x.mean()) - 0.5) < 4 * 0.2887 / 100_000**0.5
        counts = torch.histc(x, 20, 0, 1)
        assert float(((counts - 5000) ** 2 / 5000).sum()) < 45  # chi-square, 19 degrees of freedom, p < 0.001
    assert abs(float(torch.corrcoef(torch.stack([u, v]))[0, 1])) < 0.015
