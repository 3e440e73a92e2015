"""Proves that nothing was lost or altered: counts at every place, every byte against its hash, silver folded again."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from assay.contract.model import Contract
from assay.errors import LakeDamaged
from assay.lake import account, bronze, coverage, duck, evidence, holes, release, silver, tables
from assay.lake.account import Judgement
from assay.lake.duck import ident
from assay.lake.evidence import Evidence, Head, Verdict
from assay.lake.files import scratch_directory
from assay.lake.silver import Pair
from assay.ports import Fact, Ledger, N, Relation
from assay.spoken import TERMS
from assay.targets.sqlite import SqliteLedger

if TYPE_CHECKING:
    from assay.run.lake import Lake

SHOWN = 10
MOVE = "move ledger.db away: it is made anew"


def counts(lake: "Lake") -> dict[str, int]:
    """Count every batch's rows anew in each place; LakeDamaged names batch and place where one disagrees.

    `unjudged` are batches that wait for a refine: they are in bronze alone.

    Places: entry, part, evidence, quarantine, silver, ledger. What else the ledger says of log and evidence is held
    against a new one that is made from them.
    """
    wrong: list[str] = []
    rows = number = unjudged = 0
    for dataset in lake.contracts:
        head, pair = _head(lake, dataset)
        landed: dict[tuple[int, int], int] = {}
        lost = bronze.lost(lake.target.files, lake.target.ledger, dataset)
        for entry, _ in bronze.whole(lake.target.files, dataset):
            try:
                bronze.check(lake.target.files, entry, whole=True, lost=bronze.only_of(entry, lost[0]) | lost[1])
            except LakeDamaged as error:
                wrong.append(str(error))
            landed |= {(entry.position, b.n): b.rows for b in entry.batches}
        number, rows = number + len(landed), rows + sum(landed.values())
        judged = _judged(lake, dataset, head, landed, wrong)
        unjudged += len(landed.keys() - judged.keys())
        if pair is not None:
            wrong += _silver_counts(lake, dataset, pair, judged)
        wrong += _ledger_counts(lake, dataset, head, judged)
        wrong += _ledger_facts(lake, dataset, head)
    if wrong:
        raise LakeDamaged("; ".join(wrong[:SHOWN]) + (f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""))
    return {"batches": number, "captured": rows, "unjudged": unjudged}


def _head(lake: "Lake", dataset: str) -> tuple[Head, Pair | None]:
    """Silver as the catalog has it; LakeDamaged where it is behind the evidence, or lost."""
    t = lake.target
    pair = silver.load(t.catalog, dataset)
    head = silver.head(pair.current) if pair else Head()
    if t.files.exists(evidence.name_of(dataset, head.number + 1)):
        raise LakeDamaged(
            f"silver.{dataset} ends at evidence {head.number}, and there is more: the catalog was lost or is of an older "
            f"copy, or a refine was stopped. `assay refine {dataset}` gives the tables what the evidence says"
        )
    known = account.of(t.ledger, dataset).evidence
    if known > head.number:
        raise LakeDamaged(
            f"the ledger knows evidence {known} of {dataset}, its tables end at {head.number} and there is no more: one of "
            "them is of another copy; restore both from one, or move ledger.db away: it is made anew"
        )
    return head, pair


def _chain(lake: "Lake", dataset: str, head: Head) -> Iterator[Evidence]:
    """The evidence since the log was last folded anew, checked to follow one another up to the head."""
    files = lake.target.files
    if not head.number:
        return
    newest, _ = evidence.read(files, dataset, head.number, head.sha256)
    last = newest.began - 1
    for found, sha256 in evidence.since(files, dataset, newest.began - 1, None):
        if found.number > head.number:
            break
        last = found.number
        if last == head.number and sha256 != head.sha256:
            raise LakeDamaged(f"{evidence.name_of(dataset, last)} is not the evidence that its commit named")
        yield found
    if last != head.number:
        raise LakeDamaged(
            f"{evidence.name_of(dataset, last + 1)} is lost; restore it from a copy, or `assay refine {dataset} --rebuild`"
        )


def _judged(
    lake: "Lake", dataset: str, head: Head, landed: dict[tuple[int, int], int], wrong: list[str]
) -> dict[tuple[int, int], Verdict]:
    """Every verdict that counts, compared with bronze and quarantine."""
    out: dict[tuple[int, int], Verdict] = {}
    for one in _chain(lake, dataset, head):
        rejected: Counter[tuple[int, int]] = Counter()
        try:
            rejected.update((r.place // N, r.place % N) for r in evidence.rejected(lake.target.files, one.quarantine))
        except LakeDamaged as error:
            wrong.append(f"{dataset} quarantine: {error}")
            continue
        for v in one.verdicts:
            place, name = (v.position, v.n), f"batch {v.position}.{v.n}"
            out[place] = v
            terms = sum(getattr(v, term) for term in TERMS)
            if v.state != "void" and terms != v.rows:
                wrong.append(f"{name} evidence: {v.rows} captured is not the sum {terms} of its terms")
            if v.of is None and not v.origin and v.rows != landed.get(place):
                wrong.append(f"{name} evidence: {v.rows} captured, its entry says {landed.get(place)}")
            if rejected[place] != v.quarantined:
                wrong.append(f"{name} quarantine: {rejected[place]} lines, {v.quarantined} were quarantined")
    return out


def _silver_counts(lake: "Lake", dataset: str, pair: Pair, judged: dict[tuple[int, int], Verdict]) -> Iterator[str]:
    rows = " UNION ALL ".join(
        f"SELECT _position, _n FROM ({duck.relation(relation)})" for relation in relations(lake, pair)
    )
    with opened(lake) as con:
        found = con.execute(f"SELECT _position, _n, count(*) FROM ({rows}) GROUP BY ALL").fetchall()
    stored = {(p, n): number for p, n, number in found}
    for place, v in judged.items():
        if stored.get(place, 0) != v.accepted:
            yield f"batch {place[0]}.{place[1]} silver: {stored.get(place, 0)} rows in {dataset}, {v.accepted} were accepted"
    for place in stored.keys() - judged.keys():
        yield f"batch {place[0]}.{place[1]} silver: {stored[place]} rows that no evidence speaks of"


def _ledger_counts(lake: "Lake", dataset: str, head: Head, judged: dict[tuple[int, int], Verdict]) -> Iterator[str]:
    found = account.of(lake.target.ledger, dataset)
    if found.evidence != head.number:
        return  # the next command brings it up
    right, reasons, warnings = account.sums(judged[place] for place in sorted(judged))
    for term in ("rows", *TERMS, "withdrawn", "by_hand"):
        if found.sums.get(term, 0) != right[term]:
            yield f"{dataset} ledger: {found.sums.get(term, 0)} {term}, the evidence says {right[term]}"
    for what, there, told in (("reason", found.reasons, reasons), ("warning", found.warnings, warnings)):
        for name in sorted(there.keys() | told.keys()):
            if there.get(name, 0) != told[name]:
                yield f"{dataset} ledger: {there.get(name, 0)} rows of the {what} {name}, the evidence says {told[name]}"


def _ledger_facts(lake: "Lake", dataset: str, head: Head) -> list[str]:
    """What the ledger says otherwise than log and evidence; what it does not know yet, the next command tells it."""
    files, ledger = lake.target.files, lake.target.ledger
    known = ledger.newest("tail", dataset, "tail")
    tail, evidenced = (known.version if known else 0), account.of(ledger, dataset).evidence
    if known and tail:
        try:
            bronze.read(files, dataset, tail, known.body["sha256"])
        except LakeDamaged as error:
            return [f"{dataset} ledger: {error}"]  # it alone still knows what the log lost
    fixed: list[str] = []
    out: list[str] = []
    with tempfile.TemporaryDirectory() as scratch, closing(SqliteLedger(Path(scratch) / "ledger.db")) as anew:
        whole = bronze.adopt(files, anew, dataset).position == tail
        for kind in ("entry", "contract", "decided"):
            fixed += _other(ledger, anew, kind, dataset, lambda f: int(f.id) <= tail)
        for kind in ("tail", "landed", "shape", "paused") if whole else ():
            out += _other(ledger, anew, kind, dataset, lambda _: True)

        def entries(after: int) -> Iterator[tuple[bronze.Entry, str]]:
            return takewhile(lambda one: one[0].position <= tail, bronze.since(files, dataset, after))

        contract = lake.contracts[dataset]
        kept, right = (coverage.bring(entries, one, contract, keep=False).covers for one in (ledger, anew))
        out += [
            f"{dataset} ledger: its coverage of {shard} is not what the log gives; {MOVE}"
            for shard in sorted(kept.keys() | right.keys())
            if kept.get(shard) != right.get(shard)
        ]
        if evidenced == head.number:
            account.adopt(files, anew, dataset, head)
            began = account.began(anew, dataset)
            out += _other(ledger, anew, "evidence", dataset, lambda f: int(f.id) >= began)
            out += _other(ledger, anew, "held", dataset, lambda f: f.body.get("began") == began)
            out += _other(ledger, anew, "account", dataset, lambda _: True)
            if holes.number(ledger, contract) == head.number:
                from assay.run import sessions

                sessions.bring(lake, contract, anew)
                mine = holes.key(contract)
                for kind in ("days", "holes"):
                    out += _other(ledger, anew, kind, dataset, lambda f: f.id.startswith(mine))
    now = ledger.newest("tail", dataset, "tail")
    moved = (now.version if now else 0, account.of(ledger, dataset).evidence) != (tail, evidenced)
    # Where another process landed or refined meanwhile, the sums were looked at half done.
    return fixed if moved else fixed + out


def _other(ledger: Ledger, anew: Ledger, kind: str, dataset: str, compared: Callable[[Fact], bool]) -> Iterator[str]:
    kept, right = ({f.id: f for f in one.since(kind, dataset) if compared(f)} for one in (ledger, anew))
    for name in sorted(kept.keys() | right.keys()):
        if kept.get(name) != right.get(name):
            yield f"{dataset} ledger: the fact {kind} {name} is not what log and evidence give; {MOVE}"


def relations(lake: "Lake", pair: Pair) -> tuple[Relation, Relation]:
    """Silver's current and past rows, of one commit."""
    current, past = silver.pinned(pair.current)
    files = lake.target.files
    return tables.relation(pair.current, current, files), tables.relation(pair.past, past, files)


