"""What README and docs/promises.md name as the tests of a promise is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["README.md", "docs/promises.md"])
def test_every_promise_names_tests_that_exist(page: str) -> None:
    """Given each row of the table, then it names a file or folder of tests, and all that it names are there."""
    table = (ROOT / page).read_text().partition("| promise | shown by |")[2].partition("\n\n")[0]
    rows = table.splitlines()[2:]
    named = [re.findall(r"`(tests/[\w/.]+|test_\w+\.py)`", row.rsplit(" | ", 1)[1]) for row in rows]
    assert len(rows) >= 10
    assert all(named), rows[named.index([])]
    known = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    missing = [name for names in named for name in names if not (ROOT / name).exists() and name not in known]
    assert not missing


def test_readme_promises_nothing_that_the_full_list_does_not() -> None:
    """Given README's rows, then each is in the full table, word for word but for where links lead."""
    full = (ROOT / "docs" / "promises.md").read_text()
    readme = (ROOT / "README.md").read_text()
    rows = [line for line in readme.splitlines() if line.startswith("| ") and "`tests/" in line]
    assert not [row for row in rows if row.replace("](docs/", "](") not in full]
