"""Grade-school sums in words, made by code, with worked solutions."""

from __future__ import annotations

import random
import re
from pathlib import Path

from replication.data.prepared import write_prepared
from replication.data.sources import Problem
from replication.seeds import seed_for

NAMES = ["Tom", "Mia", "Leo", "Zoe", "Max", "Eva", "Ben", "Ida", "Sam", "Lea"]
THINGS = ["apples", "books", "coins", "cards", "eggs", "keys", "nuts", "pens", "cups", "hats"]
LARGEST = 20


def problem(number: int, chance: random.Random) -> Problem:
    """A sum of two steps, whose results are never negative."""
    has, gets = chance.randint(2, LARGEST), chance.randint(2, LARGEST)
    loses = chance.randint(1, has + gets - 1)
    name, things = chance.choice(NAMES), chance.choice(THINGS)
    question = f"{name} has {has} {things}, gets {gets}, loses {loses}. How many {things} are left?"
    return Problem(f"sums-{number}", question, str(has + gets - loses), difficulty=2.0, topic="sums")


def solution(problem: Problem) -> str:
    """A worked solution that ends in a box."""
    has, gets, loses = map(int, re.findall(r"\d+", problem.question))
    return f"{has}+{gets}={has + gets}. {has + gets}-{loses}={problem.final_answer}. \\boxed{{{problem.final_answer}}}"


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
