"""Law 1: a record lost at any place is found by counting again, and batch and place are named."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from isal import igzip

from assay import run
from assay.errors import LakeDamaged
from assay.lake import bronze, evidence, silver, tables
from assay.run import Lake, verify
from tests.making import EVERY_TYPE, GOOD, Made, record

SETTINGS = '[lake]\nname = "small"\n[source.fmp]\nbase_url = "http://127.0.0.1:1/stable"\norigin = "synthetic"\nallow_private = true\n'


def small_lake(root: Path) -> tuple[Lake, Made]:
    """A lake of one dataset with good, duplicate and quarantined rows and a held batch, through the real doors."""
    (root / "contracts").mkdir(parents=True)
    (root / "assay.toml").write_text(SETTINGS)
    (root / "contracts/things.yaml").write_text(EVERY_TYPE.replace("minRows: 20", "minRows: 6"))
    lake = run.open(root)
    t = lake.target
    made = Made(t.settings.data, t.files, t.catalog, t.ledger, t.engine)  # type: ignore[arg-type]
    contract = lake.contract("things")
    made.land(contract, [record(), record(), record(id='"b"'), record(id='"c"', whole="null"), b"42"], day=1)
    made.land(contract, [record(id='"d"'), record(id='"e"')], day=2)
    made.land(contract, [record(whole="null")] * 6, day=3)
    for _ in range(2):
        run.refine(lake, "things")
    return lake, made


def test_nothing_is_lost_to_begin_with(tmp_path: Path) -> None:
    lake, _ = small_lake(tmp_path)
    assert verify.counts(lake) == {"batches": 3, "captured": 13, "unjudged": 0}
    assert verify.bronze_objects(lake) == {"batches": 3, "objects": 3}
    assert verify.serving(lake) == {"release": 0, "files": 0}
    found = run.status(lake)["datasets"]["things"]
    assert {k: found[k] for k in ("captured", "accepted", "duplicate", "quarantined", "held")} == {
        "captured": 13, "accepted": 4, "duplicate": 1, "quarantined": 2, "held": 6,
    }  # fmt: skip
    lake.close()


def _rewrite(path: Path, data: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(data)


def _lose_request(lake: Lake, m: bronze.Manifest) -> None:
    asked = msgspec.structs.replace(m.requests[0], rows=m.requests[0].rows - 1)
    _rewrite(lake.target.files.path(m.name), msgspec.json.encode(msgspec.structs.replace(m, requests=(asked,))))


def _lose_part_line(lake: Lake, m: bronze.Manifest) -> None:
    path = lake.target.files.path(m.parts[0].path)
    lines = igzip.decompress(path.read_bytes()).splitlines(keepends=True)
    _rewrite(path, igzip.compress(b"".join(lines[:-1])))


def _lose_evidence(lake: Lake, m: bronze.Manifest) -> None:
    for name in lake.target.files.names(f"evidence/{m.dataset}"):
        found = evidence.read(lake.target.files, m.dataset, Path(name).stem)
        if any(v.batch == m.batch for v in found.verdicts):
            changed = tuple(msgspec.structs.replace(v, accepted=v.accepted - 1) for v in found.verdicts)
            _rewrite(
                lake.target.files.path(found.name), evidence.encode(msgspec.structs.replace(found, verdicts=changed))
            )


def _lose_quarantined(lake: Lake, m: bronze.Manifest) -> None:
    [name] = [n for n in lake.target.files.names("quarantine") if m.batch in n]
    path = lake.target.files.path(name)
    lines = igzip.decompress(path.read_bytes()).splitlines(keepends=True)
    _rewrite(path, igzip.compress(b"".join(lines[1:])))


def _lose_silver_row(lake: Lake, m: bronze.Manifest) -> None:
    alter_silver(lake, m.dataset, f"_batch <> '{m.batch}' OR id <> 'b'")


def _lose_manifest(lake: Lake, m: bronze.Manifest) -> None:
    lake.target.files.path(m.name).unlink()


def alter_silver(lake: Lake, dataset: str, where: str = "true", **columns: str) -> None:
    """Replace the table's content behind the lake's back, as a stray job would."""
    table = silver.load(lake.target.catalog, dataset)
    assert table is not None
    con = __import__("assay.engines.duckdb", fromlist=["connect"]).connect()
    names = [f.name for f in table.schema().fields]
    chosen = ", ".join(f'{columns[n]} AS "{n}"' if n in columns else f'"{n}"' for n in names)
    select = f"SELECT {chosen} FROM ({silver.observed(table, silver.snapshot_id(table))}) WHERE {where}"
    tables.replace(table, tables.write(con, table, select, "stray"), {})
    con.close()


@pytest.mark.parametrize(
    ("place", "lose"),
    [
        ("request", _lose_request), ("part", _lose_part_line), ("evidence", _lose_evidence),
        ("quarantine", _lose_quarantined), ("silver", _lose_silver_row), ("manifest", _lose_manifest),
    ],
)  # fmt: skip
def test_a_lost_record_is_named_with_batch_and_place(
    tmp_path: Path, place: str, lose: Callable[[Lake, bronze.Manifest], None]
) -> None:
    lake, _ = small_lake(tmp_path)
    manifest = next(m for m in run.batches(lake, "things") if m.rows == 5)
    lose(lake, manifest)
    with pytest.raises(LakeDamaged, match=rf"batch {manifest.batch} {place}: "):
        verify.counts(lake)
    lake.close()


def test_a_damaged_object_is_refused_before_it_is_refined(tmp_path: Path) -> None:
    lake, made = small_lake(tmp_path)
    manifest = made.land(lake.contract("things"), [record(id='"z"')], day=9)
    path = lake.target.files.path(manifest.parts[0].path)
    _rewrite(path, path.read_bytes()[:-1] + b"\1")
    before = made.versions(lake.contract("things"))
    with pytest.raises(LakeDamaged, match=r"is not what batch .* wrote; restore it"):
        run.refine(lake, "things")
    with pytest.raises(LakeDamaged, match="restore it from a copy"):
        verify.bronze_objects(lake)
    assert made.versions(lake.contract("things")) == before
    lake.close()


def test_every_answers_rows_sum_to_the_manifest(tmp_path: Path) -> None:
    lake, made = small_lake(tmp_path)
    for manifest in run.batches(lake, "things"):
        assert sum(a.rows for a in manifest.requests) == sum(p.rows for p in manifest.parts) == manifest.rows
        data = b"".join(igzip.decompress(made.files.read(p.path)) for p in manifest.parts)
        assert hashlib.sha256(data).hexdigest() == manifest.parts[0].sha256
        assert GOOD["id"].encode() in data or manifest.rows != 5
    lake.close()
