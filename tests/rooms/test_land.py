"""Landing: one ask that fails does not hinder the others, unless it is the key that is refused."""

from pathlib import Path

import pytest

from assay import land, run
from assay.errors import ContractError, KeyRefused, LakeDamaged, SettingsError, SourceRefused, SourceSuspect
from assay.land.source import SourceSettings
from assay.run import verify
from assay.windows import Window
from tests.making import EVERY_TYPE

SOURCE = """
from contextlib import asynccontextmanager
import msgspec
from assay.errors import KeyRefused, SourceRefused
from assay.land.source import Page, Request, Source, options_of
from assay.clock import now

class Options(msgspec.Struct):
    path: str

@asynccontextmanager
async def connect(secrets, settings):
    yield None

async def fetch(ask, remote):
    if ask.options["path"] == "broken":
        raise KeyError("a secret of its own")
    if ask.options["path"] == "refused":
        raise SourceRefused("not for you")
    if ask.options["path"] == "key":
        raise KeyRefused("no such key")
    if ask.options["path"] == "fields":
        raise SourceRefused(", ".join(ask.fields))
    yield Page(Request("http://127.0.0.1/", {}, now(), 200, 1, "0", 1), [b'{"id":"a"}'], raw=b"as it came")

source = Source(connect, fetch, "1", lambda options: options_of(Options, options))
"""


def lake_of(root: Path, *paths: str) -> run.Lake:
    (root / "contracts").mkdir()
    (root / f"source_{root.name}.py").write_text(SOURCE)
    name = f"odd.source_{root.name}"
    (root / "odd").mkdir()
    (root / "odd/__init__.py").write_text("")
    (root / f"source_{root.name}.py").rename(root / f"odd/source_{root.name}.py")
    (root / "assay.toml").write_text(
        f'[lake]\nname = "x"\n[source."{name}"]\nbase_url = "http://127.0.0.1/"\norigin = "synthetic"\n'
    )
    for path in paths:
        text = (
            EVERY_TYPE.replace("things", path)
            .replace("value: fmp", f"value: {name}")
            .replace("required: true, classification", "classification")
        )
        (root / f"contracts/{path}.yaml").write_text(text)
    import sys

    sys.modules.pop("odd", None)
    sys.path.insert(0, str(root))
    try:
        import importlib

        importlib.import_module(name)
    finally:
        sys.path.remove(str(root))
    return run.open(root)


def test_a_source_that_breaks_or_refuses_one_ask_leaves_the_others(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, "broken", "fine", "refused", "zlast")
    done = run.apply(lake, run.plan(lake))
    assert sorted(m.dataset for m in done.landed) == ["fine", "zlast"]
    assert {type(e) for e in done.errors} == {SourceSuspect, SourceRefused}
    assert "secret of its own" not in " ".join(map(str, done.errors))
    assert run.status(lake)["datasets"]["fine"]["accepted"] == 1
    lake.close()


def test_a_refused_key_stops_the_rest(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, "key", "later", "more", "much", "zmore")
    done = run.apply(lake, run.plan(lake))
    assert done.errors
    assert all(isinstance(e, KeyRefused) for e in done.errors)
    lake.close()


def test_what_is_not_asked_any_more_says_so_in_few_words(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, "key", "later", "more")
    wanted = [land.Wanted(c, "all", Window.parse("2024-01-01..2024-01-02"), None) for c in lake.contracts.values()]
    [first, *rest] = land.land(
        wanted, settings=SourceSettings("http://127.0.0.1/", "synthetic"), files=lake.target.files,
        ledger=lake.target.ledger, secrets=lake.target.secrets, run="run",
    )  # fmt: skip
    assert (first.asked, str(first.error)) == (True, "no such key")
    assert [(one.dataset, one.asked, str(one.error)) for one in rest] == [
        ("later", False, "not asked: the key was refused"),
        ("more", False, "not asked: the key was refused"),
    ]
    assert {type(one.error) for one in rest} == {KeyRefused}
    lake.close()


def test_a_source_is_told_which_fields_the_contract_reads(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, "fields")
    done = run.apply(lake, [s for s in run.plan(lake) if s.kind == "land"])
    assert [str(e) for e in done.errors] == ["id, whole, amount, flag, day, at, note, maybe"]
    lake.close()


def test_options_the_source_does_not_know_are_refused_with_the_contracts_file_and_nothing_is_asked(
    tmp_path: Path,
) -> None:
    lake = lake_of(tmp_path, "fine", "zodd")
    path = tmp_path / "contracts/zodd.yaml"
    path.write_text(path.read_text().replace("{path: zodd}", "{pth: key}"))
    lake.close()
    lake = run.open(tmp_path)
    done = run.apply(lake, [s for s in run.plan(lake) if s.kind == "land"])
    assert [m.dataset for m in done.landed] == ["fine"]
    [error] = done.errors
    assert isinstance(error, ContractError)
    assert str(error) == f"{path}: this source has no option 'pth' (did you mean 'path'?); it knows path"
    with pytest.raises(ContractError, match=r"zodd\.yaml: this source has no option 'pth'"):
        land.check(lake.contracts["zodd"])
    land.check(lake.contracts["fine"])
    lake.close()


def test_kept_answers_are_verified_too(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, "fine")
    run.apply(lake, run.plan(lake))
    assert verify.bronze_objects(lake) == {"batches": 1, "objects": 2}
    [kept] = [n for n in lake.target.files.names("bronze") if "-raw-" in n]
    path = lake.target.files.path(kept)
    path.chmod(0o600)
    path.write_bytes(b"x")
    with pytest.raises(LakeDamaged, match=r"-raw-.* is not what batch"):
        verify.bronze_objects(lake)
    lake.close()


def test_a_rule_that_cannot_be_computed_is_found_by_check(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, "fine")
    lake.close()
    path = tmp_path / "contracts/fine.yaml"
    path.write_text(path.read_text().replace("whole < 1000000", "day > whole"))
    with pytest.raises(ContractError, match="rule whole_is_small cannot be computed"):
        run.check(tmp_path)


@pytest.mark.parametrize("name", ["l#1", "l%20x", "l?x"])
def test_a_path_that_urls_cannot_name_is_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    root.mkdir()
    (root / "assay.toml").write_text('[lake]\nname = "x"\n')
    with pytest.raises(SettingsError, match="may not hold"):
        run.open(root)


def test_a_lake_without_contracts_is_none(tmp_path: Path) -> None:
    (tmp_path / "assay.toml").write_text('[lake]\nname = "x"\n')
    with pytest.raises(SettingsError, match="holds no contract"):
        run.open(tmp_path)


def test_options_that_make_no_sense_are_the_owners(markets: Path) -> None:
    path = markets / "assay.toml"
    path.write_text(path.read_text() + '\n[source.fmp.options]\ntimeout = "abc"\n')
    lake = run.open(markets)
    done = run.apply(lake, run.plan(lake, ["splits"]))
    assert [type(e) for e in done.errors] == [SettingsError]
    assert "[source.fmp]" in str(done.errors[0])
    lake.close()
