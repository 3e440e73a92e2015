"""A log's entries as oracle and planner both take them, the one judge, and histories of any kind."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

Scope = dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Rules:
    """A contract, as far as the fold asks it: rows with v over `limit` are bad, the others are percents."""

    limit: int = 9
    at_most: int = 100
    withdrawn_at_most: int = 100
    withdrawn_min: int = 1


@dataclass(frozen=True)
class Row:
    """`sym` and `day` are the key; without `sym` it cannot be read. `s` is the sequence, where there is one."""

    sym: str | None
    day: int
    v: int
    s: int = 0
    known_at: int | None = None
    note: str | None = None

    @property
    def key(self) -> tuple[str, int]:
        return (self.sym or "", self.day)

    @property
    def hash(self) -> str:
        return f"{self.sym}|{self.day}|{self.v}|{self.s}|{self.note}"


@dataclass(frozen=True)
class Batch:
    """`scope`: complete over it, key column to lowest and highest value, both included."""

    shard: str
    window: tuple[int, int]
    seen: int
    rows: tuple[Row, ...]
    scope: Scope | None = None


@dataclass(frozen=True)
class Landed:
    at: int
    batches: tuple[Batch, ...]


@dataclass(frozen=True)
class Contract:
    at: int
    rules: Rules
    everything: bool = False


@dataclass(frozen=True)
class Decision:
    """release | rejudge | withdraw name a batch (position, n); upsert | delete a row, and the position its author had seen."""

    kind: str
    batch: tuple[int, int] | None = None
    row: Row | None = None
    seen: int = 0


@dataclass(frozen=True)
class Decided:
    at: int
    decisions: tuple[Decision, ...]


Entry = Landed | Contract | Decided


@dataclass(frozen=True)
class Judged:
    """A verdict a row: good, duplicate or bad."""

    verdicts: tuple[str, ...]
    passed: bool
    withdrawn_at_most: int
    withdrawn_min: int

    def of(self, batch: Batch, kind: str) -> list[tuple[int, Row]]:
        return [(i, r) for i, (r, v) in enumerate(zip(batch.rows, self.verdicts, strict=True)) if v == kind]


def judge(batch: Batch, rules: Rules, sequence: bool) -> Judged:
    """A batch alone, by one contract."""
    good = [r.sym is not None and r.v <= rules.limit for r in batch.rows]
    same: dict[Any, set[str]] = {}
    for ok, r in zip(good, batch.rows, strict=True):
        if ok:
            same.setdefault((*r.key, r.s if sequence else 0), set()).add(r.hash)
    verdicts: list[str] = []
    had: set[str] = set()
    for ok, r in zip(good, batch.rows, strict=True):
        if not ok or len(same[(*r.key, r.s if sequence else 0)]) > 1:
            verdicts.append("bad")
        else:
            verdicts.append("duplicate" if r.hash in had else "good")
            had.add(r.hash)
    n, bad = len(verdicts), verdicts.count("bad")
    held = bad * 100 > rules.at_most * n or (n >= 2 and "good" not in verdicts)
    return Judged(tuple(verdicts), not held, rules.withdrawn_at_most, rules.withdrawn_min)


def inside(key: tuple[str, int], scope: Scope) -> bool:
    named = {"sym": key[0], "day": key[1]}
    return all(low <= named[c] <= high for c, (low, high) in scope.items())


def void(position: int, batch: Batch, landed: list[tuple[int, str, tuple[int, int]]]) -> bool:
    """Whether an entry that its lander had not read says something of the same shard and days."""
    return any(
        batch.seen < p < position and s == batch.shard and w[0] <= batch.window[1] and batch.window[0] <= w[1]
        for p, s, w in landed
    )


@dataclass
class Account:
    """Where one batch stands: passed, held or void; a few numbers, never rows.

    `pending`: it is in and complete, and its withdrawals did not take place.
    """

    batch: Batch
    state: str
    judged: Judged | None = None
    pending: bool = False
    counts: dict[str, int] = field(default_factory=dict)


syms, days = st.sampled_from("AAAB"), st.sampled_from([0, 0, 1])
times = st.one_of(st.none(), st.integers(0, 14), st.integers(0, 14), st.integers(0, 14))
notes = st.sampled_from([None, None, None, None, None, "it's"])
rows = st.builds(Row, syms, days, st.sampled_from([0, 0, 0, 1, 1, 2, 3, 4]), st.integers(0, 3), times, notes)
dirty = st.one_of(rows, rows, rows, rows, rows, rows, st.builds(Row, st.none(), days, st.just(0)))
scopes = st.one_of(
    st.just({}),
    st.builds(lambda s: {"sym": (s, s)}, syms),
    st.builds(lambda a, b: {"day": (min(a, b), max(a, b))}, days, days),
    st.builds(lambda s, a: {"sym": (s, s), "day": (a, a)}, syms, days),
)
rules = st.builds(
    Rules, st.sampled_from([2, 3, 9, 9]), st.sampled_from([30, 100, 100, 100]), st.sampled_from([0, 40, 100, 100]),
    st.sampled_from([1, 1, 2]),
)  # fmt: skip


@st.composite
def histories(draw: Any) -> tuple[bool, list[Entry], list[int]]:
    """(whether there is a sequence, the log, the positions up to which it is refined one after another).

    Random logs miss rules, so there are modes: `lists` is what withdrawals depend on, `story` one key's clocks.
    """
    sequence = draw(st.sampled_from([False, False, True]))
    mode = draw(st.sampled_from(["any", "any", "lists", "story"]))
    lists = not sequence and mode != "any"
    one = st.builds(Row, st.sampled_from("AAAAAB"), st.just(0), st.integers(0, 4), st.just(0), st.integers(0, 14))
    clean = (
        st.lists(one, min_size=1, max_size=1)
        if mode == "story"
        else st.lists(rows, max_size=4, unique_by=lambda r: r.key)
    )
    first = (
        st.builds(Rules, st.just(9), st.just(100), st.sampled_from([30, 40, 60]), st.sampled_from([1, 1, 2]))
        if lists
        else rules
    )
    entries: list[Entry] = [Contract(0, draw(first))]
    places: list[tuple[int, int]] = []
    at = 0
    for position in range(2, draw(st.sampled_from([3, 6, 9, 12])) + 2):
        at += draw(st.sampled_from([0, 1, 1, 3]))
        kinds = ["landed"] * 6 + ["decided"] * (1 if lists else 3) + ([] if lists else ["contract", "everything"])
        kind = draw(st.sampled_from(kinds))
        if kind in ("contract", "everything"):
            entries.append(Contract(at, draw(rules), kind == "everything"))
        elif kind == "decided" and places:
            decision = st.one_of(
                st.builds(
                    Decision,
                    st.sampled_from(["release", "rejudge", "rejudge", "withdraw", "withdraw"]),
                    st.sampled_from(places),
                ),
                st.builds(
                    Decision,
                    st.sampled_from(["upsert", "delete"]),
                    st.none(),
                    rows,
                    st.integers(max(0, position - 4), position - 1),
                ),
            )
            entries.append(Decided(at, tuple(draw(st.lists(decision, min_size=1, max_size=3)))))
        else:
            seen = st.sampled_from([position - 1] * 5 + [max(0, position - 3)])
            scope = st.none() if sequence else scopes if mode == "lists" else st.none() | scopes
            window = st.tuples(days, days).map(lambda d: (min(d), max(d)))
            held = clean if lists else st.lists(dirty, min_size=1, max_size=6)
            again = st.sampled_from([0] if lists else [0, 0, 0, 0, 1])  # a vendor says a row twice
            said = st.builds(lambda held, n: (*held, *held[:n]), held, again)
            batch = st.builds(Batch, syms, window, seen, said, scope)
            found = draw(st.lists(batch, min_size=1, max_size=2))
            places += [(position, n) for n in range(len(found))]
            entries.append(Landed(at, tuple(found)))
    cuts = draw(st.sets(st.integers(1, len(entries) - 1))) | {len(entries)}
    return sequence, entries, sorted(cuts)
