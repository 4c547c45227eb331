"""The table of mutants fits the code; `make mutants` plants them."""

from pathlib import Path

import pytest
from mutants.table import MUTANTS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.what for mutant in MUTANTS])
def test_a_mutant_changes_one_place_and_has_tests(mutant):
    assert (ROOT / "replication" / mutant.file).read_text().count(mutant.before) == 1
    assert (ROOT / "tests" / mutant.tests).exists()
