"""Erasure: a subject's rows are gone from every file, all other rows are what they were, and the account adds up."""

import gzip
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, assume, event, given, settings

from assay import crash
from assay.contract.model import Contract
from assay.engines.duckdb import DuckDBEngine
from assay.errors import LakeBusy, LakeDamaged, UsageError
from assay.lake import bronze
from assay.lake.bronze import Asked, Decision, Entry, Erased
from assay.lake.landing import PART, Landing
from assay.ports import N
from assay.run import Lake, erase, prove, search
from assay.run import lake as lakes
from assay.settings import Settings
from assay.targets import Target
from assay.targets import catalog as catalogs
from assay.targets.local import DiskUse, LocalSecrets
from assay.targets.sqlite import SqliteLedger
from tests.forked import assay as command
from tests.forked import noon
from tests.kept import Kept, begun
from tests.laws import test_silver
from tests.laws.fold import log
from tests.laws.fold.log import histories
from tests.making import Landed, Made, every_type, make, record

EXAMPLES = int(os.environ.get("SILVER_EXAMPLES", "6"))
PHASES = set(Phase) - {Phase.shrink} if os.environ.get("QUICK") else set(Phase)
BY = {"who": "ada", "why": "request-104"}
NAME = "Zoë Quist-4711"


def lake_of(root: Path, *contracts: Contract) -> tuple[Lake, Made]:
    """A small lake on a disk, opened."""
    made = make(root)
    sources = {"fmp": {"base_url": "http://127.0.0.1:1", "origin": "synthetic"}}
    target = Target(
        "local", Settings(root, "test", "dev", root, sources=sources), made.files, LocalSecrets(root), made.limits,
        lambda: catalogs.open_catalog(root, made.files), lambda: SqliteLedger(root / "ledger.db"),
        lambda: DuckDBEngine(made.limits), DiskUse(root),
    )  # fmt: skip
    made.close()
    return Lake(target, {one.dataset: one for one in contracts}, {}), made


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., "Things"]]:
    opened: list[Things] = []

    def call(*changes: tuple[str, str]) -> Things:
        opened.append(Things(tmp_path / f"lake{len(opened)}", every_type(*changes)))
        return opened[-1]

    yield call
    for one in opened:
        one.lake.close()


class Things:
    """A small lake of one dataset, `things`."""

    def __init__(self, root: Path, contract: Contract) -> None:
        self.root, self.contract = root, contract
        self.lake, self._made = lake_of(root, contract)

    @property
    def made(self) -> Made:
        """Its parts as they are open now."""
        t = self.lake.target
        return Made(self.root, t.files, t.catalog, t.ledger, t.engine, t.limits)

    def land(self, *records: bytes, **more: Any) -> Landed:
        """One answer, landed and refined."""
        made = self.made
        found = made.land(self.contract, records, **more)
        made.refine(self.contract)
        return found

    def erase(self, column: str, value: str, **more: Any) -> erase.Found:
        """Erase, and fold what is left."""
        found = erase.erase(self.lake, "things", column, value, **BY, **{"dry": False, "although": False, **more})
        if not more.get("dry"):
            self.made.refine(self.contract)
        return found

    def rows(self) -> Counter[tuple[Any, ...]]:
        """All versions with their clocks and places."""
        made = self.made
        return Counter(made.rows(f"SELECT * FROM ({made.select(self.contract)})"))

    def proved(self) -> None:
        """All proofs."""
        prove.counts(self.lake)
        prove.bronze_objects(self.lake)
        prove.silver_objects(self.lake)
        prove.rebuild(self.lake, ["things"])

    def entry(self, position: int) -> Entry:
        """One entry."""
        return bronze.read(self.lake.target.files, "things", position)

    def ids(self) -> list[str]:
        """The current keys."""
        return [one for (one,) in self.made.current(self.contract, "id")]


