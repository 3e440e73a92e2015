"""Law 1: a record lost at any place is found by counting again, and batch and place are named."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from isal import igzip

from assay.errors import LakeDamaged
from assay.lake import bronze, evidence, silver, tables
from assay.lake.evidence import Change
from assay.run import Lake, prove
from assay.spoken import TERMS
from tests.laws.lakes import STORES, Where, alter, lose_catalog, parquet, reopened, rewrite, small_lake
from tests.making import Landed, make_on_aws, record


@pytest.mark.parametrize("where", STORES)
def test_nothing_is_lost_to_begin_with(tmp_path: Path, where: Where) -> None:
    lake, _, _ = small_lake(tmp_path, where)
    assert prove.counts(lake) == {"batches": 3, "captured": 13, "unjudged": 0}
    assert prove.bronze_objects(lake) == {"batches": 3, "objects": 7}  # four entries, one of them the contract's
    assert prove.silver_objects(lake) == {"datasets": 1, "objects": 3}
    assert prove.serving(lake) == {"release": 0, "files": 0}
    assert prove.rebuild(lake, ["things"]) == {"things": 4}
    found = lake.status()["datasets"]["things"]
    assert {k: found[k] for k in ("captured", *TERMS, "withdrawn", "batches", "unjudged")} == {
        "captured": 13, "accepted": 4, "unchanged": 0, "superseded": 0, "duplicate": 1, "quarantined": 2, "held": 6,
        "erased": 0, "withdrawn": 0, "batches": 3, "unjudged": 0,
    }  # fmt: skip
    lake.close()


def _entry(lake: Lake, one: Landed, changed: bronze.Entry) -> None:
    """Alter a log's entry, and all after it so that the chain of hashes holds: as a skilled hand would."""
    rewrite(lake.target.files, bronze.name_of("things", one.entry.position), bronze.encode(changed))


def _lose_request(lake: Lake, one: Landed) -> None:
    batch = one.batch
    asked = msgspec.structs.replace(batch.requests[0], rows=batch.requests[0].rows - 1)
    _entry(lake, one, msgspec.structs.replace(one.entry, batches=(msgspec.structs.replace(batch, requests=(asked,)),)))


def _lose_batch(lake: Lake, one: Landed) -> None:
    _entry(lake, one, msgspec.structs.replace(one.entry, batches=(), parts=()))


def _lose_entry(lake: Lake, one: Landed) -> None:
    rewrite(lake.target.files, bronze.name_of("things", one.entry.position), None)


def _lose_part_line(lake: Lake, one: Landed) -> None:
    name = one.entry.parts[0].name
    lines = igzip.decompress(lake.target.files.read(name)).splitlines(keepends=True)
    rewrite(lake.target.files, name, igzip.compress(b"".join(lines[:-1])))


def _lose_part(lake: Lake, one: Landed) -> None:
    rewrite(lake.target.files, one.entry.parts[0].name, None)


def _lose_accepted(lake: Lake, one: Landed) -> None:
    """One row fewer in the evidence; the tables' head and the ledger name its hash, so that is what is told."""
    found, _ = evidence.read(lake.target.files, "things", 1)
    changed = tuple(msgspec.structs.replace(v, accepted=v.accepted - 1) for v in found.verdicts)
    altered = evidence.encode(msgspec.structs.replace(found, verdicts=changed))
    rewrite(lake.target.files, evidence.name_of("things", 1), altered)


def _lose_quarantined(lake: Lake, one: Landed) -> None:
    [name] = lake.target.files.names("quarantine/")
    lines = igzip.decompress(lake.target.files.read(name)).splitlines(keepends=True)
    rewrite(lake.target.files, name, igzip.compress(b"".join(lines[1:])))


def _lose_silver_row(lake: Lake, one: Landed) -> None:
    alter(lake, lambda row: None if row["id"] == "b" else row)


def _lose_silver_file(lake: Lake, one: Landed) -> None:
    rewrite(lake.target.files, parquet(lake)[0].name, None)


@pytest.mark.slow
@pytest.mark.parametrize("where", STORES)
@pytest.mark.parametrize(
    ("lose", "says"),
    [
        (_lose_request, "000000003.json.gz follows sha256"),
        (_lose_batch, "000000003.json.gz follows sha256"),
        (_lose_entry, "log/000000002.json.gz"),
        (_lose_part_line, "ndjson.gz is not what was written"),
        (_lose_part, "ndjson.gz"),
        (_lose_accepted, "000000001.json.gz is not the evidence that its commit named"),
        (_lose_quarantined, "things quarantine: .* is not what the refine wrote"),
        (_lose_silver_row, r"batch 2\.0 silver: 1 rows in things, 2 were accepted"),
        (_lose_silver_file, "parquet"),
    ],
)
def test_a_lost_record_is_named_with_its_place(
    tmp_path: Path, where: Where, lose: Callable[[Lake, Landed], None], says: str
) -> None:
    lake, _, landed = small_lake(tmp_path, where)
    assert (landed[0].spoken, landed[0].batch.rows) == ("2.0", 5)
    lose(lake, landed[0])
    if (where, lose) == (
        make_on_aws,
        _lose_silver_row,
    ):  # a copy is held against its hash before a row of it is counted
        says = "parquet does not have the bytes that were written"
    with pytest.raises(LakeDamaged, match=says):
        prove.counts(lake)
    lake.close()


