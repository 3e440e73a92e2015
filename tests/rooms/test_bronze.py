"""Bronze: how a landing becomes lines, parts and an entry, and what else can be put into the log."""

import gzip
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay import clock
from assay.contract import odcs
from assay.errors import ContractError, LakeDamaged, SourceSuspect, UsageError
from assay.lake import bronze, landing
from assay.lake.bronze import NONE, Asked, Decision, Entry
from assay.targets.local import DiskFiles
from tests.every.ledgers import PlainLedger, Table
from tests.laws.test_log import CONTRACT, DATASET, a_log, days, land, left_over, page, whole_log
from tests.laws.test_log import landing as a_landing

FORMATS = Path(__file__).resolve().parents[2] / "docs/formats.md"


@pytest.fixture
def files(tmp_path: Path) -> DiskFiles:
    return DiskFiles(tmp_path)


@pytest.fixture
def ledger() -> PlainLedger:
    return PlainLedger(Table())


def asked(rows: int, **more: object) -> Asked:
    return Asked({}, clock.now(), 1, "0" * 64, rows, **more)


def examples(heading: str) -> list[str]:
    """The JSON blocks below a heading of docs/formats.md."""
    text = FORMATS.read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```json\n(.*?)```", text, re.DOTALL)


def test_the_golden_entries_are_read_and_would_be_written_so() -> None:
    entries = [one for one in examples("Bronze") if '"landing"' in one]
    kinds = set()
    for text in entries:
        entry = bronze.decode(gzip.compress(text.encode()))
        kinds.add(entry.kind)
        acts = {d.kind for d in entry.decisions}
        erased = any(b.erased.rows for b in entry.batches) or acts & {"erase", "erased"}
        assert entry.format == (3 if erased else 2 if acts & {"pause", "retire", "resume"} else 1)
        assert json.loads(gzip.decompress(bronze.encode(entry))) == json.loads(text)
    assert kinds == {"landed", "contract", "decided", "swept"}


def test_the_golden_line_is_what_a_landing_writes() -> None:
    [text] = [one for one in examples("Bronze") if '"_seq"' in one and '"landing"' not in one]
    first = text.splitlines()[0].encode()
    record = first[first.index(b'"_record":') + 10 : -1]
    assert landing.enveloped([record], 17, 0) == first + b"\n"


def test_every_stored_entry_says_its_format(files: DiskFiles, ledger: PlainLedger) -> None:
    a_log(files, ledger, 3)
    for position in (1, 2, 3):
        stored = json.loads(gzip.decompress(files.read(bronze.name_of(DATASET, position))))
        assert stored["format"] == 1


def test_what_a_newer_assay_wrote_is_named_whatever_it_looks_like() -> None:
    for text in (b'{"format":4,"kind":"moved"}', b'{"format":4}'):
        with pytest.raises(LakeDamaged, match=r"x was written by a newer assay \(format 4, this one reads 3\)"):
            bronze.decode(gzip.compress(text), "x")
    text = msgspec.json.encode(msgspec.structs.replace(bronze.draft("swept"), format=4))
    with pytest.raises(LakeDamaged, match="newer assay"):
        bronze.decode(gzip.compress(text), "x")


@pytest.mark.parametrize(
    "data", [b"", b"x", gzip.compress(b"{}", mtime=0), gzip.compress(b"[1", mtime=0), gzip.compress(b"\xff", mtime=0)]
)
def test_what_is_no_entry_is_named(data: bytes) -> None:
    with pytest.raises(LakeDamaged, match="x "):
        bronze.decode(data, "x")


def test_an_entry_that_lies_at_anothers_place_is_named(files: DiskFiles, ledger: PlainLedger) -> None:
    a_log(files, ledger, 2)
    path = files.root / bronze.name_of(DATASET, 3)
    path.write_bytes(files.read(bronze.name_of(DATASET, 2)))
    with pytest.raises(LakeDamaged, match=r"000000003.json.gz holds entry 2 of things"):
        list(bronze.since(files, DATASET, 2))
    path.rename(path.with_name("3.json.gz"))
    with pytest.raises(LakeDamaged, match=r"log/3.json.gz is the name of no entry"):
        list(bronze.whole(files, DATASET))


