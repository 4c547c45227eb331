"""Erasable decoding of any causal LM, without training: `generate` here, `erasable` for transformers' own generate."""

from replication.decoding.erasable import erasable
from replication.decoding.sample import generate

__all__ = ["erasable", "generate"]
