"""Opening a lake and checking its files: what is wrong is named before anything is asked."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.contract import odcs
from assay.errors import ContractError, SettingsError
from assay.lake.project import files_of, project_hash, there
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


@pytest.mark.slow
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


def _pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _nowhere(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(path.parent / "gone")


def _folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "name", "said"),
    [
        (_nowhere, "models/a.sql", "models/a.sql: a link that leads nowhere"),
        (_pipe, "models/a.sql", "models/a.sql is no file that can be read"),
        (lambda path: path.symlink_to(path.parent), "models/loop", "a link that leads to itself"),
        (lambda path: Path(os.fsdecode(os.fsencode(path) + b"\xff.sql")).write_text("x"), "models/a", "no UTF-8; rename it"),
    ],
)  # fmt: skip
def test_a_file_of_the_dbt_project_is_read_or_named(
    tmp_path: Path, make: Callable[[Path], object], name: str, said: str
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/kept.sql").write_text("select 1")
    (tmp_path / "models/.#kept.sql").symlink_to("me@here.1")  # an editor's lock
    assert [one.name for one in files_of(tmp_path)] == ["kept.sql"]
    make(tmp_path / name)
    with pytest.raises(SettingsError, match=said) as told:
        project_hash(tmp_path)
    assert str(told.value).isprintable()


def test_what_is_no_project_directory_is_told_and_none_is_none(tmp_path: Path) -> None:
    assert not there(tmp_path / "dbt")
    for make in (_pipe, _nowhere, lambda path: (path.unlink(), path.write_text(""))):
        make(tmp_path / "dbt")
        with pytest.raises(SettingsError, match="dbt is no directory"):
            there(tmp_path / "dbt")
    (tmp_path / "dbt").unlink()
    (tmp_path / "dbt").mkdir()
    assert there(tmp_path / "dbt")


def test_directories_that_may_not_be_read_are_errors() -> None:
    """Root becomes nobody for it, in a place that nobody reaches."""
    us = os.geteuid()
    with tempfile.TemporaryDirectory() as home:
        root = Path(home)
        root.chmod(0o755)
        for name in ("dbt", "dbt/models", "contracts"):
            (root / name).mkdir(mode=0o755)
        for name in ("dbt/models", "contracts"):
            (root / name).chmod(0o000)
        try:
            if not us:
                os.seteuid(65534)
            with pytest.raises(SettingsError, match="models cannot be read: Permission denied"):
                files_of(root / "dbt")
            with pytest.raises(SettingsError, match="contracts cannot be read: Permission denied"):
                odcs.read_all(root / "contracts")
        finally:
            os.seteuid(us)
            for name in ("dbt/models", "contracts"):
                (root / name).chmod(0o755)


@pytest.mark.parametrize(
    ("make", "name", "said"),
    [
        (_pipe, "contracts/a.yaml", "a.yaml: is no file that can be read"),
        (_nowhere, "contracts/a.yaml", "a.yaml: cannot be read: No such file"),
        (_folder, "contracts/a.yaml", "a.yaml: is no file that can be read"),
        (lambda path: path.write_text(""), "contracts/a.yaml", "a.yaml"),
        (lambda path: path.write_text("id: x"), "contracts/a.yml", "a.yml: is not read; a contract's name ends in .yaml"),
        (_pipe, "universe_us.csv", "universe_us.csv is no file that can be read"),
        (_folder, "universe_us.csv", "universe_us.csv is no file that can be read"),
        (_nowhere, "universe_us.csv", "universe_us.csv is missing"),
        (lambda path: path.write_text(""), "universe_us.csv", "universe_us.csv is empty"),
        (lambda path: path.write_bytes(b"symbol\n\xff\n"), "universe_us.csv", "universe_us.csv: expects"),
    ],
)  # fmt: skip
def test_a_contract_or_universe_that_cannot_be_read_is_named(
    markets: Path, make: Callable[[Path], object], name: str, said: str
) -> None:
    make(markets / name)
    with pytest.raises((ContractError, SettingsError)) as told:
        lakes.promises(markets)
    assert said in str(told.value)


def test_a_directory_in_the_contracts_place_is_named(markets: Path) -> None:
    (markets / "contracts").rename(markets / "kept")
    (markets / "contracts").write_text("")
    with pytest.raises(SettingsError, match="contracts cannot be read: Not a directory"):
        lakes.promises(markets)


def test_a_universe_with_a_byte_order_mark_is_read(markets: Path) -> None:
    path = markets / "universe_us.csv"
    before = lakes.promises(markets)[2]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert lakes.promises(markets)[2] == before
