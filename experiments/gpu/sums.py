"""Grade-school sums in words, made by code: each has a worked example, so that a small model knows what to write."""

from __future__ import annotations

import random
from pathlib import Path

from replication.data.prepared import write_prepared
from replication.data.sources import Problem
from replication.seeds import seed_for

EXAMPLE = r"Ann has 3 pens, gets 4, loses 2. 3+4=7. 7-2=5. \boxed{5}."
NAMES = ["Tom", "Mia", "Leo", "Zoe", "Max", "Eva", "Ben", "Ida", "Sam", "Lea"]
THINGS = ["apples", "books", "coins", "cards", "eggs", "keys", "nuts", "pens", "cups", "hats"]
LARGEST = 20


def problem(number: int, chance: random.Random) -> Problem:
    """A sum of two steps, whose results are never negative."""
    has, gets = chance.randint(2, LARGEST), chance.randint(2, LARGEST)
    loses = chance.randint(1, has + gets - 1)
    name, things = chance.choice(NAMES), chance.choice(THINGS)
    asked = f"{name} has {has} {things}, gets {gets}, loses {loses}. How many {things} are left?"
    question = f"Example: {EXAMPLE} Now: {asked}"
    return Problem(f"sums-{number}", question, str(has + gets - loses), difficulty=2.0, topic="sums")


def problems(count: int, seed: int) -> list[Problem]:
    """So many different sums."""
    chance, drawn = random.Random(seed_for(seed, "sums")), dict[str, Problem]()
    while len(drawn) < count:
        made = problem(len(drawn), chance)
        drawn.setdefault(made.question, made)
    return list(drawn.values())


def write(folder: Path, train: int, heldout: int) -> list[Problem]:
    """Write a prepared folder of both, which have no problem in common; returns those to train on."""
    drawn = problems(train + heldout, 1)
    manifest = {"task": "sums", "counts": {"drawn": train}, "seed": 1}
    write_prepared(folder, drawn[heldout:], {"heldout": drawn[:heldout]}, manifest)
    return drawn[heldout:]