@contextmanager
def opened(lake: "Lake") -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of its own, whose errors say who must act."""
    con = duck.open(lake.target.limits)
    try:
        yield con
    except duckdb.Error as error:
        if told := duck.meaning(error, lake.target.limits, "the proof"):
            raise told from error
        raise
    finally:
        con.close()


def bronze_objects(lake: "Lake") -> dict[str, int]:
    """Read every entry and object of bronze; LakeDamaged names the first that is lost, or not what was written."""
    number = objects = 0
    for dataset in lake.contracts:
        files, ledger = lake.target.files, lake.target.ledger
        last = 0
        lost = bronze.lost(files, ledger, dataset)
        for entry, _ in bronze.whole(files, dataset):
            bronze.check(files, entry, whole=True, lost=bronze.only_of(entry, lost[0]) | lost[1])
            if entry.kind == "contract":
                bronze.pinned(files, entry.contract)
            number += len(entry.batches)
            objects += 1 + len(bronze.objects(entry))
            last = entry.position
        tail = ledger.newest("tail", dataset, "tail")
        if tail and tail.version > last:
            raise LakeDamaged(
                f"{bronze.name_of(dataset, tail.version)} is lost: the log of {dataset} ends at {last}; restore it from a copy"
            )
        if tail and tail.version:
            bronze.read(files, dataset, tail.version, tail.body["sha256"])
        head, _ = _head(lake, dataset)
        if head.position > last:
            raise LakeDamaged(
                f"silver.{dataset} holds the log up to {head.position}, it ends at {last}: bronze is of an older copy"
            )
        if head.position:
            bronze.read(files, dataset, head.position, head.position_sha256)
    return {"batches": number, "objects": objects}


def silver_objects(lake: "Lake") -> dict[str, int]:
    """Read every evidence object and every file of silver; LakeDamaged names what is not what was written.

    Iceberg's own lists are held against the evidence: which files there are, their counts and bounds.
    """
    number = objects = 0
    for dataset in lake.contracts:
        head, pair = _head(lake, dataset)
        if pair is None:
            continue
        found = list(_chain(lake, dataset, head))
        objects += len(found)
        for one in found:
            if one.quarantine:
                list(evidence.rejected(lake.target.files, one.quarantine))
                objects += 1
        for past, table in ((False, pair.current), (True, pair.past)):
            there = silver.live(found, past=past)
            for file in there.values():
                silver.check(lake.target.files, file)
            tables.check(table, lake.target.files, list(there.values()))
            objects += len(there)
        number += 1
    return {"datasets": number, "objects": objects}


def serving(lake: "Lake") -> dict[str, int]:
    """Read every file that serves the current release, and gold's parquet; LakeDamaged names what is not as written.

    `release` is 0 before the first.
    """
    files = lake.target.files
    number = release.newest(files)
    if not number:
        return {"release": 0, "files": 0}
    found = release.read(files, number)
    if number > 1 and found.parent_sha256 and files.exists(release.name_of(number - 1)):
        before = release.stored(files, number - 1)[1]
        if before != found.parent_sha256:
            raise LakeDamaged(f"{release.name_of(number - 1)} is not the release that the one after it names")
    lost = [what for name, sha256 in found.objects.items() if (what := release.wrong(files, name, sha256))]
    lost += [what for g in found.gold for f in g.files if (what := release.wrong(files, f.name, f.sha256))]
    if lost:
        raise LakeDamaged(f"{'; '.join(lost)}; `assay build` makes it anew in the next release")
    return {"release": found.number, "files": len(found.objects)}


def rebuild(lake: "Lake", datasets: Sequence[str]) -> dict[str, int]:
    """Fold the log again from nothing, and compare all rows, current and past; how many there are.

    LakeDamaged names key and column of what differs: an altered cell, a missing or extra row, a changed clock.
    """
    from assay.refine import anew

    t = lake.target
    out = {}
    for dataset in datasets:
        head, pair = _head(lake, dataset)
        if pair is None or not head.position:
            continue
        with scratch_directory(t.files) as scratch:
            draft = anew(
                dataset,
                pair,
                head.position,
                scratch,
                files=t.files,
                catalog=t.catalog,
                ledger=t.ledger,
                engine=t.engine,
            )
            total = 0
            there = relations(lake, pair)
            made = (draft.current([]), draft.past([]))
            with opened(lake) as con:
                for what, is_now, should_be in zip(("current", "past"), there, made, strict=True):
                    total += _compare(con, lake.contract(dataset), what, is_now, should_be)
            out[dataset] = total
    return out


def differs(
    con: duckdb.DuckDBPyConnection, is_now: Relation, should_be: Relation
) -> tuple[list[str], list[tuple[Any, ...]], list[tuple[Any, ...]], int]:
    """The columns, the rows that are there and should not be, those that should be and are not, and how many there are."""
    columns = [name for _, name, _ in is_now.columns]
    names = ", ".join(ident(c) for c in columns)
    con.execute(f"CREATE OR REPLACE TABLE is_now AS SELECT {names} FROM ({duck.relation(is_now)})")
    con.execute(f"CREATE OR REPLACE TABLE should_be AS SELECT {names} FROM ({duck.relation(should_be)})")
    extra, lost = _difference(con, "is_now", "should_be"), _difference(con, "should_be", "is_now")
    [(number,)] = con.execute("SELECT count(*) FROM is_now").fetchall()
    return columns, extra, lost, number


def _compare(
    con: duckdb.DuckDBPyConnection, contract: Contract, what: str, is_now: Relation, should_be: Relation
) -> int:
    dataset, key = contract.dataset, contract.key
    columns, extra, lost, number = differs(con, is_now, should_be)
    if not extra and not lost:
        return number
    at = [columns.index(k) for k in key] + [columns.index(c) for c in ("_position", "_n", "_seq")]
    wrong = []
    by_place = {tuple(row[i] for i in at): row for row in extra}
    for row in lost:
        spoken = ", ".join(f"{k}={row[columns.index(k)]}" for k in key)
        other = by_place.pop(tuple(row[i] for i in at), None)
        if other is None:
            wrong.append(f"{dataset} {spoken}: a {what} row is missing")
        else:
            named = [f"{c} is {a}, bronze gives {b}" for c, a, b in zip(columns, other, row, strict=True) if a != b]
            wrong.append(f"{dataset} {spoken}: {', '.join(named)}")
    for row in by_place.values():
        spoken = ", ".join(f"{k}={row[columns.index(k)]}" for k in key)
        wrong.append(f"{dataset} {spoken}: a {what} row that bronze does not give")
    more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    raise LakeDamaged("; ".join(wrong[:SHOWN]) + more)


def _difference(con: duckdb.DuckDBPyConnection, left: str, right: str) -> list[tuple[Any, ...]]:
    return con.execute(f"SELECT * FROM (SELECT * FROM {left} EXCEPT ALL SELECT * FROM {right}) ORDER BY ALL").fetchall()


# ------------------------------------------------------------------ what is in quarantine


def quarantined(lake: "Lake", dataset: str) -> list[tuple[tuple[int, int], str]]:
    """The passed batches with rows in quarantine: position and n, and the contract that judged them last."""
    last, contracts = _judgements(lake, dataset)
    return [(divmod(place, N), contracts[one.judged_by]) for place, one in sorted(last.items()) if one.quarantined]


def judges(lake: "Lake", dataset: str) -> dict[int, tuple[str, int]]:
    """The contract that judged last what lies in quarantine, or is held, and its batch; by the place at which it is listed."""
    last, contracts = _judgements(lake, dataset)
    return {
        place if one.state == "held" else one.judged_at: (contracts[one.judged_by], place)
        for place, one in last.items()
    }


def _judgements(lake: "Lake", dataset: str) -> tuple[dict[int, Judgement], dict[int, str]]:
    """The last judgement of each batch by place, and the contracts by position."""
    last: dict[int, Judgement] = {}
    contracts: dict[int, str] = {}
    for one in _chain(lake, dataset, _head(lake, dataset)[0]):
        account.judge(last, one.verdicts, [p for p, _ in one.contracts])
        contracts |= dict(one.contracts)
    return last, contracts


def rejected(lake: "Lake", dataset: str) -> Iterator[dict[str, Any]]:
    """Rejected rows, of passed batches from quarantine, of held ones read from bronze again; nothing is written."""
    t = lake.target
    open_now = account.of(t.ledger, dataset).open
    last, contracts = _judgements(lake, dataset)
    counted = {one.judged_at for one in last.values() if one.quarantined}
    for one in _chain(lake, dataset, _head(lake, dataset)[0]):
        for r in evidence.rejected(t.files, one.quarantine):
            if r.place in counted:
                yield _told(dataset, r.place, r.seq, r.reasons, r.line, held=False)
    for place in (held.place for held in open_now):
        if place not in last or last[place].state != "held":
            continue  # a refine let it in, or began anew, since the account was read
        entry = bronze.read(t.files, dataset, place // N)
        lines = bronze.parts(t.files, entry, {place % N: place})
        with t.engine.group(bronze.pinned(t.files, contracts[last[place].judged_by]), lines) as group:
            group.judged()
            for r in group.rejected([place]):
                yield _told(dataset, r.place, r.seq, r.reasons, r.line, held=True)


def _told(dataset: str, place: int, seq: int, reasons: Sequence[str], line: bytes, *, held: bool) -> dict[str, Any]:
    return {
        "dataset": dataset, "batch": account.spoken(place), "held": held, "seq": seq, "reasons": list(reasons),
        "line": line.decode("utf-8", "backslashreplace"),
    }  # fmt: skip
