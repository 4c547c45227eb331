"""What a server gives, found by a few tokens: which model, whose ids, log-probabilities of which distribution."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replication.config import RolloutConfig
from replication.errors import UserError
from replication.rollout.masks import text_config
from replication.rollout.server.client import Gone, Server

TEXT = "12 + 30 = \\boxed{42}.\nThe naïve answer - 7:8;9 - isn't right; über 3.14159 x 10^5 is\tcode(x) => y."
"""What both tokenizers must read as the same ids"""
WIDTH = 5  # likeliest tokens that are compared
PLAIN = {  # what a server would else take from the model's generation settings
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "ignore_eos": True,
    "add_special_tokens": False,
    "return_token_ids": True,
    "return_tokens_as_token_ids": True,
}


@dataclass(frozen=True)
class Found:
    """What a server gives."""

    server: Server
    name: str  # of the model
    room: int  # tokens that it reads
    tempered: bool  # whether its log-probabilities are those at the temperature that was asked for, else at 1
    truncated: bool  # whether they are those of what top-k and top-p leave

    def check(self, rollout: RolloutConfig) -> None:
        """Raise a `UserError` where its log-probabilities are not those of the whole distribution at the rollout's
        temperature."""
        at, cuts = rollout.temperature, rollout.top_k > 0 or rollout.top_p < 1
        cool = rollout.cool_fraction > 0 and rollout.cool_temperature != at
        if cuts and self.truncated:
            gives = "of what top-k and top-p leave"
        elif at != 1 and not self.tempered:
            gives = "at temperature 1"
        elif cool and self.tempered:
            gives = "at each completion's own temperature"
        else:
            return
        if at == 1:
            do = "start it with --logprobs-mode raw_logprobs"
        elif cuts or cool:
            do = (
                "no server gives these; sample at temperature 1 from one with --logprobs-mode raw_logprobs, without "
                "top-k and top-p from one with processed_logprobs, or by --rollout.engine vllm"
            )
        else:
            do = "start it with --logprobs-mode processed_logprobs, or sample at temperature 1"
        raise UserError(
            f"{self.server.address} gives log-probabilities {gives}, and a rollout needs those of the whole "
            f"distribution at temperature {at:g}: {do}"
        )


def look(server: Server, model: Any, tokenizer: Any, rollout: RolloutConfig) -> Found:
    """Find out what a server gives.

    Args:
        server: is asked for a few tokens.
        model: the configuration of what it is to serve.
        tokenizer: what will make its prompts.
        rollout: the settings, `rollout.served` among them.

    Raises:
        UserError: it cannot be reached, serves another model, or does not give what a rollout needs.
    """
    try:
        name, room = served(server, model, rollout.served)
        ids = tokenizer.encode(TEXT, add_special_tokens=False)[: max(1, min(16, room - 2))]
        whole, cold, first = (
            likeliest(server, {"model": name, "prompt": ids, "max_tokens": 1, "logprobs": WIDTH, **PLAIN, **how})
            for how in ({"temperature": 1.0}, {"temperature": 0.5}, {"temperature": 1.0, "top_k": 1})
        )
        check_tokenizer(server, name, tokenizer)
    except Gone as error:
        raise UserError(
            f"{server.address} cannot be reached ({error}): start the server, or correct --rollout.server"
        ) from None
    return Found(server, name, room, is_tempered(server, whole, cold), is_truncated(whole, first))


def served(server: Server, model: Any, wanted: str | None) -> tuple[str, int]:
    """The name that the server has for the model, and the tokens that it reads: the model's own, where it says none."""
    try:
        cards = {str(card["id"]): card for card in server.ask("models")["data"]}
    except (KeyError, TypeError):
        raise UserError(f"{server.address}/v1/models names no models: name another server") from None
    names = ", ".join(cards) or "no model"
    if wanted is not None and wanted not in cards:
        raise UserError(f"{server.address} does not serve {wanted} but {names}: correct --rollout.served")
    path = model.name_or_path
    whole = spelt(path)
    same = [name for name, card in cards.items() if whole in (spelt(name), spelt(str(card.get("root") or name)))]
    name = wanted or next(iter(same), None)
    if name is None:
        raise UserError(
            f"{server.address} serves {names}, and --model is {path}: name the same by --model, or, if it is the same "
            "under another name, say so by --rollout.served NAME"
        )
    room = cards[name].get("max_model_len") or getattr(text_config(model), "max_position_embeddings", None)
    return name, room if isinstance(room, int) else 2**31


