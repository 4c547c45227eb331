"""Debian's Chromium by playwright, for the tests of the page and for its pictures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOUND = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@contextmanager
def started() -> Iterator[Any]:
    """The browser, without a window; it is closed in the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=FOUND, args=FLAGS)
        yield browser
        browser.close()


def show(page: Any, path: Path) -> None:
    """Opens a report's page, and waits until its charts are drawn."""
    page.goto(f"file://{path}")
    page.wait_for_selector("html[data-drawn]", state="attached")
