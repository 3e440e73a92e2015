"""Drift: what the records of each landing look like, and where that is no longer what they looked like before."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from assay.contract.model import Column, Contract
from assay.ports import Ledger
from assay.spoken import printable, some

Path = tuple[str, ...]
PAIRS = 400
"""How many fields and kinds are told apart, at most, so that a ledger's fact holds them."""
NAME, EXAMPLE = 64, 60  # bytes
FIRST, EVERY = 16, 64
"""Of an answer's records, so many are looked at from its beginning, and then one in so many."""
MANY = 100
"""How many records it takes before it says something that a field which some lack is in none, or the other way round."""

LISTED, LISTED_NOT = re.compile(r"\bIN \(", re.IGNORECASE), re.compile(r"\bNOT\b", re.IGNORECASE)
_KINDS = {
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    dict: "object",
    list: "array",
    type(None): "null",
}
_BEGINS: Mapping[str, Any] = {'"': "", "[": [], "t": True, "f": False, "n": None}
_values = msgspec.json.Decoder(list[dict[str, Any]])
_raw = msgspec.json.Decoder(dict[str, msgspec.Raw])
_UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


class Seen(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """In how many records a field held a value of one JSON kind; `example` is the first of them, cut."""

    field: str
    kind: str
    rows: int
    example: str


class Shape(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What the records of a landing look like: of `rows` that were looked at, their fields; `cut` where not all are told."""

    rows: int
    fields: tuple[Seen, ...]
    cut: bool = False


def sampled(records: Sequence[bytes]) -> Sequence[bytes]:
    """The records of an answer that are looked at."""
    return [*records[:FIRST], *records[FIRST::EVERY]]


class Look:
    """The shape of records in the making; `reads` are the paths that columns read, which are counted before all others."""

    def __init__(self, reads: Collection[Path] = ()) -> None:
        self._reads = {path[:n] for path in reads for n in range(1, len(path) + 1)}
        self._inside = {path[:n] for path in reads for n in range(1, len(path))}
        self._seen: dict[tuple[Path, str], tuple[int, str]] = {}
        self._rows = 0
        self._cut = False

    def add(self, records: Sequence[bytes]) -> None:
        """Count records, perhaps of many answers; what is no JSON object is left to the refinement."""
        texts, values = _decoded(records)
        self._rows += len(values)
        self._count((), texts, values)

    def join(self, other: "Look") -> None:
        """Count what another has counted, after one's own."""
        self._rows += other._rows  # noqa: SLF001 - its own kind
        self._cut |= other._cut  # noqa: SLF001
        for (path, kind), (rows, example) in other._seen.items():  # noqa: SLF001
            if self._takes(path, kind):
                had = self._seen.get((path, kind), (0, example))
                self._seen[path, kind] = had[0] + rows, had[1]

    def shape(self) -> Shape | None:
        """What was counted; none if no record was looked at."""
        if not self._rows:
            return None
        order = sorted(self._seen.items(), key=lambda one: one[0][0] not in self._reads)  # stable
        told = [Seen(spelt(path), kind, *of) for (path, kind), of in order[:PAIRS]]
        return Shape(self._rows, tuple(told), self._cut or len(order) > PAIRS)

    def _takes(self, path: Path, kind: str) -> bool:
        """Whether a field is counted: what columns read, and of the others as many as are told."""
        if (path, kind) in self._seen or path in self._reads:
            return True
        if len(self._seen) < PAIRS and len(path[-1].encode(errors="replace")) <= NAME:
            return True
        self._cut = True
        return False

    def _count(self, above: Path, texts: Sequence[bytes], values: Sequence[Mapping[str, Any]]) -> None:
        alike = Counter((*one, *map(type, one.values())) for one in values)
        counts: Counter[tuple[Any, Any]] = Counter()
        for one, rows in alike.items():
            half = len(one) // 2
            counts.update(dict.fromkeys(zip(one[:half], one[half:], strict=True), rows))
        for (name, of), rows in counts.items():
            path, kind = (*above, name), _KINDS[of]
            if not self._takes(path, kind):
                continue
            had = self._seen.get((path, kind))
            if had is None:
                first = next(n for n, one in enumerate(values) if name in one and type(one[name]) is of)
                had = 0, _cut(_tokens(texts[first])[name])
            self._seen[path, kind] = had[0] + rows, had[1]
            if of is dict and path in self._inside:
                inner = [n for n, one in enumerate(values) if type(one.get(name)) is dict]
                self._count(path, [bytes(_tokens(texts[n])[name]) for n in inner], [values[n][name] for n in inner])


def _decoded(records: Sequence[bytes]) -> tuple[Sequence[bytes], Sequence[Mapping[str, Any]]]:
    """The records that are objects, as texts and as values."""
    try:
        return records, _values.decode(b"[%b]" % b",".join(records))
    except _UNREADABLE:  # one that is no object, or a number that Python does not take: one by one
        texts, values = [], []
        for one in records:
            with suppress(*_UNREADABLE):
                value = _plain(one)
                if isinstance(value, dict):
                    texts.append(one)
                    values.append(value)
        return texts, values


def _plain(token: bytes) -> Any:
    """Something of the kind that a token is; of an object with its fields."""
    if token[:1] == b"{":
        return {name: _plain(bytes(one)) for name, one in _tokens(token).items()}
    return _BEGINS.get(token[:1].decode(), 0)


@lru_cache(maxsize=1)
def _tokens(record: bytes) -> Mapping[str, msgspec.Raw]:
    return _raw.decode(record)


def _cut(token: msgspec.Raw) -> str:
    return bytes(token)[:EXAMPLE].decode(errors="ignore")


def spelt(path: Path) -> str:
    r"""A path as contracts write it, cut.

    >>> spelt(("price", "Avg. close"))
    'price.Avg\\. close'
    """
    text = ".".join(name.replace("\\", "\\\\").replace(".", "\\.") for name in path)
    return text.encode(errors="replace")[:NAME].decode(errors="ignore")


# ------------------------------------------------------------------ what was seen so far


def fold(before: Mapping[str, Any] | None, shape: Shape, capture: str, position: int, at: str) -> dict[str, Any]:
    """What is known of a dataset's records after one more landing: a function of the log alone, kept as a fact.

    Where the source is asked otherwise than before (`capture`), it begins anew. Of each field: `kinds`, each with the
    landing that had it first and the records so far; `rows`, the records that had it; and `lacks`, since when records
    lack it though none did before, or though some had it in each landing of so many records.
    """
    if before is None or before["capture"] != capture:
        before = {"capture": capture, "first": position, "at": at, "rows": 0, "cut": False, "fields": {}}
    fields = {name: {**one, "kinds": dict(one["kinds"])} for name, one in before["fields"].items()}
    pairs = sum(len(one["kinds"]) for one in fields.values())
    had: Counter[str] = Counter()
    cut = bool(before["cut"] or shape.cut)
    for seen in shape.fields:
        if seen.field not in fields or seen.kind not in fields[seen.field]["kinds"]:
            if pairs >= PAIRS:
                cut = True
                continue
            pairs += 1
        one = fields.setdefault(seen.field, {"rows": 0, "always": before["rows"] == 0, "kinds": {}, "lacks": None})
        known = one["kinds"].get(seen.kind) or {"since": position, "at": at, "rows": 0, "example": seen.example}
        one["kinds"][seen.kind] = {**known, "rows": known["rows"] + seen.rows, "last": position}
        had[seen.field] += seen.rows
    for name, one in fields.items():
        _lacking(one, before["rows"], shape, had[name], position, at)
        one["rows"] += had[name]
    return {**before, "rows": before["rows"] + shape.rows, "cut": cut, "fields": fields, "last": position}


def _lacking(one: dict[str, Any], before: int, shape: Shape, had: int, position: int, at: str) -> None:
    """Bring up to a landing since when records lack a field; a few that lack it for the first time make it an optional one."""
    lacks = max(0, shape.rows - had)
    if not before:
        one["always"] = not lacks
        return
    if not had and shape.cut:
        return  # it may be one of those that are not told
    partly = lacks and one["always"] and before >= MANY
    wholly = not had and (one["always"] or one["lacks"] or shape.rows >= MANY)
    if partly or wholly:
        since = one["lacks"] or {"since": position, "at": at, "rows": 0}
        one["lacks"] = {**since, "rows": since["rows"] + lacks, "last": position}
    else:
        one["always"] = one["always"] and not lacks
        one["lacks"] = None


# ------------------------------------------------------------------ what is told


@dataclass(frozen=True)
class Drift:
    """One difference between what records look like and what they looked like, or what the contract reads.

    Attributes:
        what: unknown (a new field that no column reads), kind (a field has values of another JSON kind), vanished
            (records lack a field that they had, or that a column reads), or value (one that a rule's list lacks).
        since, at, last: position and time of the landing that had it first, and the position of the last; 0 if unknown.
        rows: how many of the records that were looked at.
        example: the beginning of the first such value's token.
    """

    what: str
    field: str
    said: str
    rows: int
    since: int = 0
    at: str = ""
    last: int = 0
    example: str = ""

    @property
    def told(self) -> str:
        """It in a line, safe to print."""
        since = (
            f"; since {self.at[:10]} (entry {self.since}), in {some(self.rows, 'record')} looked at"
            if self.since
            else ""
        )
        return printable(f"drift: {self.said}{since}{', such as ' + self.example if self.example else ''}")


def of(ledger: Ledger, contract: Contract, refused: Mapping[str, int]) -> list[Drift]:
    """What a dataset's records have of drift today; of what began before the contract in force, only what is lacking still.

    `refused` are the rows that each rule refuses, for the values that a rule's list lacks.
    """
    fact = ledger.newest("shape", contract.dataset, "now")
    if fact is None:
        return list(_values_of(contract, refused))
    force = ledger.newest("contract", contract.dataset)
    after = max(int(force.id) if force else 0, fact.body["first"])
    columns = [column for column in contract.columns if column.origins]
    paths = [path for column in columns for path in column.origins]
    reads = {spelt(path[:n]) for path in paths for n in range(1, len(path) + 1)}
    whole = tuple(f"{spelt(path)}." for path in paths)
    out: list[Drift] = []
    for name, one in fact.body["fields"].items():
        read = name in reads or name.startswith(whole)
        out += _kinds(name, one, after, new=not read and not fact.body["cut"] and _first(one) > fact.body["first"])
        if one["lacks"] and not read:
            out.append(_vanished(name, f"records lack the field {name}, which no column reads", one["lacks"]))
    for column in columns:
        out += _unread(column, fact.body)
    return [*out, *_values_of(contract, refused)]


def _values_of(contract: Contract, refused: Mapping[str, int]) -> Iterator[Drift]:
    """The rules that list what a column may say and that refused something else."""
    for rule in contract.rules:
        rows = refused.get(rule.name, 0)
        if rows and LISTED.search(rule.expression) and not LISTED_NOT.search(rule.expression):
            yield Drift(
                "value", rule.name, f"{some(rows, 'row')} with a value that rule {rule.name} does not list", rows
            )


def _first(one: Mapping[str, Any]) -> int:
    return min(int(kind["since"]) for kind in one["kinds"].values())


def _kinds(name: str, one: Mapping[str, Any], after: int, *, new: bool) -> Iterator[Drift]:
    """The kinds of a field that came after its first ones; of a field that is itself new, the first."""
    kinds = {kind: seen for kind, seen in one["kinds"].items() if kind != "null"}
    begun = min((seen["since"] for seen in kinds.values()), default=0)
    before = " or ".join(kind for kind, seen in kinds.items() if seen["since"] == begun)
    if new:
        first = min(one["kinds"].values(), key=lambda seen: seen["since"])
        if first["since"] > after:
            said = f"the field {name} is new ({before or 'null'}), and no column reads it"
            yield Drift(
                "unknown",
                name,
                said,
                one["rows"],
                first["since"],
                first["at"],
                max(k["last"] for k in one["kinds"].values()),
                first["example"],
            )
        return
    for kind, seen in kinds.items():
        if seen["since"] > max(begun, after):
            said = f"the field {name} is of kind {kind}, and was {before}"
            yield Drift("kind", name, said, seen["rows"], seen["since"], seen["at"], seen["last"], seen["example"])


def _unread(column: Column, body: Mapping[str, Any]) -> Iterator[Drift]:
    """Whether records lack all that a column is read from."""
    names = [spelt(path) for path in column.origins]
    fields = [body["fields"][name] for name in names if name in body["fields"]]
    said = f"records lack the field {' and '.join(names)}, which the column {column.name} reads"
    if fields and all(one["lacks"] for one in fields):
        yield _vanished(names[0], said, max((one["lacks"] for one in fields), key=lambda lacks: lacks["since"]))
    elif not fields and body["rows"] >= MANY and not body["cut"]:
        lacks = {"since": body["first"], "at": body["at"], "rows": body["rows"], "last": body["last"]}
        yield _vanished(names[0], said, lacks)


def _vanished(name: str, said: str, lacks: Mapping[str, Any]) -> Drift:
    return Drift("vanished", name, said, lacks["rows"], lacks["since"], lacks["at"], lacks["last"])