def asked(things: Things, shard: str, params: dict[str, str], *records: bytes, raw: bytes | None = None) -> Entry:
    """An answer to a request with parameters, landed and refined; it may be kept as it came."""
    made, contract = things.made, things.contract
    seen = bronze.adopt(made.files, made.ledger, "things")
    with Landing(
        made.files, made.ledger, "things", seen, run="r", source="fmp", code="0" * 64, origin="synthetic",
        capture=contract.capture_fingerprint, contract=contract.sha256, reads=[("id",), ("note",)],
    ) as landing:  # fmt: skip
        with landing.ask(shard, None) as ask:
            ask.page(Asked(params, bronze.EPOCH, 1, "1" * 64, len(records)), list(records), raw, "csv")
        put = landing.commit()
    assert put
    made.refine(contract)
    return put[0]


def tree(root: Path) -> dict[str, bytes]:
    """All files but scratch and databases that a reader may touch."""
    return {
        str(one.relative_to(root)): one.read_bytes()
        for one in sorted(root.rglob("*"))
        if one.is_file()
        and one.relative_to(root).parts[0] not in ("_tmp", "ledger.db", "ledger.db-wal", "ledger.db-shm")
    }


@dataclass(frozen=True)
class Asking(DuckDBEngine):
    """Counts how often values of lines were asked for."""

    often: list[int] = field(default_factory=list)

    def rows(self, contract: Contract, lines: Sequence[bytes]) -> list[dict[str, Any] | None]:
        """What it is without counting."""
        self.often.append(len(lines))
        return super().rows(contract, lines)


def test_lines_of_many_entries_are_looked_at_together(begin: Callable[..., "Things"]) -> None:
    things = begin()
    for n in range(12):
        things.land(record(id=f'"{n % 3}"', i=str(n)))
    engine = Asking(things.made.limits)
    vars(things.lake.target)["engine"] = engine  # where the one that it opened is kept
    assert things.erase("id", "1", dry=True).rows == 4
    assert engine.often == [12, 12]


def test_large_lines_are_looked_at_a_part_at_a_time() -> None:
    large = b" " * (PART // 2 + 1)
    lines = iter([(erase._At(0, 0, n), large) for n in range(5)])
    assert [len(list(erase._some(lines))) for _ in range(4)] == [2, 2, 1, 0]


# ------------------------------------------------------------------ all other rows are what they were


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(histories())
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("note", "it's"),
        *(pytest.param(*one, marks=pytest.mark.slow) for one in [("v", "1"), ("day", "1")]),
    ],
)
def test_of_any_history_only_what_is_erased_is_gone(column: str, value: str, history: Any) -> None:
    sequence, entries, _ = history
    entries = test_silver.real(entries)
    assume(value in {str(getattr(row, column)) for row in said(entries)})
    root = Path(tempfile.mkdtemp())
    lake, _ = lake_of(root / "lake", test_silver.contract(log.Rules(), sequence=sequence))
    t = lake.target
    try:
        made = Made(root, t.files, t.catalog, t.ledger, t.engine, t.limits)
        test_silver.put(made, entries, len(entries), sequence=sequence)
        force = bronze.pinned(t.files, t.ledger.newest("contract", "rows").body["sha256"])  # type: ignore[union-attr]
        lake = Lake(t, {"rows": force}, {})
        refined(lake, force)
        before = stored(lake, force)
        captured = prove.counts(lake)["captured"]
        whole = partial(erase.erase, lake, "rows", column, value, **BY, dry=False)
        try:
            found = whole(although=False)
            event("nobody else changes")
        except UsageError as refused:
            told = str(refused)
            event("others change")
            found = whole(although=True)
            assert found.others
            assert told.startswith("without these lines, rows of others would be other ones")
        refined(lake, force)
        after = stored(lake, force)
        keys = {(sym, int(day)) for sym, day in found.keys}
        if not found.others:
            assert after == Counter({row: n for row, n in before.items() if row[:2] not in keys})
        assert not {row[:2] for row in after} & keys
        assert prove.counts(lake)["captured"] == captured
        prove.bronze_objects(lake)
        prove.rebuild(lake, ["rows"])
        with pytest.raises(UsageError, match="nothing in the log"):
            erase.erase(lake, "rows", column, value, **BY, dry=True, although=False)
    finally:
        t.close()
        shutil.rmtree(root)


