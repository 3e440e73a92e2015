"""Law 6: silver is what the log gives; one altered cell, row or clock is named by key; what is lost is made again."""

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from assay.errors import LakeDamaged, SettingsError
from assay.lake import bronze, evidence, silver, tables
from assay.lake.bronze import Decision
from assay.lake.coverage import Cover, packed
from assay.run import Lake, prove
from assay.run import lake as lakes
from assay.targets import sqlite
from tests.laws.lakes import STORES, Where, alter, lose_catalog, lose_ledger, parquet, reopened, rewrite, small_lake
from tests.making import Made, every_type, make, record


@pytest.mark.parametrize("where", STORES)
def test_rebuilding_gives_the_same_rows_current_and_past(tmp_path: Path, where: Where) -> None:
    lake, made, _ = small_lake(tmp_path, where)
    assert prove.rebuild(lake, ["things"]) == {"things": 4}
    made.land(lake.contract("things"), [record(whole="8"), record(id='"b"', whole="9"), record(id='"d"')], day=5)
    assert lake.refine("things").counts["unchanged"] == 1
    assert prove.rebuild(lake, ["things"]) == {"things": 6}
    lake.close()


@pytest.mark.parametrize("where", STORES)
def test_what_was_folded_anew_is_rebuilt_too(tmp_path: Path, where: Where) -> None:
    lake, made, _ = small_lake(tmp_path, where)
    path = tmp_path / "contracts/things.yaml"
    path.write_text(path.read_text().replace("logicalType: integer, required: true", "logicalType: integer"))
    lake, made = reopened(lake, made)
    assert [s.id for s in lake.plan()][-1] == "refine things everything"
    done = lake.refine("things")
    # The batch that was held passes now: six equal rows, that say of a key something else than before.
    assert (len(done.evidence), done.evidence[0].began, done.held) == (1, 2, [])
    assert prove.rebuild(lake, ["things"]) == {"things": done.counts["accepted"]} == {"things": 6}
    assert prove.counts(lake) == {"batches": 3, "captured": 13, "unjudged": 0}
    assert prove.silver_objects(lake)["datasets"] == 1
    assert [s.id for s in lake.plan()][-1] == "refine things"  # only because there is something to land
    lake.close()


def _second(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"captured_at": row["captured_at"] + timedelta(seconds=1)}


def _day(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"known_at": row["known_at"] - timedelta(days=1), "known_from": row["known_from"] - timedelta(days=1)}


@pytest.mark.parametrize(
    ("key", "change", "named"),
    [
        ("b", lambda row: row | {"whole": row["whole"] + 1}, r"id=b: whole is 8, bronze gives 7"),
        ("d", lambda _: None, r"id=d: a current row is missing"),
        ("e", _second, r"id=e: captured_at is"),
        ("e", _day, r"id=e: known_at is .*known_from is"),
        ("b", lambda row: row | {"_hash": "0" * 32}, r"id=b: _hash is"),
        ("b", lambda row: row | {"id": "x"}, r"id=x: a current row that bronze does not give"),
    ],
)
def test_what_differs_is_named_by_key(tmp_path: Path, key: str, change: Callable[..., Any], named: str) -> None:
    lake, _, _ = small_lake(tmp_path)
    alter(lake, lambda row: change(row) if row["id"] == key else row)
    with pytest.raises(LakeDamaged, match=named):
        prove.rebuild(lake, ["things"])
    with pytest.raises(LakeDamaged, match="parquet is not what the refine wrote"):
        prove.silver_objects(lake)
    lake.close()


@pytest.mark.parametrize("where", STORES)
def test_a_lost_ledger_is_made_anew_from_the_lake(tmp_path: Path, where: Where) -> None:
    lake, made, _ = small_lake(tmp_path, where)
    before, versions = lake.status(), made.versions(lake.contract("things"))
    lake.close()
    lose_ledger(made)
    lake, made = reopened(lake, made)
    lake.plan()  # reading alone would say nothing: `status` writes nothing
    assert lake.status() == before
    assert lake.refine("things").evidence == ()
    assert prove.rebuild(lake, ["things"]) == {"things": len(versions)}
    assert prove.counts(lake)["captured"] == 13
    lake.close()