def test_an_empty_log_has_no_tail(files: DiskFiles, ledger: PlainLedger) -> None:
    assert bronze.adopt(files, ledger, DATASET) == NONE
    assert list(bronze.since(files, DATASET, 0)) == []
    assert list(files.names("")) == []


def test_records_stay_token_for_token_in_an_envelope(files: DiskFiles, ledger: PlainLedger) -> None:
    records = [b'{"a":1.50,"a":1e400}', b"null", '{"é":"\\u00e9\\ud83d"}'.encode(), b'"\xff"']
    with a_landing(files, ledger, NONE) as into:
        with into.ask("A", days(0, 1)) as ask:
            page(ask, records[:1])
            page(ask, [])
            page(ask, records[1:])
        entry, _ = into.commit()
    [batch] = entry.batches
    found = list(bronze.lines(files, entry, batch.n))
    assert found == [b'{"_seq":%d,"_n":0,"_record":%s}' % one for one in enumerate(records)]
    part, number, line = bronze.line(files, entry, 0, 2)
    assert (part, number, line) == (entry.parts[0], 3, found[2])
    assert gzip.decompress(files.read(part.name)).split(b"\n")[number - 1] == line
    assert [one.rows for one in batch.requests] == [1, 0, 3]
    with pytest.raises(LakeDamaged, match="has no line 4 in batch 0"):
        bronze.line(files, entry, 0, 4)
    with pytest.raises(LakeDamaged, match="has no batch 1"):
        list(bronze.lines(files, entry, 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5000), min_size=1, max_size=40), st.integers(1, 3000))
def test_runs_of_records_are_all_of_them_and_fit(sizes: list[int], most: int) -> None:
    records = [b"x" * size for size in sizes]
    runs = list(landing._fitting(records, most))
    assert [one for run in runs for one in run] == records
    assert all(len(run) == 1 or sum(map(len, run)) + landing.ENVELOPE * len(run) <= most for run in runs)


def test_small_asks_share_a_part_and_a_large_one_has_its_own_of_at_most_64_mb(
    files: DiskFiles, ledger: PlainLedger
) -> None:
    text = b'"' + b"x" * 500_000 + b'"'
    with a_landing(files, ledger, NONE) as into:
        for n, pages in enumerate([[3], [20, 140, 3], [5], [0], [9]]):
            with into.ask(f"S{n}", days(0, 1)) as ask:
                for rows in pages:
                    page(ask, [text] * rows if n == 1 else [b"%d" % n] * rows)
        assert into.bytes > 77 * 2**20
        entry, _ = into.commit()
    assert [(part.rows, part.bytes <= 64 * 2**20) for part in entry.parts] == [(17, True), (132, True), (31, True)]
    assert [batch.pieces for batch in entry.batches] == [
        ((0, 0, 3),), ((1, 0, 132), (2, 0, 31)), ((0, 3, 5),), (), ((0, 8, 9),),
    ]  # fmt: skip
    found = bronze.lines_of(files, entry, [(1, 0), (1, 131), (1, 132), (1, 162), (4, 8)])
    at = [(entry.parts.index(part), number) for part, number, _ in found.values()]
    assert sorted(at) == [(0, 17), (1, 1), (1, 132), (2, 1), (2, 31)]
    bronze.check(files, entry, whole=True)
    assert not left_over(files.root / "_tmp")


class Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [Stop, SourceSuspect])
@pytest.mark.parametrize("rows", [3, 12])
def test_an_ask_that_fails_leaves_nothing(
    files: DiskFiles, ledger: PlainLedger, rows: int, error: type[BaseException]
) -> None:
    with a_landing(files, ledger, NONE) as into:
        with pytest.raises(error), into.ask("A", days(0, 1)) as ask:  # noqa: PT012 - the block is what is tested
            page(ask, [b'"%s"' % (b"x" * 10**6)] * rows, raw=b"as it came", kind="csv")
            assert left_over(files.root / "_tmp")
            raise error
        assert not left_over(files.root / "_tmp")
        assert into.bytes == 0
        assert into.commit() is None
    assert list(files.names("")) == []