def said(entries: list[log.Entry]) -> Iterator[log.Row]:
    """All rows of a history."""
    for entry in entries:
        if isinstance(entry, log.Landed):
            yield from (row for batch in entry.batches for row in batch.rows)
        elif isinstance(entry, log.Decided):
            yield from (one.row for one in entry.decisions if one.row)


def refined(lake: Lake, contract: Contract) -> None:
    t = lake.target
    Made(t.settings.root, t.files, t.catalog, t.ledger, t.engine, t.limits).refine(contract)


def stored(lake: Lake, contract: Contract) -> Counter[tuple[Any, ...]]:
    t = lake.target
    return test_silver.stored(Made(t.settings.root, t.files, t.catalog, t.ledger, t.engine, t.limits), contract)


# ------------------------------------------------------------------ what is of a subject


def test_all_that_is_of_a_key_goes_wherever_it_stands(begin: Callable[..., Things]) -> None:
    things = begin()
    name = json.dumps(NAME)
    things.land(record(id='"b"'), record(note=name), record(id='"c"', note=name))
    things.land(record(note='"another"', amount="2.5"), record(id='"b"', amount="3"), day=2)  # says no more whose it is
    things.land(record(whole="null"), record(id='"d"', whole="null", note=name), record(id='"e"', whole="null"), day=3)
    things.land(b'{"note":' + name.encode() + b"", record(id='"f"'), day=4)  # no JSON
    things.made.decide(things.contract, Decision("upsert", record=record(amount="9", note=name).decode(), seen=5))
    assert sorted(things.ids()) == ["a", "b", "c", "f"]
    others = Counter({row: n for row, n in things.rows().items() if row[0] in ("b", "f")})
    found = things.erase("note", NAME)
    assert found.data == {
        "dataset": "things", "column": "note", "keys": 3, "lines": 6, "by_hand": 1, "answers": 0, "entries": 5, "others": [],
    }  # fmt: skip
    assert things.rows() == others
    assert [things.entry(n).batches[0].erased for n in range(2, 6)] == [
        Erased(2), Erased(1), Erased(2, 2, 0, {"whole:required": 2}), Erased(1, 1, 1, {"line:malformed": 1}),
    ]  # fmt: skip
    assert things.entry(6).decisions == (Decision("erased"),)
    last = things.entry(7)
    assert last.decisions == tuple(Decision("erase", batch=(n, 0)) for n in range(2, 6))
    assert (last.who, last.why, last.format) == ("ada", "request-104", 3)
    things.proved()
    assert things.lake.search(NAME) == []
    rejected = list(prove.rejected(things.lake, "things"))
    assert [json.loads(one["line"])["_record"]["id"] for one in rejected] == ["e"]


def test_no_hash_of_what_was_there_stays(begin: Callable[..., Things]) -> None:
    """The rest of a part, of an answer and of an entry is known: a likely value could be tried against any hash of them."""
    things = begin()
    things.land(record(), record(id='"b"'))
    things.land(record(id='"c"'), day=2)
    stored = {one: one.read_bytes() for one in things.root.glob("bronze/things/*/*.gz")}
    [part] = things.entry(2).parts
    gone = [hashlib.sha256(stored[things.root / bronze.name_of("things", n)]).hexdigest() for n in (2, 3)]
    row_hashes = [one for (one,) in things.made.current(things.contract, "_hash") if one]
    names = [part.sha256, part.sha256[:16], *gone]
    assert all(map(things.lake.search, names[:3]))
    things.erase("id", "a")
    assert [one for one in names if things.lake.search(one)] == []
    assert len([one for one in row_hashes if things.lake.search(one)]) == len(row_hashes) - 1
    before, after = (things.entry(n).batches[0].requests[0] for n in (3, 2))
    assert (bool(before.sha256), after.sha256, after.span, after.raw) == (True, "", None, None)
    assert {one.example for one in things.entry(2).shape.fields} == {""}  # type: ignore[union-attr]


