"""Every contract we ship: read by others, stable under rewriting, described, and its SQL runs."""

from pathlib import Path

import pytest
import yaml
from open_data_contract_standard.model import OpenDataContractStandard

from assay import settings
from assay.contract import calendars, odcs
from assay.contract.model import Contract
from assay.lake import evidence, silver
from assay.land.source import SourceSettings
from assay.run import demo
from assay.run import lake as lakes
from tests.conftest import ROOT
from tests.making import Made

PATHS = sorted(ROOT.glob("lakes/*/contracts/*.yaml"))
FINGERPRINTS = ("capture", "refine", "gate")


def _fingerprints(contract: Contract) -> list[str]:
    return [getattr(contract, f"{name}_fingerprint") for name in FINGERPRINTS]


def _name(path: Path) -> str:
    return f"{path.parents[1].name}/{path.stem}"


@pytest.fixture(params=PATHS, ids=_name)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_there_are_some() -> None:
    assert {path.parents[1].name for path in PATHS} == {"csv", "http", "markets", "wide"}


def test_others_read_it_unchanged(path: Path) -> None:
    found = OpenDataContractStandard.from_file(str(path))
    assert found.id == path.stem == odcs.read(path).dataset


def test_fingerprints_are_of_the_meaning_and_not_of_the_text(path: Path) -> None:
    contract = odcs.read(path)
    said, calendar = calendars.parted(contract.text, "")
    text = yaml.safe_dump(yaml.safe_load(said), sort_keys=True)
    again = odcs.parse(calendars.attached(text, calendar) if calendar else text)
    assert again.text != contract.text
    assert _fingerprints(again) == _fingerprints(contract) == _fingerprints(odcs.parse(contract.text))
    assert len(set(_fingerprints(contract))) == len(FINGERPRINTS)


def test_everything_is_described_and_classified(path: Path) -> None:
    contract = odcs.read(path)
    assert contract.title != contract.dataset
    assert contract.description
    assert [c.name for c in contract.columns if not c.description] == []
    assert {c.classification for c in contract.columns} <= {"public", "internal", "confidential", "restricted"}
    assert [c.name for c in contract.columns if c.kind == "number" and not c.unit] == []
    assert [r.name for r in contract.rules if not r.description] == []


def test_its_lake_reaches_its_source_and_universe(path: Path, tmp_path: Path) -> None:
    contract, root = odcs.read(path), lakes.init(tmp_path / "lake", *demo.example_lakes(path.parents[1].name))
    SourceSettings(**settings.read(root).sources[contract.source])
    if contract.universe:
        assert (root / f"universe_{contract.universe}.csv").is_file()


def test_its_sql_runs(path: Path, made: Made) -> None:
    contract = odcs.read(path)
    made.land(contract, [b"{}"])
    [found] = made.refine(contract).evidence
    [row] = evidence.rejected(made.files, found.quarantine)
    assert set(row.reasons) == {f"{c.name}:required" for c in contract.columns if c.required and not c.ordinal}
    assert made.versions(contract) == []
    pair = silver.load(made.catalog, contract.dataset)
    assert pair
    assert [field.name for field in pair.current.schema().fields] == list(silver.columns(contract))