def test_a_ruined_ledger_is_named_with_the_remedy(tmp_path: Path) -> None:
    lake, made, _ = small_lake(tmp_path)
    lake.close()
    made.close()
    for one in made.root.glob("ledger.db*"):
        one.unlink()
    (made.root / "ledger.db").write_bytes(b"x" * 5000)
    with lakes.open(tmp_path) as lake, pytest.raises(LakeDamaged, match="move it away: it is an index"):
        lake.status()


@pytest.mark.parametrize("where", STORES)
def test_a_lost_catalog_is_rolled_forward_by_the_evidence(tmp_path: Path, where: Where) -> None:
    lake, made, _ = small_lake(tmp_path, where)
    before = made.versions(lake.contract("things"))
    lake.close()
    lose_catalog(made)
    lake, made = reopened(lake, made)
    with pytest.raises(LakeDamaged, match="`assay refine things` gives the tables what the evidence says"):
        prove.counts(lake)
    assert lake.refine("things").evidence == ()  # nothing is judged again
    assert made.versions(lake.contract("things")) == before
    assert prove.counts(lake) == {"batches": 3, "captured": 13, "unjudged": 0}
    assert prove.rebuild(lake, ["things"]) == {"things": 4}
    lake.close()


@pytest.mark.parametrize("where", STORES)
def test_evidence_goes_on_where_the_log_was_folded_anew_though_its_first_is_lost_with_catalog_and_ledger(
    tmp_path: Path, where: Where
) -> None:
    lake, made, _ = small_lake(tmp_path, where)
    assert lake.refine("things", everything=True).evidence[0].number == 2
    made.land(lake.contract("things"), [record(id='"z"')], day=9)
    assert lake.refine("things").evidence[0].number == 3
    before = made.versions(lake.contract("things"))
    made.files.delete(evidence.name_of("things", 1))
    lake.close()
    lose_catalog(made)
    lose_ledger(made)
    lake, made = reopened(lake, made)
    assert lake.refine("things").evidence == ()
    assert made.versions(lake.contract("things")) == before
    assert prove.rebuild(lake, ["things"]) == {"things": len(before)}
    made.land(lake.contract("things"), [record(id='"y"')], day=10)
    assert lake.refine("things").evidence[0].number == 4
    lake.close()


@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize("where", STORES)
def test_no_evidence_is_put_before_what_follows_from_a_lost_one(tmp_path: Path, where: Where, lost: int) -> None:
    lake, made, _ = small_lake(tmp_path, where)
    for number in (2, 3):
        made.land(lake.contract("things"), [record(id=f'"z{number}"')], day=7 + number)
        assert lake.refine("things").evidence[0].number == number
    made.files.delete(evidence.name_of("things", lost))
    lake.close()
    lose_catalog(made)
    lose_ledger(made)
    lake, made = reopened(lake, made)
    for _ in range(2):
        with pytest.raises(
            LakeDamaged, match=rf"things/00000000{lost}.* is lost, .*take away all of the lake's data but bronze"
        ):
            lake.refine("things")
    assert not made.files.exists(evidence.name_of("things", lost))
    lake.close()


@pytest.mark.parametrize("refined", [(0, 1, 2), (1, 2), (2,)])
def test_a_table_that_is_made_anew_numbers_its_fields_as_the_lost_one(tmp_path: Path, refined: tuple[int, ...]) -> None:
    """Whatever the order of columns in the contracts, and whichever of them a refine saw."""
    line = "      - {name: note, logicalType: string, classification: public}\n"
    more = [line.replace("note", name) for name in ("b", "a")]
    contracts = [every_type(), every_type((line, more[0] + line)), every_type((line, more[1] + line + more[0]))]
    made = make(tmp_path / "lake")
    for number, contract in enumerate(contracts):
        fields = {name: f'"{name}{number}"' for name in ("note", "b", "a")}
        made.land(contract, [record(id=f'"{number}{n}"', **fields) for n in range(2)], day=number + 1)
        if number in refined:
            made.refine(contract)
    before = made.versions(contracts[-1])
    made.close()
    (tmp_path / "lake/catalog.db").unlink()
    again = make(tmp_path / "lake")
    again.refine(contracts[-1])
    assert again.versions(contracts[-1]) == before
    assert ("a2", "b2", "note2") in again.current(contracts[-1], "a, b, note")
    again.close()


