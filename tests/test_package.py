"""What the package says of itself, and what goes into a wheel, without building one."""

import re
import tomllib
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path

import pytest
from test_main import LIGHT

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def test_the_metadata_are_whole():
    for key in ("name", "version", "description", "authors", "keywords", "classifiers", "license", "urls"):
        assert PROJECT[key], key
    assert len(PROJECT["description"]) <= 512, "the most that an index takes"
    assert (ROOT / PROJECT["readme"]).read_text().startswith("# ")
    for name in PROJECT["license-files"]:
        assert (ROOT / name).read_text().startswith(f"{PROJECT['license']} License")
    assert all(url.startswith("https://") for url in PROJECT["urls"].values())


def test_python_versions_are_told_once():
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()
    named = [
        c.rpartition(".")[2] for c in PROJECT["classifiers"] if c.startswith("Programming Language :: Python :: 3.")
    ]
    assert named == [str(minor) for minor in range(int(low), int(high))]


def test_one_version_everywhere():
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1]
    newest = re.search(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert PROJECT["version"] == cited == newest


def test_a_wheel_has_every_file_of_the_package():
    """Python files by the package's name, others by package-data."""
    setuptools = PYPROJECT["tool"]["setuptools"]
    assert setuptools["packages"]["find"]["include"] == ["replication*"]
    taken = [
        f"{package.replace('.', '/')}/{pattern}"
        for package, patterns in setuptools["package-data"].items()
        for pattern in patterns
    ]
    files = [p for p in (ROOT / "replication").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    others = [str(p.relative_to(ROOT)) for p in files if p.suffix != ".py"]
    assert "replication/reporting/web/page.html" in others
    assert [path for path in others if not any(fnmatch(path, pattern) for pattern in taken)] == []
    for folder in {p.parent for p in files if p.suffix == ".py"}:
        assert (folder / "__init__.py").exists(), f"{folder} is no package: setuptools leaves it out"


@pytest.mark.parametrize("name", PROJECT["scripts"])
def test_a_script_names_a_function(name):
    from pkgutil import resolve_name

    assert callable(resolve_name(PROJECT["scripts"][name]))


def test_every_pinned_package_has_one_version():
    """Of the core and of all extras together."""
    every = [*PROJECT["dependencies"], *(d for extra in PROJECT["optional-dependencies"].values() for d in extra)]
    names = sorted(re.match(r"[\w-]+", line)[0].lower() for line in every if not line.startswith("replication["))
    assert [a for a, b in pairwise(names) if a == b] == []


def test_the_page_of_installs_names_every_extra_and_every_command_that_needs_none():
    page = (ROOT / "docs/install.md").read_text()
    assert {extra for extra in PROJECT["optional-dependencies"] if f".[{extra}]" not in page} == set()
    (row,) = [line for line in page.splitlines() if line.startswith("| `pip install .` |")]
    assert all(f"`{command}`" in row for command in LIGHT)


def test_the_source_archive_has_no_tests():
    """Some of them alone, as setuptools takes them, would not run."""
    assert "prune tests" in (ROOT / "MANIFEST.in").read_text().splitlines()
