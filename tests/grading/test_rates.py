"""The caps on completions without an answer, and on checks that were stopped."""

import pytest

from replication.config import GradingConfig
from replication.errors import UserError
from replication.grading.rates import check_rates

CAPS = GradingConfig(max_no_answer=0.5, max_timed_out=0.1)


@pytest.mark.parametrize(
    ("no_answer", "timed_out", "told"),
    [(0.51, 0.0, "51.0% of 100 completions have no answer, more than grading.max_no_answer = 0.5"),
     (0.2, 0.11, "11.0% of 100 completions timed out, more than grading.max_timed_out = 0.1")],
)  # fmt: skip
def test_a_rate_above_its_cap_stops(no_answer, timed_out, told):
    with pytest.raises(UserError, match="step 3: ") as error:
        check_rates(CAPS, 100, no_answer, timed_out, "step 3")
    assert told in str(error.value)


def test_a_rate_at_its_cap_or_of_few_does_not():
    check_rates(CAPS, 64, 0.5, 0.1, "here")
    check_rates(CAPS, 63, 1.0, 1.0, "here")
    with pytest.raises(UserError):
        check_rates(CAPS, 64, 1.0, 0.0, "here")