def test_entries_that_come_while_everything_is_folded_anew_are_folded_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, made, _ = small_lake(tmp_path)
    contract = lake.contract("things")
    encode, late = evidence.encode, []

    def slow(found: evidence.Evidence) -> bytes:
        if not late:  # another process lands and refines just before this one's evidence is put
            late.append(made.land(contract, [record(id='"late"')], day=20))
            lake.refine("things")
        return encode(found)

    monkeypatch.setattr(evidence, "encode", slow)
    lake.refine("things", everything=True)
    assert prove.counts(lake) == {"batches": 4, "captured": 14, "unjudged": 0}
    assert prove.rebuild(lake, ["things"])["things"] == 5
    lake.close()


@pytest.mark.slow
def test_a_replay_is_a_decision_and_opens_no_gate(tmp_path: Path) -> None:
    lake, made, _ = small_lake(tmp_path)
    many = [record(id=f'"m{i}"') for i in range(300)] + [record(id=f'"x{i}"', whole="null") for i in range(30)]
    made.land(lake.contract("things"), [*many, record(id='"y"', whole="1500000")], day=21)
    lake.refine("things")
    path = tmp_path / "contracts/things.yaml"
    path.write_text(path.read_text().replace("whole < 1000000", "whole < 2000000"))
    lake, made = reopened(lake, made)
    done = lake.replay("things")
    assert (done.counts["accepted"], done.counts["quarantined"]) == (1, 32)
    found = lake.status()["datasets"]["things"]
    assert (found["accepted"], found["held"], found["quarantined"]) == (305, 6, 32)
    listed = lake.quarantined("things", 100)
    assert len([one for one in listed if not one["held"]]) == 32
    assert len([one for one in listed if one["held"]]) == 6
    assert prove.rebuild(lake, ["things"])["things"] == found["accepted"]
    assert lake.replay("things").evidence == ()  # this contract has judged them
    assert prove.counts(lake)["captured"] == 13 + 331
    lake.close()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda lake: [rewrite(lake.target.files, one.name, None) for one in parquet(lake)], "parquet.* restore it"),
        (lambda lake: (lake.target.settings.data / "catalog.db").write_bytes(b"broken" * 999), "catalog.db is not a catalog any more"),
    ],
)  # fmt: skip
def test_damaged_storage_is_named(tmp_path: Path, damage: Callable[[Lake], Any], says: str) -> None:
    lake, made, _ = small_lake(tmp_path)
    lake.target.catalog.close()
    damage(lake)
    lake.close()
    made.close()
    with lakes.open(tmp_path) as lake, pytest.raises(LakeDamaged, match=says):
        prove.rebuild(lake, ["things"])
    lake.close()