def test_lines_of_nobody_go_too(begin: Callable[..., Things]) -> None:
    things = begin()
    things.land(record(id='"b"'))
    made, contract = things.made, things.contract
    seen = bronze.adopt(made.files, made.ledger, "things")
    with Landing(
        made.files, made.ledger, "things", seen, run="r", source="fmp", code="0" * 64, origin="synthetic",
        capture=contract.capture_fingerprint, contract=contract.sha256,
    ) as landing:  # fmt: skip
        for shard in ("late", "more"):
            with landing.ask(shard, None) as ask:
                said = [record(id=json.dumps(f"{shard}-{NAME}"))]
                ask.page(Asked({}, bronze.EPOCH, 1, "0" * 64, 1), said)
        made.land(contract, [record(id='"faster"')], shard="late")
        assert landing.commit()
    made.refine(contract)
    assert things.entry(4).dropped == ((0, 1),)
    assert things.lake.search(NAME)
    things.erase("id", f"late-{NAME}")
    things.erase("id", f"more-{NAME}")
    assert things.lake.search(NAME) == []
    assert things.entry(4).batches[0].erased == Erased(1)
    things.proved()


def test_a_batch_is_erased_from_twice(begin: Callable[..., Things]) -> None:
    things = begin(("minRows: 20", "minRows: 3"))
    things.land(*(record(id=f'"{n}"', whole="7" if n % 2 else "null") for n in range(10)))
    for n in range(4):
        things.erase("id", str(n))
    assert things.entry(2).batches[0].erased == Erased(4, 2, 0, {"whole:required": 2})
    assert things.made.account(things.contract).sum("erased") == 4
    things.proved()


def test_a_gate_stands_as_it_stood(begin: Callable[..., Things]) -> None:
    things = begin(("minRows: 20", "minRows: 4"))
    things.land(*(record(id=f'"{n}"', whole="7" if n < 2 else "null") for n in range(4)))  # 2 of 4: in
    things.land(*(record(id=f'"h{n}"', whole="7" if n < 1 else "null") for n in range(4)), day=2)  # 3 of 4: held
    assert things.ids() == ["0", "1"]
    things.erase("id", "0")  # 2 bad of 3 would be held
    assert things.ids() == ["1"]
    things.erase("id", "h2")  # 2 bad of 3 are, all the same
    things.erase("id", "h3")  # 1 bad of 2 were not
    assert things.ids() == ["1"]
    [held] = things.made.account(things.contract).open
    assert held.why == ("3 of 4 rows are bad: more than 50 percent",)
    things.made.decide(things.contract, Decision("release", batch=divmod(held.place, N)))
    assert things.ids() == ["1", "h0"]
    things.proved()


def test_what_would_change_rows_of_others_is_refused_unless_it_is_wanted(begin: Callable[..., Things]) -> None:
    """One of two rows that share a value which is to be in one only: without it, the other is good."""
    things = begin(("{name: note, logicalType: string,", "{name: note, logicalType: string, unique: true,"))
    things.land(record(note='"x"'), record(id='"b"', note='"x"'), record(id='"c"'))
    assert things.ids() == ["c"]
    before = tree(things.root)
    with pytest.raises(UsageError, match=r"rows of others would be other ones than today: id=b\. Nothing was erased"):
        things.erase("id", "a")
    assert {k: v for k, v in tree(things.root).items() if "/dt=" not in k} == {
        k: v for k, v in before.items() if "/dt=" not in k
    }
    found = things.erase("id", "a", although=True)
    assert found.others == ["id=b"]
    assert things.ids() == ["b", "c"]
    things.proved()


def test_equal_keys_that_are_numbered_are_erased_one_by_one(begin: Callable[..., Things]) -> None:
    numbered = "{name: nth, logicalType: integer, required: true, primaryKey: true, primaryKeyPosition: 2, classification: public, customProperties: [{property: ordinal, value: true}]}"
    things = begin(("      - {name: whole,", f"      - {numbered}\n      - {{name: whole,"))
    things.land(record(note='"x"'), record(note='"y"'), record(id='"b"', note='"x"'))
    assert things.made.current(things.contract, "id, nth, note") == [("a", 1, "x"), ("a", 2, "y"), ("b", 1, "x")]
    things.erase("note", "y")
    assert things.made.current(things.contract, "id, nth, note") == [("a", 1, "x"), ("b", 1, "x")]
    things.land(record(note='"x"'), record(note='"z"'), day=2)
    with pytest.raises(UsageError, match="Nothing was erased"):
        things.erase("note", "x")


