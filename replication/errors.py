"""One kind of error for what the user can mend, and one place that prints it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn


class UserError(Exception):
    """Bad input: the message says what was wrong, where (file, row, key), and what to do about it, on one line."""


class Parser(argparse.ArgumentParser):
    """argparse with one line for a bad flag: the usage is in --help."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}: see --help")


def require(ok: bool, key: str, value: object, wanted: str) -> None:
    """Raise a `UserError` that names the setting, unless `ok`."""
    if not ok:
        raise UserError(f"{key} = {value!r} is not {wanted}: correct it in params.yaml or by --{key}")


def fail(message: str) -> NoReturn:
    """Print one line on standard error and leave with exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def run_command(command: Callable[[], None]) -> None:
    """Run a command's body; a `UserError` becomes one line and exit code 2, any other exception stays a traceback."""
    try:
        command()
    except UserError as error:
        fail(str(error))
