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


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("FB,2012-05-18,\nFB,2022-06-09,", "two rows of FB share days from 2022-06-09 on"),
        ("FB,2012-05-18,2022-06-10\nFB,2022-06-09,", "two rows of FB share days from 2022-06-09 on"),
        ("FB,2012-05-18,2012-05-18", "ends before it begins"),
        (" ,2012-05-18,", "names no symbol"),
    ],
)
def test_a_universe_that_contradicts_itself_is_refused(markets: Path, rows: str, said: str) -> None:
    (markets / "universe_us.csv").write_text(f"symbol,valid_from,valid_to\n{rows}\n")
    with pytest.raises(SettingsError, match=said):
        lakes.promises(markets)


def test_a_symbol_that_two_companies_had_has_two_rows(markets: Path) -> None:
    (markets / "universe_us.csv").write_text(
        "symbol,valid_from,valid_to\nMETA,2022-06-09,\nMETA,2021-06-30,2022-01-31\n"
    )
    assert [m.shard for m in lakes.promises(markets)[2]["us"]] == ["META", "META"]
