"""A small lake on either store, through the real doors, and ways to damage what lies in it behind its back."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from assay.engines.duckdb import DuckDBEngine
from assay.lake import evidence, silver
from assay.ports import Files
from assay.run import Lake
from assay.run import lake as lakes
from assay.targets import Target
from assay.targets.aws import provision, table
from assay.targets.aws.s3 import S3Files
from assay.targets.local import LocalSecrets
from tests.every.stores import StoreFiles
from tests.making import EVERY_TYPE, Landed, Made, make, make_on_aws, make_on_store, open_catalog, open_ledger, record

STORES = [make, make_on_store, make_on_aws]
SETTINGS = '[lake]\nname = "small"\n[source.fmp]\nbase_url = "http://127.0.0.1:1/stable"\norigin = "synthetic"\nallow_private = true\n'
Where = Callable[[Path], Made]


def new_lake(root: Path, where: Where = make, text: str = EVERY_TYPE) -> tuple[Lake, Made]:
    """A lake of one dataset, `things`, that holds nothing yet."""
    (root / "contracts").mkdir(parents=True)
    (root / "assay.toml").write_text(SETTINGS)
    (root / "contracts/things.yaml").write_text(text)
    settings, _, _ = lakes.promises(root)
    return opened(root, where(settings.data))


def opened(root: Path, made: Made) -> tuple[Lake, Made]:
    """The lake in a directory, over the parts of a small one; with the contracts as they are now."""
    settings, contracts, universes = lakes.promises(root)
    target = Target(
        "local", settings, made.files, LocalSecrets(root), made.limits,
        lambda: open_catalog(made.root, made.files), lambda: open_ledger(made.root, made.files),
        lambda: DuckDBEngine(made.limits),
    )  # fmt: skip
    lake = Lake(target, contracts, universes)
    return lake, Made(made.root, made.files, target.catalog, target.ledger, target.engine, made.limits)


def reopened(lake: Lake, made: Made) -> tuple[Lake, Made]:
    """The same lake, opened by another process so to say."""
    lake.close()
    made.close()
    return opened(lake.root, made)


def small_lake(root: Path, where: Where = make) -> tuple[Lake, Made, list[Landed]]:
    """A lake with good, duplicate and quarantined rows and a held batch."""
    lake, made = new_lake(root, where, EVERY_TYPE.replace("minRows: 20", "minRows: 6"))
    contract = lake.contract("things")
    landed = [
        made.land(contract, [record(), record(), record(id='"b"'), record(id='"c"', whole="null"), b"42"], day=1),
        made.land(contract, [record(id='"d"'), record(id='"e"')], day=2),
        made.land(contract, [record(whole="null")] * 6, day=3),
    ]
    for _ in range(2):
        lake.refine("things")
    return lake, made, landed


def rewrite(files: Files, name: str, data: bytes | None) -> None:
    """Give an object other bytes, or none, past the lake's own door."""
    if isinstance(files, StoreFiles):
        if data is None:
            del files.store.objects[name]
        else:
            files.store.objects[name] = data
        shutil.rmtree(files._copies())
        files._proved.clear()
        return
    if isinstance(files, S3Files):
        s3, where = files.clients("s3"), {"Bucket": files.bucket, "Key": files.prefix + name}
        s3.delete_object(**where) if data is None else s3.put_object(Body=data, **where)
        files._held.drop(name)
        shutil.rmtree(files._copies())
        files._proved.clear()
        return
    path = Path(files.url(name))
    path.chmod(0o600)
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)


def lose_catalog(made: Made) -> None:
    """All that the catalog knows is gone, while the tables' objects stay."""
    if isinstance(made.files, S3Files):
        for name in made.catalog.list_tables("silver"):
            made.catalog.drop_table(name)
    else:
        (made.root / "catalog.db").unlink()


def lose_ledger(made: Made) -> None:
    """The ledger is empty."""
    if isinstance(made.files, S3Files):
        dynamodb, name = made.files.clients("dynamodb"), table(made.files.clients.aws, "dev")
        dynamodb.delete_table(TableName=name)
        provision.ledger(dynamodb, name)
    else:
        for one in made.root.glob("ledger.db*"):
            one.unlink()


def parquet(lake: Lake, *, past: bool = False) -> list[evidence.DataFile]:
    """The files that the evidence gives a table of `things`."""
    files = lake.target.files
    pair = silver.load(lake.target.catalog, "things")
    assert pair
    head = silver.head(pair.current)
    found = [one for one, _ in evidence.since(files, "things", 0, None) if one.number <= head.number]
    return list(silver.live(found, past=past).values())


def alter(lake: Lake, change: Callable[[dict], dict | None]) -> None:
    """Alter rows of silver in their files, as rot or a stray hand would; None takes a row away."""
    files = lake.target.files
    for one in parquet(lake):
        table = pq.read_table(io.BytesIO(files.read(one.name)))
        rows = [new for row in table.to_pylist() if (new := change(row)) is not None]
        if rows != table.to_pylist():
            out = io.BytesIO()
            pq.write_table(pa.Table.from_pylist(rows, table.schema), out)
            rewrite(files, one.name, out.getvalue())