def test_the_last_entry_is_held_against_what_was_made_of_it(tmp_path: Path) -> None:
    lake, _, landed = small_lake(tmp_path)
    _lose_batch(lake, landed[2])
    with pytest.raises(LakeDamaged, match=r"batch 4\.0 evidence: 6 captured, its entry says None"):
        prove.counts(lake)
    with pytest.raises(LakeDamaged, match=r"000000004\.json\.gz has sha256"):
        prove.bronze_objects(lake)
    lake.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda v: msgspec.structs.replace(v, accepted=v.accepted - 1), r"batch 2\.0 evidence: 5 captured is not the sum 4 of its terms"),
        (lambda v: msgspec.structs.replace(v, rows=4, duplicate=0), r"batch 2\.0 evidence: 4 captured, its entry says 5"),
        (lambda v: msgspec.structs.replace(v, quarantined=1, accepted=3), r"batch 2\.0 quarantine: 2 lines, 1 were quarantined"),
    ],
)  # fmt: skip
def test_each_term_is_counted_from_its_own_place(tmp_path: Path, change: Callable, says: str) -> None:
    """Even where evidence was written wrong to begin with, so that every hash is in order."""
    lake, made, _ = small_lake(tmp_path)
    files = lake.target.files
    found, _ = evidence.read(files, "things", 1)
    wrong = msgspec.structs.replace(found, verdicts=(change(found.verdicts[0]), *found.verdicts[1:]))
    lake.close()
    rewrite(files, evidence.name_of("things", 1), evidence.encode(wrong))
    lose_catalog(made)
    (made.root / "ledger.db").unlink()
    lake, made = reopened(lake, made)
    lake.refine("things")
    with pytest.raises(LakeDamaged, match=says):
        prove.counts(lake)
    lake.close()


def test_a_stray_write_to_the_table_is_named_with_the_way_back(tmp_path: Path) -> None:
    lake, _, _ = small_lake(tmp_path)
    table = lake.target.catalog.load_table("silver.things")
    good = table.current_snapshot().snapshot_id
    table.append(table.scan().to_arrow())
    for one in (prove.counts, prove.silver_objects):
        with pytest.raises(LakeDamaged, match=f"was not made by assay.*roll the table back to snapshot {good}"):
            one(lake)
    with pytest.raises(LakeDamaged, match="was not made by assay"):
        lake.refine("things")
    lake.close()


def test_iceberg_lists_that_differ_from_the_evidence_are_named(tmp_path: Path) -> None:
    lake, _, _ = small_lake(tmp_path)
    pair = silver.load(lake.target.catalog, "things")
    assert pair
    said = dict(pair.current.current_snapshot().summary.additional_properties)
    gone = parquet(lake)[0].name
    ours = {k: v for k, v in said.items() if k.startswith("assay.")}
    tables.commit(pair.current, lake.target.files, Change(remove=(gone,)), ours, as_effect="refine.current")
    with pytest.raises(LakeDamaged, match=gone.rpartition("/")[2]):
        prove.silver_objects(lake)
    with pytest.raises(LakeDamaged, match=r"batch 2\.0 silver: 0 rows"):
        prove.counts(lake)
    lake.close()


@pytest.mark.parametrize("where", STORES)
def test_a_damaged_object_is_refused_before_it_is_refined(tmp_path: Path, where: Where) -> None:
    lake, made, _ = small_lake(tmp_path, where)
    one = made.land(lake.contract("things"), [record(id='"z"')], day=9)
    name = one.entry.parts[0].name
    rewrite(lake.target.files, name, lake.target.files.read(name)[:-1] + b"\1")
    before = made.versions(lake.contract("things"))
    with pytest.raises(LakeDamaged, match=r"is not what was written; restore it"):
        lake.refine("things")
    with pytest.raises(LakeDamaged, match="restore it from a copy"):
        prove.bronze_objects(lake)
    assert made.versions(lake.contract("things")) == before
    lake.close()


@pytest.mark.parametrize("where", STORES)
def test_every_answers_rows_sum_to_the_entry(tmp_path: Path, where: Where) -> None:
    lake, _, landed = small_lake(tmp_path, where)
    files = lake.target.files
    for one in landed:
        batch = one.batch
        assert sum(a.rows for a in batch.requests) == sum(p.rows for p in one.entry.parts) == batch.rows
        lines = list(bronze.lines(files, bronze.read(files, "things", one.entry.position), one.n))
        assert len(lines) == batch.rows
        assert [b'{"_seq":%d,"_n":0,' % n for n in range(len(lines))] == [x[: x.index(b'"_record"')] for x in lines]
    lake.close()
