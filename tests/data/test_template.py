"""What a tokenizer's template does to a question: the question is in the prompt, or the prompt is refused."""

import string

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from replication.data.template import INSTRUCTION, encode, prompt_ids
from replication.errors import UserError

TOKENS = ["<unk>", "<bos>", "<eos>", *string.printable]
QUESTION = "What is 3 + 4?"
USUAL = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] | trim }}{% endfor %}"
    "{% if add_generation_prompt %}[answer]{% endif %}"
)


def tokenizer(template=None, adds=()):
    """A tokenizer of characters, which adds tokens to a text of its own accord: bos before it, eos after it."""
    made = Tokenizer(models.WordLevel({token: i for i, token in enumerate(TOKENS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"<bos>|<eos>|[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    before, after = ("<bos>:0 " if "bos" in adds else ""), (" <eos>:0" if "eos" in adds else "")
    made.post_processor = processors.TemplateProcessing(
        single=f"{before}$A:0{after}", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", bos_token="<bos>", eos_token="<eos>")
    fast.chat_template = template
    return fast


def text(ids):
    return "".join(TOKENS[i] for i in ids)


def test_a_chat_template_is_used_as_it_is():
    words = tokenizer(USUAL, adds=("bos", "eos"))  # which the template alone decides on
    assert text(prompt_ids(words, QUESTION)) == f"<bos>[user]{QUESTION}\n\n{INSTRUCTION}[answer]"


def test_a_template_that_takes_parts_gets_parts():
    """It walks a string's letters as if they were parts, and finds no text in them: the question would be dropped."""
    parts = "{% for m in messages %}{% for p in m['content'] %}{{ p['text'] }}{% endfor %}{% endfor %}[answer]"
    assert text(prompt_ids(tokenizer(parts), QUESTION)) == f"{QUESTION}\n\n{INSTRUCTION}[answer]"
    strict = parts.replace("{{ p['text'] }}", "{% if p['type'] == 'text' %}{{ p['text'] }}{% endif %}")
    assert QUESTION in text(prompt_ids(tokenizer(strict), QUESTION))


def test_without_a_template_an_end_that_the_tokenizer_appends_is_left_out():
    words = tokenizer(adds=("bos", "eos"))
    assert text(encode(words, "1+1")) == "<bos>1+1"
    assert text(encode(words, "")) == "<bos>"
    assert text(encode(tokenizer(), "")) == "<bos>"
    assert text(prompt_ids(words, QUESTION)) == f"<bos>{QUESTION}\n\n{INSTRUCTION}\n\n"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for m in messages %}[user]{% endfor %}[answer]", r"drops what is asked: it makes '\[user\]\[answer\]' of"),
        ("{{ messages[0]['content'][:5] }}[answer]", "drops what is asked"),
        (f"{USUAL}<eos>\n", "ends the text where the answer is to begin"),
        (f"{USUAL}<eos>", "ends the text where the answer is to begin: give it what `add_generation_prompt` adds"),
        (f"<bos>{USUAL}", r"begins the text twice \(<bos>\)"),
        ("{{ raise_exception('only\nsystem') }}", r"fails \(only system\): correct it"),
        ("{{ messages[3]['content'].upper() }}", "fails"),
        ("{% for %}", "fails"),
        ("{{ 1 / 0 }}", "fails"),
        ({"tool": USUAL, "rag": USUAL}, "fails"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(template, words):
    with pytest.raises(UserError, match=words) as error:
        prompt_ids(tokenizer(template), QUESTION)
    assert "the chat template of" in str(error.value) and "\n" not in str(error.value)


def test_named_templates_with_a_default():
    assert QUESTION in text(prompt_ids(tokenizer({"default": USUAL, "tool": "x"}), QUESTION))


def test_a_question_that_the_template_changes_is_refused_each_time_it_happens():
    lines = tokenizer("{{ messages[0]['content'].split('\n')[0] }}[answer]")  # as the synthetic tasks' has it
    assert text(prompt_ids(lines, QUESTION)) == f"{QUESTION}[answer]"
    with pytest.raises(UserError, match="drops what is asked"):
        prompt_ids(lines, f"{QUESTION}\nAnd 5 + 6?")


def test_a_question_may_show_what_parts_look_like():
    words = tokenizer(USUAL)
    assert "{'type': 'text'}" in text(prompt_ids(words, "What is {'type': 'text'} in Python?"))
