"""Opening a lake and checking its files: what is wrong is named before anything is asked."""

from pathlib import Path

import pytest

from assay.errors import ContractError, SettingsError
from assay.run import lake as lakes
from tests.making import EVERY_TYPE


def test_a_rule_that_cannot_be_computed_is_found_by_check(tmp_path: Path) -> None:
    (tmp_path / "contracts").mkdir()
    (tmp_path / "assay.toml").write_text(
        '[lake]\nname = "x"\n[source.fmp]\nbase_url = "http://127.0.0.1/"\norigin = "synthetic"\n'
    )
    (tmp_path / "contracts/things.yaml").write_text(EVERY_TYPE.replace("whole < 1000000", "day > whole"))
    with pytest.raises(ContractError, match="rule whole_is_small cannot be computed"):
        lakes.check(tmp_path)


@pytest.mark.parametrize("name", ["l#1", "l%20x", "l?x"])
def test_a_path_that_urls_cannot_name_is_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    root.mkdir()
    (root / "assay.toml").write_text('[lake]\nname = "x"\n')
    with pytest.raises(SettingsError, match="may not hold"):
        lakes.open(root)


def test_a_lake_without_contracts_is_none(tmp_path: Path) -> None:
    (tmp_path / "assay.toml").write_text('[lake]\nname = "x"\n')
    with pytest.raises(SettingsError, match="holds no contract"):
        lakes.open(tmp_path)


def test_options_that_make_no_sense_are_the_owners(markets: Path) -> None:
    path = markets / "assay.toml"
    path.write_text(path.read_text() + '\n[source.fmp.options]\ntimeout = "abc"\n')
    with lakes.open(markets) as lake:
        done = lake.apply(lake.plan(["splits"]))
    assert [type(e) for e in done.errors] == [SettingsError]
    assert "[source.fmp]" in str(done.errors[0])
