"""Law 5 in small: the known histories, one a rule, through real entries, engine, evidence and tables."""

from pathlib import Path

import pytest

from tests.laws.fold.known import KNOWN
from tests.laws.test_silver import fold
from tests.making import make


@pytest.mark.parametrize("name", KNOWN)
def test_known_histories(tmp_path: Path, name: str) -> None:
    made = make(tmp_path / "lake")
    try:
        fold(made, KNOWN[name])
    finally:
        made.close()
