"""The plans of these tests are of fixed settings."""

import pytest


@pytest.fixture(autouse=True)
def _fixed(fixed_settings):
    """So is every test here."""