def spelt(name: str) -> str:
    """A model's name in one spelling: a folder's whole path, or a hub id in small letters."""
    return os.path.realpath(name) if Path(name).is_dir() else name.lower()


def check_tokenizer(server: Server, name: str, tokenizer: Any) -> None:
    """Raise a `UserError` where the server's tokenizer makes other ids of a text; it may have none."""
    try:
        answer = server.ask("completions", {"model": name, "prompt": TEXT, "max_tokens": 1, **PLAIN})
    except UserError as error:
        if "tokenizer" in str(error):  # as `--skip-tokenizer-init` has it
            return
        raise
    theirs, ours = choice_of(server, answer)["prompt_token_ids"], tokenizer.encode(TEXT, add_special_tokens=False)
    if theirs != ours:
        raise UserError(
            f"{server.address} serves {name} with another tokenizer than --model has: it reads a text as "
            f"{len(theirs)} ids where --model's makes {len(ours)}, not the same; name the model that is served"
        )


def choice_of(server: Server, answer: dict[str, Any]) -> dict[str, Any]:
    """The completion in an answer, which has its ids and its prompt's."""
    try:
        choice = answer["choices"][0]
        ids = [choice.get(key) for key in ("prompt_token_ids", "token_ids")]
    except (KeyError, IndexError, TypeError, AttributeError):
        raise UserError(f"{server.address} answers with what is no completion: name another server") from None
    if not all(isinstance(values, list) for values in ids):
        raise UserError(
            f"{server.address} gives no token ids (return_token_ids), without which no prefix can be kept: name a "
            "server that does, as vLLM since 0.10.2"
        )
    return choice


def likeliest(server: Server, body: dict[str, Any]) -> dict[str, float]:
    """Log-probabilities of the likeliest tokens that may follow."""
    choice = choice_of(server, server.ask("completions", body))
    if choice["prompt_token_ids"] != body["prompt"]:
        raise UserError(f"{server.address} reads other ids than it was sent: name a server that takes token ids")
    try:
        found = {str(token): float(logp) for token, logp in choice["logprobs"]["top_logprobs"][0].items()}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        found = {}
    if not found:
        raise UserError(f"{server.address} gives no log-probabilities (logprobs): name a server that does")
    if max(found.values()) > 1e-3 or sum(map(math.exp, found.values())) > 1.01:
        raise UserError(
            f"{server.address} gives logits for log-probabilities: start it with --logprobs-mode processed_logprobs"
        )
    return found


def is_tempered(server: Server, whole: dict[str, float], cold: dict[str, float]) -> bool:
    """Whether log-probabilities at temperature 0.5 lie twice as far apart as those at 1, or as far."""
    both = sorted(whole.keys() & cold.keys(), key=lambda token: whole[token])
    apart, then = (found[both[-1]] - found[both[0]] if both else 0.0 for found in (whole, cold))
    for factor in (1, 2):
        if apart > 0 and abs(then - factor * apart) < 0.2 * apart:
            return factor == 2
    raise UserError(
        f"{server.address} gives log-probabilities that follow no temperature: at 0.5 they lie {then:.3g} nats apart, "
        f"at 1 {apart:.3g}; name another server"
    )


def is_truncated(whole: dict[str, float], first: dict[str, float]) -> bool:
    """Whether top-k 1 leaves nothing to the others."""
    others: Sequence[str] = sorted(whole, key=lambda token: whole[token])[-2:-1]
    return any(first.get(token, -math.inf) < whole[token] - 5 for token in others)
