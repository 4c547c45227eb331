"""Named evaluation profiles: how others sample, each number beside where it stands.

A profile is stronger than params.yaml, and the command line stronger than the profile. It sets what its source states,
and leaves the rest as it is. One more is one more entry of `PROFILES` (and its rows in docs/profiles.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from replication.errors import require

OWN = "own"  # no profile: the settings of params.yaml and the command line
SEGMENT = 512  # tokens of a segment under every profile: the paper's best split, method.md; the others have no segments

BOXED = "{question}\n\nPlease reason step by step, and put your final answer within \\boxed{}."  # the training's, too
LAST_LINE = (
    "Solve the following math problem efficiently and clearly.  The last line of your response should be of the "
    "following format: 'Therefore, the final answer is: $\\boxed{ANSWER}$. I hope it is correct' (without quotes) "
    "where ANSWER is just the final number or expression that solves the problem. Think step by step before answering."
    "\n\n{question}"
)


class Stated(NamedTuple):
    """A setting, and where it stands."""

    value: Any  # None: not stated there, so that the setting stays as it is
    source: str


@dataclass(frozen=True)
class Profile:
    """How one source samples."""

    origin: str  # what the sources of the settings are places of
    temperature: Stated
    top_p: Stated
    top_k: Stated  # 0: all
    samples: Stated  # a problem
    longest: Stated  # tokens of an answer
    wording: Stated  # of the prompt
    thinking: Stated
    beyond: str = ""  # what the source has and this sampler has not

    def stated(self) -> dict[str, Stated]:
        """The settings by their names here, not stated ones included."""
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Stated)}

    def settings(self) -> dict[str, Any]:
        """`section.key` -> value, of what is stated."""
        places = {name: f"evaluate.{name}" for name in ("temperature", "top_p", "top_k", "samples", "wording")}
        places |= {"longest": "rollout.segments", "thinking": "policy.thinking"}
        found = {places[name]: value for name, (value, _) in self.stated().items() if value is not None}
        if "rollout.segments" in found:
            found |= {"rollout.segments": found["rollout.segments"] // SEGMENT, "rollout.segment_tokens": SEGMENT}
        return found


CARD = "Best Practices, "
REPORT = "technical report (arXiv 2505.09388), section 4.6"
CARDS = "https://huggingface.co/Qwen/Qwen3-4B"
QWEN3: dict[str, Any] = {  # both modes
    "origin": CARDS,
    "top_k": Stated(20, f"{CARD}1"),
    "samples": Stated(64, f"not stated on the card; {REPORT}: 64 for AIME, not stated for others"),
    "longest": Stated(38_912, f"{CARD}2: for competitions; 32,768 else"),
    "wording": Stated(BOXED, f"{CARD}3"),
}

PROFILES: dict[str, Profile] = {
    "paper": Profile(  # the settings of q4b and q8b
        origin="https://arxiv.org/abs/2606.17735",
        temperature=Stated(0.6, "not stated; ours, as DeepMath's"),
        top_p=Stated(1.0, "not stated; ours"),
        top_k=Stated(0, "not stated; ours"),
        samples=Stated(32, "Avg@32 and Pass@32 [R]"),
        longest=Stated(8_192, "16 segments of 512, its best split [R]"),
        wording=Stated(BOXED, "not stated; ours"),
        thinking=Stated(False, "not stated; ours"),
    ),
    "deepmath": Profile(
        origin="https://github.com/zwhe99/DeepMath/tree/0d97187a17b0e1b54ecef109c43a904b50c99506",
        temperature=Stated(0.6, "README.md, Evaluation"),
        top_p=Stated(0.95, "README.md, Evaluation"),
        top_k=Stated(0, "uni_eval.py: -1, which is all"),
        samples=Stated(16, "README.md, Evaluation"),
        longest=Stated(32_768, "README.md, Evaluation: the model's length, which uni_eval.py takes for the answer's"),
        wording=Stated(BOXED, "utils/chat_template.py, simplerl: the same sentence, there in the system's turn"),
        thinking=Stated(None, "its models have one mode"),
    ),
    "qwen3_thinking": Profile(
        temperature=Stated(0.6, f"{CARD}1"),
        top_p=Stated(0.95, f"{CARD}1"),
        thinking=Stated(True, f"{CARD}1"),
        beyond="a presence penalty of 0 to 2, as one likes; min-p is 0, as here",
        **QWEN3,
    ),
    "qwen3_plain": Profile(
        temperature=Stated(0.7, f"{CARD}1"),
        top_p=Stated(0.8, f"{CARD}1"),
        thinking=Stated(False, f"{CARD}1"),
        beyond=f"a presence penalty of 0 to 2, as one likes, and 1.5 in the {REPORT}; min-p is 0, as here",
        **QWEN3,
    ),
    "lighteval": Profile(
        origin="https://github.com/huggingface/lighteval/tree/3fd15266bc8448b797e61462d293aa3fd40b3580",
        temperature=Stated(None, "the caller's"),
        top_p=Stated(None, "the caller's"),
        top_k=Stated(None, "the caller's"),
        samples=Stated(64, "tasks/aime.py, aime24_avg and aime25_avg; 1 in tasks/math_500.py"),
        longest=Stated(32_768, "tasks/math_500.py; no limit in tasks/aime.py"),
        wording=Stated(LAST_LINE, "tasks/aime.py; tasks/math_500.py asks for a line that has no box"),
        thinking=Stated(None, "the caller's"),
    ),
    "sober": Profile(
        origin="https://github.com/bethgelab/sober-reasoning/tree/8fceffddf39d20c652917e5947ddca845257584c",
        temperature=Stated(0.8, "README.md, Quickstart; run.sh"),
        top_p=Stated(0.9, "README.md, Quickstart; run.sh"),
        top_k=Stated(None, "main.py sets none"),
        samples=Stated(10, "index.html: one a seed, 10 seeds for AIME and AMC, 3 for others"),
        longest=Stated(32_768, "README.md, Quickstart; run.sh"),
        wording=Stated(LAST_LINE, "lighteval_tasks.py"),
        thinking=Stated(None, "not in main.py"),
    ),
}


def profile_settings(name: str) -> dict[str, Any]:
    """`section.key` -> value of a profile's settings; none of `own`.

    Raises:
        UserError: there is no such profile.
    """
    require(name in (OWN, *PROFILES), "evaluate.profile", name, f"one of {', '.join((OWN, *PROFILES))}")
    return {} if name == OWN else PROFILES[name].settings()


def profile_label(name: str, settings: Mapping[str, Any]) -> str:
    """The profile as a row of results names it: with the settings that the command line has otherwise.

    Args:
        name: of the profile.
        settings: `section.key` -> value, of all that a profile may set.
    """
    changed = [key for key, value in profile_settings(name).items() if settings[key] != value]
    return f"{name} but {', '.join(changed)}" if changed else name
