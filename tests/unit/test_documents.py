"""What documents say about the tests and the settings is so."""

import ast
import re
from pathlib import Path

import pytest

from services.common.settings import CatalogSettings, FrontEndSettings, OrderSettings, ServiceSettings
from tests.simulation.hunt import load_found
from tests.simulation.planted import BUGS

ROOT = Path(__file__).parents[2]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ROWS = {f"H{number}" for number in range(1, 23)} - {"H6", "H7", "H14"}


def names_in(path: Path) -> set[str]:
    """The names of all tests in a file."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = ast.parse(path.read_text()).body
    return {node.name for node in nodes if isinstance(node, kinds) and node.name.startswith("test_")}


def test_every_test_exists_when_the_page_on_verification_names_it() -> None:
    text = (ROOT / "docs" / "verification.md").read_text()
    named = TEST.findall(text)
    assert len(named) == text.count("::"), "every name has the form `path::name`"
    missing = [f"{path}::{name}" for path, name in named if name not in names_in(ROOT / path)]
    assert not missing


def test_every_planted_bug_has_its_row_with_what_finds_it() -> None:
    lines = (ROOT / "docs" / "verification.md").read_text().splitlines()
    found = load_found()
    for bug, (says, _) in BUGS.items():
        by = f"`{found[bug]['test']}`" if "test" in found[bug] else f"seed {found[bug]['seed']}"
        assert any(line.startswith(f"| {says} | {by} |") for line in lines), f"{bug}: {says}, {by}"


def test_every_row_names_a_test_when_something_broke_earlier_versions() -> None:
    lines = (ROOT / "docs" / "verification.md").read_text().splitlines()
    rows = {match[1] for line in lines if (match := re.match(r"\| (H\d+) \|", line)) and TEST.search(line)}
    assert rows == ROWS


@pytest.mark.parametrize("settings", [CatalogSettings, OrderSettings, FrontEndSettings])
def test_every_flag_of_a_service_is_in_the_tables_of_settings(settings: type[ServiceSettings]) -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    flags = ["--" + name.replace("_", "-") for name in settings.model_fields]
    assert [flag for flag in flags if not re.search(rf"^\|.*`{flag}`", text, re.MULTILINE)] == []
