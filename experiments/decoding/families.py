"""Two families of prompts that SmolLM2-135M answers rightly now and then."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from replication.data.template import encode
from replication.errors import UserError

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon",
    "Greece": "Athens", "Austria": "Vienna", "Poland": "Warsaw", "Hungary": "Budapest", "Norway": "Oslo",
    "Sweden": "Stockholm", "Finland": "Helsinki", "Denmark": "Copenhagen", "Ireland": "Dublin", "Egypt": "Cairo",
    "Kenya": "Nairobi", "Japan": "Tokyo", "Thailand": "Bangkok", "Vietnam": "Hanoi", "Indonesia": "Jakarta",
    "Peru": "Lima", "Chile": "Santiago", "Argentina": "Buenos Aires", "Canada": "Ottawa", "Cuba": "Havana",
    "Australia": "Canberra", "Turkey": "Ankara", "Iran": "Tehran", "Iraq": "Baghdad", "Russia": "Moscow",
    "Belgium": "Brussels", "Switzerland": "Bern", "Czechia": "Prague", "Romania": "Bucharest", "Bulgaria": "Sofia",
    "Morocco": "Rabat", "Nigeria": "Abuja", "Ghana": "Accra", "Ethiopia": "Addis Ababa", "Nepal": "Kathmandu",
    "Philippines": "Manila", "Malaysia": "Kuala Lumpur", "Colombia": "Bogota", "Venezuela": "Caracas",
    "Ecuador": "Quito", "Uruguay": "Montevideo", "Iceland": "Reykjavik", "Ukraine": "Kyiv",
}  # fmt: skip


@dataclass(frozen=True)
class Question:
    """A prompt, its answer, and the one right text where there is one."""

    name: str
    prompt: list[int]
    answer: str
    right: list[int] | None


@dataclass(frozen=True)
class Family:
    """Questions, the ids that end a completion, its longest length in segments, and how its answer is read."""

    questions: list[Question]
    ends: list[int]
    segments: int
    read: Callable[[str], str | None]


def solution(terms: list[int]) -> str:
    """The worked sum, as in the examples: one line, so that its end is one token."""
    lines, total = [], terms[0]
    for term in terms[1:]:
        lines.append(f"{total} + {term} = {total + term}")
        total += term
    return "; ".join([*lines, f"Answer: {total}"])


def chain(tokenizer: Any, count: int) -> Family:
    """Sums of three numbers of one digit, after eight worked examples; 48 tokens."""
    rng = random.Random(0)

    def terms() -> list[int]:
        return [rng.randint(1, 7) for _ in range(3)]

    def problem(numbers: list[int]) -> str:
        return f"Problem: {' + '.join(map(str, numbers))}\n"

    shown = [terms() for _ in range(8)]
    shots = "".join(f"{problem(t)}{solution(t)}\n\n" for t in shown)
    drawn: dict[str, list[int]] = {}
    while len(drawn) < count:
        numbers = terms()
        if numbers not in shown:
            drawn[" + ".join(map(str, numbers))] = numbers
    questions = [
        Question(name, tokenizer(shots + problem(t)).input_ids, str(sum(t)), tokenizer(solution(t)).input_ids)
        for name, t in drawn.items()
    ]
    ends = [tokenizer.eos_token_id, *tokenizer("\n").input_ids]
    if questions[0].prompt.count(ends[-1]) != 3 * len(shown) + 1:  # three after each example, one after the question
        raise UserError("this tokenizer has no token for a line's end, at which a sum is to end")

    def read(text: str) -> str | None:
        found = re.search(r"Answer: (\d+)", text)
        return found[1] if found else None

    return Family(questions, ends, 6, read)


def capitals(tokenizer: Any, count: int) -> Family:
    """Capitals, asked by the chat template; the answer is the first capital that the text names; 40 tokens."""
    every = "|".join(CAPITALS.values())

    def read(text: str) -> str | None:
        found = re.search(every, text)
        return found[0] if found else None

    questions = [
        Question(country, encode(tokenizer, f"What is the capital of {country}?"), city, None)
        for country, city in list(CAPITALS.items())[:count]
    ]
    return Family(questions, [tokenizer.eos_token_id], 5, read)


FAMILIES = {"chain": chain, "capitals": capitals}