def test_a_landing_that_is_not_committed_leaves_nothing(files: DiskFiles, ledger: PlainLedger) -> None:
    with a_landing(files, ledger, NONE) as into:
        for rows in (1, 12):
            with into.ask("A", days(0, 1)) as ask:
                page(ask, [b'"%s"' % (b"x" * 10**6)] * rows, raw=iter([b"a", b"b"]), kind="csv")
    assert not left_over(files.root)


@pytest.mark.parametrize("record", [b'{"a":"\n"}', b"1\r"])
def test_a_raw_line_break_is_suspect(files: DiskFiles, ledger: PlainLedger, record: bytes) -> None:
    with a_landing(files, ledger, NONE) as into:
        with (
            pytest.raises(SourceSuspect, match="things 'A': a record holds a raw line break"),
            into.ask("A", None) as ask,
        ):
            page(ask, [record])
        with pytest.raises(SourceSuspect, match="gave no answer at all"), into.ask("A", None):
            pass
        with pytest.raises(SourceSuspect, match="says 2 records of an answer, and gave 1"), into.ask("A", None) as ask:
            ask.page(asked(2), [b"1"])
        assert into.commit() is None


def test_answers_that_were_no_json_are_kept_as_they_came(files: DiskFiles, ledger: PlainLedger) -> None:
    with a_landing(files, ledger, NONE) as into:
        with into.ask("A", days(0, 1)) as ask:
            page(ask, [b"1"], raw=b"a,b", kind="csv")
            page(ask, [b"2"], raw=iter([b"<a>", b"</a>"]), kind="xml")
            page(ask, [b"3"])
        entry, _ = into.commit()
    first, second, third = (one.raw for one in entry.batches[0].requests)
    assert (bronze.inflated(files, first), bronze.inflated(files, second), third) == (b"a,b", b"<a></a>", None)
    assert first.name.endswith(f"-raw-0-{first.sha256[:16]}.csv.gz")
    assert (second.bytes, second.stored) == (7, len(files.read(second.name)))
    assert {one.name for one in bronze.objects(entry)} == {n for n in files.names("") if "/dt=" in n}


def test_addresses_are_said_once(files: DiskFiles, ledger: PlainLedger) -> None:
    with a_landing(files, ledger, NONE) as into:
        with into.ask("A", days(0, 1)) as ask:
            for url in ("https://a/x", "https://a/x", "https://a/y"):
                ask.page(asked(0, url=url), [])
        entry, _ = into.commit()
    assert (entry.url, [one.url for one in entry.batches[0].requests]) == ("https://a/x", [None, None, "https://a/y"])


def test_counts_that_do_not_add_up_are_named(files: DiskFiles, ledger: PlainLedger) -> None:
    entry = land(files, ledger, ("A", 0, 1), ("B", 0, 1))
    change = msgspec.structs.replace
    [a, b] = entry.batches
    [part] = entry.parts
    for wrong in (
        change(entry, batches=(a,)),
        change(entry, batches=(a, change(b, n=a.n))),
        change(entry, batches=(change(a, rows=4), b)),
        change(entry, batches=(a, change(b, pieces=a.pieces))),
        change(entry, batches=(a, change(b, pieces=((0, 4, 3),)))),
        change(entry, batches=(a, change(b, pieces=((1, 3, 3),)))),
        change(entry, parts=(change(part, rows=7),)),
        change(entry, dropped=((9, 1),)),
    ):
        with pytest.raises(LakeDamaged, match=r"things/log/000000001.json.gz: "):
            bronze.check(files, wrong)
    with pytest.raises(LakeDamaged, match="holds other counts"):
        bronze.check(files, change(entry, parts=(change(part, bytes=1),)), whole=True)
    with pytest.raises(LakeDamaged, match=r"ndjson.gz:1 is not line 0 of batch 1"):
        bronze.check(files, change(entry, batches=(change(a, n=1), change(b, n=0))), whole=True)
    bronze.check(files, entry, whole=True)
    (files.root / part.name).unlink()
    with pytest.raises(LakeDamaged, match=part.name):
        bronze.check(files, entry)
    bronze.check(files, entry, whole=True, lost=[part.name])