def test_what_only_looks_like_the_value_stays(begin: Callable[..., Things]) -> None:
    things = begin()
    things.land(record(id='"4711"'), record(id='"b"'), b'{"id":"Ben","amount":1.4711', b'{"id":"Cleo","note":"due 4711')
    kept = asked(things, "x", {}, record(id='"c"'), raw=b"c;x4711;47110")
    asked(things, "y", {}, record(id='"d"'), raw=b"d;4711")
    found = things.erase("id", "4711")
    assert (found.data["lines"], found.data["answers"]) == (2, 1)
    [ben] = prove.rejected(things.lake, "things")
    assert "Ben" in ben["line"]
    assert things.entry(kept.position).batches[0].requests[0].raw
    assert things.ids() == ["b", "c", "d"]
    assert things.lake.search("4711") == []


def test_versions_that_do_not_say_the_value_go_with_those_that_do(begin: Callable[..., Things]) -> None:
    things = begin()
    things.land(record(note=json.dumps(NAME)), record(id='"b"'))
    things.land(record(note='"another"'), day=2)
    assert things.erase("note", NAME).rows == 2
    assert things.ids() == ["b"]
    things.proved()


@pytest.mark.parametrize("value", ["O'Brien", 'the "boss" \\ of/all', "Zoë 😀 Quist"])
def test_a_text_is_found_however_it_is_spelt_and_wherever_it_stands(begin: Callable[..., Things], value: str) -> None:
    things = begin()
    spelt = json.dumps(value).replace("'", "\\u0027").replace("/", "\\/")
    things.land(record(id='"b"'), record(note=spelt), record(id='"c"', note=spelt, whole="null"))
    assert {one.split("/")[0] for one in things.lake.search(value)} >= {"bronze", "quarantine", "warehouse"}
    things.erase("note", value)
    assert things.lake.search(value) == []


def test_a_text_with_blanks_around_it_is_the_same_subject(begin: Callable[..., Things]) -> None:
    things = begin()
    things.land(record(note='" Ben "'), record(id='"b"', note='"Ben"'), record(id='"c"', note='"Benny"'))
    things.erase("note", "Ben ")
    assert things.ids() == ["c"]


def test_of_what_was_declared_lost_nothing_is_read_and_no_answer_stays(begin: Callable[..., Things]) -> None:
    things = begin()
    things.land(record(id='"a"'), record(id='"b"'))
    missing, damaged = (
        asked(things, shard, {}, record(id=f'"{shard}"', note=json.dumps(NAME)), raw=NAME.encode())
        for shard in ("m", "d")
    )
    (things.root / missing.parts[0].name).unlink()
    (things.root / damaged.parts[0].name).write_bytes(gzip.compress(NAME.encode()))
    things.made.decide(things.contract, *(Decision("lost", batch=(one.position, 0)) for one in (missing, damaged)))
    assert things.lake.search(NAME)
    things.erase("id", "a")
    assert things.ids() == ["b"]
    assert things.lake.search(NAME) == []
    assert not (things.root / damaged.parts[0].name).exists()
    things.proved()


def test_silver_that_bronze_does_not_give_again_keeps_an_erasure_from_being_done(tmp_path: Path) -> None:
    contracts = every_type(), every_type(("id: things", "id: stuff"), ("  - name: things", "  - name: stuff"))
    lake, _ = lake_of(tmp_path, *contracts)
    t = lake.target
    made = Made(tmp_path, t.files, t.catalog, t.ledger, t.engine, t.limits)
    for contract in contracts:
        made.land(contract, [record(), record(id='"b"')])
        made.refine(contract)
    [part] = [one for one in tmp_path.glob("bronze/stuff/dt=*/*") if "ndjson" in one.name]
    whole = part.read_bytes()
    part.unlink()
    before = tree(tmp_path)
    with pytest.raises(UsageError, match=r"(?s)bronze does not give it.*stuff"):
        erase.erase(lake, "things", "id", "a", **BY, dry=False, although=False)
    part.write_bytes(whole)
    with pytest.raises(UsageError, match=r"(?s)stuff: this checkout has no contract of it"):
        erase.erase(Lake(t, {"things": contracts[0]}, {}), "things", "id", "a", **BY, dry=False, although=False)
    assert {k: v for k, v in before.items() if "/dt=" not in k} == {
        k: v for k, v in tree(tmp_path).items() if "/dt=" not in k
    }
    erase.erase(lake, "things", "id", "a", **BY, dry=False, although=False)
    made = Made(tmp_path, t.files, t.catalog, t.ledger, t.engine, t.limits)
    for contract in contracts:
        made.refine(contract)
    assert [made.current(one, "id") for one in contracts] == [[("b",)], [("a",), ("b",)]]
    lake.close()


