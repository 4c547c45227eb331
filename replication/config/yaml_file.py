"""A settings file as plain mappings: what YAML would take silently, or what would break later, is refused by name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from replication.errors import UserError


class _Loader(yaml.SafeLoader):
    """YAML in which a key stands once in its mapping; PyYAML itself takes the last one."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in keys.items():
            if count > 1:
                raise yaml.MarkedYAMLError(None, None, f"{key} stands {count} times in the mapping", node.start_mark)
        return node


def read_yaml(path: Path) -> Any:
    """What a YAML file holds; all keys of its mappings are texts.

    Raises:
        UserError: it cannot be read, is not YAML, or has a key twice or one that is no text.
    """
    try:
        with path.open("rb") as file:
            found = yaml.load(file, _Loader)
        _check_keys(found, str(path))
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: name the settings file by --params") from None
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist: run from the repository's root, or name the file by --params"
        ) from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}: let this user read it, or name another by --params"
        ) from None
    except (yaml.YAMLError, ValueError) as error:  # the latter of a date that is none, or a number of 5,000 digits
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserError(f"{path} is nested too deeply, or holds itself: write it out flat") from None
    return found


def _check_keys(value: Any, where: str, between: str = ", ") -> None:
    """Raise a `UserError` where a mapping anywhere in the value has a key that is no text, as a number is."""
    if isinstance(value, list):
        for item in value:
            _check_keys(item, where, between)
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise UserError(f"{where}: the key {key!r} is no text: put it in quotes, or correct it")
            _check_keys(item, f"{where}{between}{key}", ".")