def contract(version: str = "1.0.0", **changes: str):
    text = CONTRACT.replace("version: 1.0.0", f"version: {version}")
    for old, new in changes.items():
        text = text.replace(old, new)
    return odcs.parse(text)


def entries(files: DiskFiles) -> list[Entry]:
    return [entry for entry, _ in bronze.since(files, DATASET, 0)]


def test_a_contract_is_put_once_and_says_when_everything_is_folded_anew(files: DiskFiles, ledger: PlainLedger) -> None:
    first, titled, typed = contract(), contract("1.0.1"), contract("2.0.0", integer="string", string="integer")
    for one in (first, first, titled, typed, typed):
        tail = bronze.put_contract(files, ledger, one, run="r")
    bronze.put_contract(files, ledger, typed, everything=True)
    said = [(e.contract, e.everything, e.replaces) for e in entries(files)]
    assert said == [
        (first.sha256, False, None),
        (titled.sha256, False, first.sha256),
        (typed.sha256, True, titled.sha256),
        (typed.sha256, True, typed.sha256),
    ]
    assert tail.contract == 3
    assert [fact.body["sha256"] for fact in ledger.since("contract", DATASET)] == [sha256 for sha256, _, _ in said]
    assert bronze.pinned(files, typed.sha256).refine_fingerprint == typed.refine_fingerprint


class Late(PlainLedger):
    """Its queries have not heard of the newest fact yet."""

    def since(self, kind, dataset, after=""):
        return iter(list(super().since(kind, dataset, after))[:-1])


@pytest.mark.parametrize("kind", [PlainLedger, Late])
def test_a_checkout_that_holds_a_replaced_contract_is_refused(files: DiskFiles, kind: type[PlainLedger]) -> None:
    ledger = kind(Table())
    first, second = contract(), contract("1.0.1")
    bronze.put_contract(files, ledger, first)
    land(files, ledger, ("A", 0, 1))
    bronze.put_contract(files, ledger, second)
    bronze.put_contract(files, ledger, second)
    with pytest.raises(
        ContractError, match=r"replaced at position 3 of things; take the newer contract, or say it anew"
    ):
        bronze.put_contract(files, ledger, first)
    assert len(entries(files)) == 3
    bronze.put_contract(files, ledger, contract("1.0.2"))


def test_of_two_that_put_a_contract_at_once_the_second_puts_nothing(files: DiskFiles) -> None:
    other = PlainLedger(Table())
    one = contract()

    class Slow(PlainLedger):
        """Between its look at the log and its put another process puts the same contract."""

        def since(self, kind, dataset, after=""):
            found = list(super().since(kind, dataset, after))
            bronze.put_contract(files, other, one)
            return iter(found)

    assert bronze.put_contract(files, Slow(Table()), one) is not None
    assert [(e.position, e.contract) for e in entries(files)] == [(1, one.sha256)]


def test_an_altered_contract_is_named(files: DiskFiles, ledger: PlainLedger) -> None:
    sha256 = bronze.pin(files, contract())
    assert bronze.pin(files, contract()) == sha256
    (files.root / f"contracts/{sha256}.yaml").chmod(0o600)
    (files.root / f"contracts/{sha256}.yaml").write_text("x")
    with pytest.raises(LakeDamaged, match=f"{sha256}.yaml was altered"):
        bronze.pinned(files, sha256)