FLIPS = int(os.environ.get("FLIPS", "40"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ledger.db", "catalog.db"])
def test_a_bit_flipped_in_sqlites_files_is_named_or_changes_no_answer(tmp_path: Path, name: str) -> None:
    lake, made, _ = small_lake(tmp_path)
    lake.plan()
    lake.close()
    made.close()
    with closing(sqlite3.connect(made.root / name)) as con:
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copytree(made.root, tmp_path / "whole")
    whole = (made.root / name).read_bytes()

    def answers() -> Any:
        with lakes.open(tmp_path) as lake:
            pair = silver.load(lake.target.catalog, "things")
            both = zip((pair.current, pair.past), silver.pinned(pair.current), strict=True) if pair else ()
            rows = [tables.relation(table, number, lake.target.files) for table, number in both]
            found = lake.status(), [step.id for step in lake.plan()], rows
            prove.counts(lake)
        return found

    expected, named, chance = answers(), 0, random.Random(7)
    written = [i for i, byte in enumerate(whole) if byte]
    for _ in range(FLIPS):
        shutil.rmtree(made.root)
        shutil.copytree(tmp_path / "whole", made.root)
        at, bit = chance.choice(written), chance.randrange(8)
        flipped = bytearray(whole)
        flipped[at] ^= 1 << bit
        (made.root / name).write_bytes(flipped)
        try:
            assert answers() == expected, (at, bit, whole[at - 40 : at + 40])
        except (LakeDamaged, SettingsError):
            named += 1
    assert named


KINDS = ["entry", "contract", "decided", "landed", "coverage", "evidence", "held", "account"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["altered", "lost"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fact_of_the_ledger_that_the_lake_does_not_give_is_named(tmp_path: Path, kind: str, how: str) -> None:
    lake, made, landed = small_lake(tmp_path)
    made.decide(lake.contract("things"), Decision("exclude", batch=landed[1].at))
    lake.plan()
    prove.counts(lake)
    lake.close()
    with closing(sqlite3.connect(made.root / "ledger.db")) as con, con:
        fact = con.execute("SELECT * FROM facts WHERE kind = ? ORDER BY id DESC", [kind]).fetchone()
        con.execute("DELETE FROM facts WHERE kind = ? AND id = ?", [kind, fact[2]])
        if how == "altered":
            body = msgspec.json.decode(fact[5])
            body |= {"shards": packed({"all": Cover(rows=99)})} if kind == "coverage" else {"run": "x", "rows": 99}
            row = (*fact[:5], msgspec.json.encode(body).decode())
            con.execute("INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, sqlite._crc32(row)))
    with lakes.open(tmp_path) as lake:
        if how == "lost" and kind == "coverage":
            prove.counts(lake)  # it is worked out again
            return
        what = "coverage of all" if kind == "coverage" else f"fact {kind} "
        heals = how == "lost" and kind == "account"  # it is as one that was never brought up
        if heals:
            prove.counts(lake)
        else:
            with pytest.raises(LakeDamaged, match=f"things ledger: .*{what}.* move ledger.db away"):
                prove.counts(lake)


def test_what_the_ledger_alone_still_knows_of_a_lost_entry_is_not_thrown_away(tmp_path: Path) -> None:
    lake, made, _ = small_lake(tmp_path)
    last = made.land(lake.contract("things"), [record()], day=9)
    lake.close()
    name = bronze.name_of("things", last.entry.position)
    (made.root / name).unlink()
    with lakes.open(tmp_path) as lake, pytest.raises(LakeDamaged, match=name) as told:
        prove.counts(lake)
    assert "move ledger.db away" not in str(told.value)


def test_a_lake_without_a_ledger_says_what_a_rejudge_would_judge(tmp_path: Path) -> None:
    lake, made, _ = small_lake(tmp_path)
    found = prove.quarantined(lake, "things")
    assert found
    lake.close()
    for one in made.root.glob("ledger.db*"):
        one.unlink()
    with lakes.open(tmp_path) as lake:
        assert prove.quarantined(lake, "things") == found


# ------------------------------------------------------------------ what was put back from a copy


WORD = Decision("upsert", record=record(id='"w"').decode(), seen=2)


class Copies:
    """A lake before and after a landing and a refine; each part of it can be put back as it was before."""

    PARTS = {  # noqa: RUF012 - it is looked at alone
        "catalog": ["catalog.db*"],
        "ledger": ["ledger.db*"],
        "bronze": ["bronze", "contracts"],
        "evidence": ["evidence", "quarantine"],
        "silver": ["catalog.db*", "warehouse", "evidence", "quarantine"],
    }

    def __init__(self, root: Path) -> None:
        lake, made, _ = small_lake(root)
        lake.close()
        made.close()
        self.root, self.data = root, made.root
        self.old, self.new = root / "old", root / "new"
        shutil.copytree(self.data, self.old)
        lake, made = reopened(lake, made)
        made.land(lake.contract("things"), [record(whole="8"), record(id='"n"'), record(whole="null", id='"o"')], day=6)
        lake.refine("things")
        self.versions = made.versions(lake.contract("things"))
        self.status = lake.status()
        lake.close()
        made.close()
        shutil.copytree(self.data, self.new)

    def put_back(self, source: Path, *parts: str) -> None:
        for pattern in [p for part in parts for p in self.PARTS[part]]:
            for one in self.data.glob(pattern):
                shutil.rmtree(one) if one.is_dir() else one.unlink()
            for one in source.glob(pattern):
                (shutil.copytree if one.is_dir() else shutil.copy)(one, self.data / one.name)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Copies:
    return Copies(tmp_path_factory.mktemp("copies"))


def proofs(lake: Lake) -> None:
    """All that look for what was lost."""
    prove.bronze_objects(lake)
    prove.silver_objects(lake)
    prove.counts(lake)


def silent(lake: Lake, copies: Copies) -> list[str]:
    """What answered, although something is wrong, with other rows or sums than are right."""
    out = []
    try:
        for dataset in lake.contracts:
            prove.counts(lake)
            prove.rebuild(lake, [dataset])
        told = lake.status()
        if told != copies.status and not told["datasets"]["things"]["unjudged"]:
            out.append("status")
    except LakeDamaged:
        pass
    return out


@pytest.mark.parametrize(
    ("older", "heals"),
    [
        (["catalog"], True),  # evidence rolls it forward
        (["ledger"], True),  # it is brought up from log and evidence
        (["catalog", "ledger"], True),
        (["silver", "ledger"], True),  # the log has more than silver: it is folded
        (["silver"], False),  # the ledger knows of evidence that is gone
        (["evidence"], False),  # the tables name evidence that is gone
        (["bronze"], False),  # the ledger and silver name entries that are gone
        (["bronze", "ledger"], False),  # silver does
        (["bronze", "silver"], False),  # the ledger does
    ],
)
def test_a_part_that_is_older_than_the_others_is_healed_or_named(copies: Copies, older: list[str], heals: bool) -> None:
    copies.put_back(copies.new, *Copies.PARTS)
    copies.put_back(copies.old, *older)
    with lakes.open(copies.root) as lake:
        assert silent(lake, copies) == []
    with lakes.open(copies.root) as lake:
        if not heals:
            if older == ["evidence"]:  # what silver has is right, and it does not go on
                lake.refine("things")
                bronze.decide(lake.target.files, lake.target.ledger, "things", [WORD], who="a test", why="to go on")
            with pytest.raises(LakeDamaged, match=r"restore|copy"):
                lake.refine("things")
            with pytest.raises(LakeDamaged):
                [proof(lake) for proof in (prove.bronze_objects, prove.silver_objects, prove.counts)]
            return
        lake.refine("things")
        t = lake.target
        made = Made(copies.data, t.files, t.catalog, t.ledger, t.engine, t.limits)
        versions = made.versions(lake.contract("things"))
        assert [v[:-4] for v in versions] == [v[:-4] for v in copies.versions]
        assert lake.status() == copies.status
        assert prove.counts(lake) == {"batches": 4, "captured": 16, "unjudged": 0}
        assert prove.rebuild(lake, ["things"]) == {"things": 6}
        assert prove.silver_objects(lake)["datasets"] == 1


@pytest.mark.parametrize("older", [["bronze"], ["bronze", "ledger"], ["bronze", "silver"]])
def test_an_older_bronze_is_not_written_to_as_if_nothing_were_lost(copies: Copies, older: list[str]) -> None:
    copies.put_back(copies.new, *Copies.PARTS)
    copies.put_back(copies.old, *older)
    before = sorted(p.name for p in (copies.data / "bronze").rglob("*.gz"))
    with lakes.open(copies.root) as lake:
        t = lake.target
        made = Made(copies.data, t.files, t.catalog, t.ledger, t.engine, t.limits)
        if older == ["bronze", "ledger"]:  # nothing that landing reads knows of more; the refine does
            made.land(lake.contract("things"), [record(whole="3")], day=6)
            with pytest.raises(LakeDamaged, match="bronze"):
                lake.refine("things")
        else:
            with pytest.raises(LakeDamaged, match="log"):
                made.land(lake.contract("things"), [record(whole="3")], day=6)
            assert sorted(p.name for p in (copies.data / "bronze").rglob("*.gz")) == before
