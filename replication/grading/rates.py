"""When verdicts stop a run: too many completions without an answer, or whose check was stopped."""

from __future__ import annotations

from replication.config import GradingConfig
from replication.errors import UserError

FEWEST = 64  # completions; of fewer a rate says little


def check_rates(settings: GradingConfig, graded: int, no_answer: float, timed_out: float, where: str) -> None:
    """Raise a `UserError` where a rate is above its cap: such rewards teach, and such metrics say, nothing.

    Args:
        settings: the caps.
        graded: completions that the rates are of; fewer than 64 are not judged.
        no_answer: share of them without an answer.
        timed_out: share of them whose check was stopped.
        where: what was graded, for the message.
    """
    if graded < FEWEST:
        return
    for what, rate, cap, key, remedy in (
        ("have no answer", no_answer, settings.max_no_answer, "max_no_answer", "look at samples: prompt and length"),
        ("timed out", timed_out, settings.max_timed_out, "max_timed_out", "raise grading.time_limit"),
    ):
        if rate > cap:
            raise UserError(
                f"{where}: {rate:.1%} of {graded} completions {what}, more than grading.{key} = {cap:g}: "
                f"{remedy}, or raise the cap and run the same command to go on"
            )