def test_decisions_are_entries(files: DiskFiles, ledger: PlainLedger) -> None:
    a_log(files, ledger, 3)
    acts = [
        Decision("exclude", (2, 0)), Decision("upsert", record='{"symbol":"A","date":"2024-01-01"}', seen=3),
        Decision("lost", object="bronze/things/x"), Decision("lost", (3, 0)),
    ]  # fmt: skip
    tail = bronze.decide(files, ledger, DATASET, acts, "ada", "a typo")
    entry = bronze.read(files, DATASET, tail.position, tail.sha256)
    assert (entry.position, entry.kind, entry.who, entry.why, list(entry.decisions)) == (
        4,
        "decided",
        "ada",
        "a typo",
        acts,
    )
    whole_log(files, ledger)


@pytest.mark.parametrize(
    ("act", "why", "match"),
    [
        (Decision("exclude", (2, 1)), "x", r"act 1: things has no batch 2.1"),
        (Decision("exclude", (9, 0)), "x", r"has no batch 9.0"),
        (Decision("release"), "x", "release names one batch, and nothing else"),
        (Decision("release", (2, 0), object="x"), "x", "names one batch, and nothing else"),
        (Decision("lost"), "x", "lost names one batch or object"),
        (Decision("pause", (2, 0)), "x", "act 1: pause names nothing"),
        (Decision("resume", record="{}"), "x", "resume names nothing"),
        (Decision("erase", (2, 0)), "x", "erase cannot be decided"),
        (Decision("upsert", record="[1]"), "x", "no JSON object"),
        (Decision("upsert", record='{"a":'), "x", "no JSON object"),
        (Decision("upsert", record='{"a":\n1}'), "x", "on one line"),
        (Decision("delete", record='{"a":1}', seen=4), "x", "cannot have seen position 4, the log ends at 3"),
        (Decision("exclude", (2, 0)), " ", "says who decided, why"),
        (Decision("exclude", (2, 0)), "\udcff", "texts in UTF-8"),
        (Decision("exclude", (2, 0)), "x" * 10_000, "of 10,000 characters together at most"),
    ],
)
def test_a_decision_that_means_nothing_is_refused(
    files: DiskFiles, ledger: PlainLedger, act: Decision, why: str, match: str
) -> None:
    a_log(files, ledger, 3)
    with pytest.raises(UsageError, match=match):
        bronze.decide(files, ledger, DATASET, [act], "ada", why)
    assert len(entries(files)) == 3


def test_a_decision_that_does_not_fit_one_entry_is_refused(files: DiskFiles, ledger: PlainLedger) -> None:
    act = Decision("upsert", record=json.dumps({"a": "x" * 2**20}))
    with pytest.raises(UsageError, match="say it in several"):
        bronze.decide(files, ledger, DATASET, [act] * 65, "ada", "why")


@pytest.mark.parametrize("names", [[], ["bronze/other/dt=2024-01-01/x"], ["bronze/things/log/000000001.json.gz"]])
def test_only_parts_can_be_swept(files: DiskFiles, ledger: PlainLedger, names: list[str]) -> None:
    with pytest.raises(UsageError, match="can be swept"):
        bronze.sweep(files, ledger, DATASET, names)


def test_facts_of_an_entry_are_enough_to_plan(files: DiskFiles, ledger: PlainLedger) -> None:
    entry = land(files, ledger, ("A", 0, 1), ("B", 0, 1))
    fact = ledger.newest("entry", DATASET, "000000001")
    assert fact.at == entry.captured_at
    assert fact.body == {
        "sha256": bronze.adopt(files, ledger, DATASET).sha256, "kind": "landed", "captured_at": entry.captured_at.isoformat(),
        "run": "run", "origin": "synthetic", "batches": 2, "rows": 6, "bytes": entry.parts[0].bytes, "calls": 2, "contract": "k",
    }  # fmt: skip
    tail = ledger.newest("tail", DATASET, "tail")
    assert (tail.version, tail.body["position"]) == (1, 1)
    assert datetime.fromisoformat(tail.body["captured_at"]).astimezone(UTC) == entry.captured_at