# ------------------------------------------------------------------ what is refused


REFUSED = {
    "a column that is not there": ("nam", "x", {}, "no column 'nam'"),
    "no value": ("id", " ", {}, "say whose rows"),
    "a value of another type": ("day", "soon", {}, "day"),
    "one that nobody has": ("id", "nobody", {}, "nothing in the log of things has this id"),
    "a reason that holds it": ("id", "a", {"why": "for A"}, "who decided and why stay in the log"),
    "who holds it": ("id", "a", {"who": "a"}, "who decided and why stay in the log"),
    "a value that would be rounded": ("whole", "6.6", {}, "whole: the value is not a bigint"),
    "a day with an hour": ("day", "2024-02-29 10:00", {}, "write 2024-01-05"),
    "a truth in another spelling": ("flag", "t", {}, "write true or false"),
    "no reason": ("id", "a", {"why": " "}, "and why"),
    "what the source is asked by": ("id", "all", {}, "is asked by this id"),
    "what stands among what it is asked": ("note", "Ben", {}, "is asked by this note"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_is_said_before_anything_is_changed(begin: Callable[..., Things], what: str) -> None:
    column, value, by, told = REFUSED[what]
    things = begin()
    things.land(record(), record(id='"all"'))
    asked(things, "some", {"client": "Ben"}, record(note='"Ben"'))
    before = tree(things.root)
    with pytest.raises(UsageError, match=told):
        erase.erase(things.lake, "things", column, value, **{**BY, **by}, dry=False, although=False)
    assert tree(things.root) == before


def test_what_is_not_refined_yet_is_refined_first(begin: Callable[..., Things]) -> None:
    things = begin()
    things.land(record())
    things.made.land(things.contract, [record(id='"b"')], day=2)
    with pytest.raises(UsageError, match="behind its log"):
        erase.erase(things.lake, "things", "id", "a", **BY, dry=True, although=False)


def test_a_dry_run_changes_nothing(begin: Callable[..., Things]) -> None:
    things = begin()
    things.land(record(), record(id='"b"'))
    before = tree(things.root)
    found = things.erase("id", "a", dry=True)
    assert found.told == "things: 1 key, 1 line in 1 position of the log"
    assert tree(things.root) == before


def test_nobody_else_may_have_it_open(begin: Callable[..., Things]) -> None:
    things = begin()
    things.land(record(), record(id='"b"'))
    other = DiskUse(things.root)
    with pytest.raises(LakeBusy, match=r"another process has .* open"):
        things.erase("id", "a")
    other.close()
    assert things.lake.target.use
    with things.lake.target.use.alone(), pytest.raises(LakeBusy, match="rows are being erased"):
        DiskUse(things.root)
    things.erase("id", "a")
    DiskUse(things.root).close()


def test_two_at_once_and_one_that_was_closed_are_told_so(begin: Callable[..., Things]) -> None:
    things = begin()
    first, second = DiskUse(things.root), DiskUse(things.root)
    things.lake.close()
    with pytest.raises(LakeBusy, match=r"another process has .* open"), first.alone():
        pass
    second.close()
    with first.alone(), pytest.raises(LakeBusy, match="are being erased"):
        DiskUse(things.root)
    with pytest.raises(LakeBusy, match="was closed"), second.alone():
        pass
    first.close()


def test_who_slept_meanwhile_puts_nothing(begin: Callable[..., Things]) -> None:
    """On a store without locks a lander may wake up afterwards: the log is not the one that it had read."""
    things = begin()
    things.land(record(), record(id='"b"'))
    made, contract = things.made, things.contract
    seen = bronze.adopt(made.files, made.ledger, "things")
    things.erase("id", "a")
    ledger = SqliteLedger(things.root / "another.db")
    with Landing(
        made.files, ledger, "things", seen, run="r", source="fmp", code="0" * 64, origin="synthetic",
        capture=contract.capture_fingerprint, contract=contract.sha256,
    ) as landing:  # fmt: skip
        with landing.ask("x", None) as ask:
            ask.page(Asked({}, bronze.EPOCH, 1, "0" * 64, 1), [record(id='"x"')])
        with pytest.raises(LakeDamaged, match="follows sha256"):
            landing.commit()
    ledger.close()
    things.proved()


def test_a_tombstone_too_many_or_too_few_is_found(begin: Callable[..., Things]) -> None:
    things = begin()
    things.land(record(), record(id='"b"'))
    things.erase("id", "a")
    entry = things.entry(2)
    wrong = bronze.msgspec.structs.replace(
        entry, batches=(bronze.msgspec.structs.replace(entry.batches[0], erased=Erased()),)
    )
    with pytest.raises(LakeDamaged, match="says that 0 lines of batch 0 were erased, its parts hold 1 tombstones"):
        bronze.check(things.lake.target.files, wrong, whole=True)


# ------------------------------------------------------------------ it is stopped, and gone on with


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """The lake of CSV files, refined and released."""
    with noon():
        one = Kept(tmp_path_factory.mktemp("erase") / "lake")
        begun(one.root, "csv")
        with command(one.root, "apply") as made:
            assert made.said().code == 0
        one.keep("released")
        yield one


def run(root: Path, *args: str, **environment: str) -> Any:
    with command(root, *args, **environment) as one:
        return one.said()


ERASE = ("decide", "erase", "trades", "symbol=NVDA", "--why", "request 104", "--who", "ada")
EFFECTS = [one for one in crash.EFFECTS if one.startswith("erase.")]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("effect", EFFECTS)
def test_wherever_it_is_stopped_it_is_gone_on_with(kept: Kept, effect: str, when: str) -> None:
    root = kept.begin("released")
    said = run(root, *ERASE, ASSAY_CRASH=f"{effect}:{when}")
    assert (said.code, said.err.splitlines()[-1]) == (137, f"stopped at {effect}:{when}"), said.err
    before_ready = effect in ("erase.part", "erase.stage") or (effect, when) == ("erase.ready", "before")
    said = run(root, "status")
    if before_ready:
        assert said.code == 0
        assert run(root, "verify", "counts").code == 0
        said = run(root, *ERASE)
    elif (effect, when) == ("erase.delete", "after") and not (root / "data/dev/erasing/ready.json").exists():
        assert said.code == 0
    else:
        assert said.code == 75
        assert "an erasure of trades has begun here and did not end: `assay decide erase trades --resume`" in said.err
        assert run(root, *ERASE).code == 2
        said = run(root, "decide", "erase", "trades", "--resume")
    assert said.code == 0, said.err
    with lakes.open(root) as lake:
        assert lake.search("NVDA") == []
        found = lake.status()["datasets"]["trades"]
        assert (found["captured"], found["accepted"], found["erased"]) == (10, 8, 2)
        prove.counts(lake)
        prove.bronze_objects(lake)
        prove.silver_objects(lake)
        prove.serving(lake)
        prove.rebuild(lake, ["trades"])
        assert lake.plan() == []
        assert not list((root / "data/dev/erasing").rglob("*.*"))


# ------------------------------------------------------------------ the search finds what there is


def _parquet(path: Path) -> None:
    duckdb.execute(
        f"COPY (SELECT range AS n, CASE range WHEN 5000 THEN '{NAME}' ELSE md5(range::VARCHAR) END AS t FROM range(9000)) TO '{path}' (COMPRESSION zstd)"
    )


def _database(path: Path) -> None:
    with duckdb.connect(str(path)) as con:
        con.execute("CREATE SCHEMA s")
        con.execute(
            f"CREATE TABLE s.t AS SELECT repeat('x ', 100) || CASE range WHEN 5000 THEN '{NAME}' ELSE md5(range::VARCHAR) END AS t FROM range(9000)"
        )


def _sqlite(path: Path) -> None:
    with sqlite3.connect(path) as con:
        con.execute("CREATE TABLE t (a, b)")
        con.execute("INSERT INTO t VALUES (?, ?)", ["x " * 2030 + NAME, NAME.encode()])
    con.close()


KINDS: dict[str, Callable[[Path], object]] = {
    "text.json": lambda path: path.write_text(json.dumps({"a": NAME})),
    "dotnet.json": lambda path: path.write_text(json.dumps(NAME).replace("\\u00eb", "\\u00EB").replace("-", "\\u002D")),
    "nested.json": lambda path: path.write_text(json.dumps({"line": json.dumps({"note": NAME})})),
    "twice.gz": lambda path: path.write_bytes(gzip.compress(gzip.compress(NAME.encode()))),
    "ours.json": lambda path: path.write_text(json.dumps({"a": NAME}, ensure_ascii=False)),
    "lines.ndjson.gz": lambda path: path.write_bytes(gzip.compress(NAME.encode())),
    f"{NAME}.txt": lambda path: path.write_text("nothing"),
    "rows.parquet": _parquet,
    "rows.duckdb": _database,
    "rows.db": _sqlite,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_found_in_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    made = make(tmp_path)
    made.close()
    (tmp_path / "deep/er").mkdir(parents=True)
    assert search.search(made.files, NAME) == []
    KINDS[kind](tmp_path / "deep/er" / kind)
    assert search.search(made.files, NAME) == [f"deep/er/{kind}"]
    for other in (f"{NAME}x", NAME[1:], NAME[:-1]):
        assert search.search(made.files, other) == []


def test_what_cannot_be_looked_into_is_named(tmp_path: Path) -> None:
    made = make(tmp_path)
    made.close()
    (tmp_path / "broken.db").write_bytes(b"SQLite format 3\0" + b"x" * 200)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1" + b"x" * 200)
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    found = search.search(made.files, NAME)
    assert [one.partition(" ")[0] for one in found] == ["broken.db", "broken.parquet"]
    assert all("cannot be looked into" in one for one in found)


def test_the_search_finds_a_value_in_all_that_a_lake_makes_of_it(kept: Kept) -> None:
    root = kept.begin("released")
    with lakes.open(root) as lake:
        found = lake.search("NVDA")
        kinds = Counter(Path(one).suffix for one in found)
        assert kinds == {".gz": 2, ".parquet": 2, ".avro": 2, ".duckdb": 1}
        with pytest.raises(UsageError, match="less than 4 characters"):
            lake.search("abc ")
    said = run(root, "verify", "erased", "NVDA")
    assert (said.code, said.out.splitlines()) == (1, found)
    assert "it stands in 7 files of the lake's data still" in said.err
    assert run(root, "verify", "erased", "NVDA-Q").code == 0


def test_the_command_says_what_it_would_take_and_took(kept: Kept) -> None:
    root = kept.begin("released")
    said = run(root, *ERASE, "--dry-run")
    assert said.out == "would erase trades: 2 keys, 2 lines, 1 kept answer in 1 position of the log\n"
    for wrong in (("trades",), ("trades", "symbol=NVDA"), ("trades", "symbol=NVDA", "--resume", "--why", "x")):
        assert run(root, "decide", "erase", *wrong).code == 2
    assert run(root, "decide", "erase", "trades", "--resume").code == 2
    said = run(root, *ERASE)
    assert said.code == 0, said.err
    assert said.out.splitlines() == ["no file of the lake's data holds it"]
    assert "erased trades: 2 keys, 2 lines, 1 kept answer in 1 position of the log" in said.err
    said = run(root, "explain", "silver.trades", "trade_id=T-0001", "--column", "price")
    assert "184.25" in said.out
    assert run(root, "plan").out.startswith("nothing is missing")
