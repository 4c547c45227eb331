"""The synthetic tasks and the prompt template."""

import dataclasses
import random
import re

import pytest

from replication.data import recurrence, selfcheck
from replication.data.tasks import TASKS
from replication.data.template import check_lengths, prompt_ids
from replication.errors import UserError
from replication.policy import small_tokenizer


def test_recurrence_by_hand():
    assert recurrence.solution("34:+-", 0.0, random.Random(0)) == r"3+4=7;4-7=7;\boxed{77}"


def test_selfcheck_marks_right_results_with_their_letter():
    assert selfcheck.solution("34:+-", 0.0, random.Random(0)) == r"3+4=7h;4-7=7h;\boxed{77}"
    slipped = [selfcheck.solution("34:--", 1.0, random.Random(i)) for i in range(200)]
    assert all(re.match(r"3-4=0.;4-0=5.;\\boxed\{05\}", text) for text in slipped)
    assert {text[5] for text in slipped} == set("abcdefghij")  # any letter, the right one among them


@pytest.mark.parametrize("task", TASKS)
def test_faultless_solutions_end_in_the_answer_and_problems_are_distinct(task):
    problems = TASKS[task].problems(300, 7, 8)
    assert len({p.question for p in problems}) == 300
    for p in problems:
        assert TASKS[task].solution(p.question, 0.0, random.Random(1)).endswith(f"\\boxed{{{p.final_answer}}}")
    assert problems == TASKS[task].problems(300, 7, 8)
    assert problems != TASKS[task].problems(300, 8, 8)


def test_noise_is_the_share_of_wrong_steps():
    rng = random.Random(0)
    wrong = 0
    for _ in range(500):
        steps = recurrence.solution("34:++--+-+-", 0.25, rng).split(";")[:-1]
        wrong += sum(int(s[4]) != recurrence.result(int(s[0]), s[1], int(s[2])) for s in steps)
    assert abs(wrong / 4000 - 0.25) < 0.03


def test_one_wrong_step_always_breaks_the_answer():
    for a in range(10):
        for c in range(10):
            for op in "+-":
                assert len({recurrence.result(a, op, b) for b in range(10)}) == 10
                assert len({recurrence.result(b, op, c) for b in range(10)}) == 10


@pytest.mark.parametrize("task", TASKS)
def test_small_tokenizer_reads_and_writes_every_text(task):
    tokenizer = small_tokenizer()
    for p in TASKS[task].problems(20, 3, 8):
        text = TASKS[task].solution(p.question, 0.5, random.Random(2))
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids) == text and tokenizer.pad_token_id not in ids
        prompt = prompt_ids(tokenizer, p.question)
        assert tokenizer.decode(prompt) == f"{p.question}>"


def test_more_problems_than_there_are():
    assert len(recurrence.problems(400, 0, 2)) == 400
    with pytest.raises(UserError, match="401 problems of 2 steps were asked for, but there are 400"):
        recurrence.problems(401, 0, 2)


def test_a_prompt_too_long_is_named_and_short_ones_are_not_encoded():
    tokenizer, problems = small_tokenizer(), TASKS["recurrence"].problems(3, 0, 8)
    size = len(prompt_ids(tokenizer, problems[0].question))
    check_lengths(tokenizer, problems, False, size)
    longer = dataclasses.replace(problems[1], question=problems[1].question + "+")
    with pytest.raises(
        UserError, match=rf"problem {longer.id} has a prompt of {size + 1} tokens; .* reads {size}: drop it"
    ):
        check_lengths(tokenizer, [problems[0], longer, problems[2]], False, size)
    seen = []

    class Watched:
        chat_template = eos_token_id = None

        def __call__(self, text):
            seen.append(text)
            return tokenizer(text)

    check_lengths(Watched(), problems, False, 500)
    assert len(seen) == 1  # the template alone
