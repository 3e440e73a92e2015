"""Small histories, one a rule: each is what the rule's absence gets wrong, so that no luck is needed to see it."""

from tests.laws.fold.log import Batch, Contract, Decided, Decision, Entry, Landed, Row, Rules, Scope


def landed(at: int, *rows: Row, scope: Scope | None = None, seen: int = 99) -> Landed:
    """One batch; its lander had seen everything before, unless said."""
    return Landed(at, (Batch("A", (0, 0), seen, rows, scope),))


def decided(at: int, kind: str, batch: tuple[int, int]) -> Decided:
    return Decided(at, (Decision(kind, batch),))


def by_hand(at: int, kind: str, row: Row, seen: int) -> Decided:
    return Decided(at, (Decision(kind, None, row, seen),))


def row(sym: str | None, v: int = 0, day: int = 0, known_at: int | None = None, s: int = 0) -> Row:
    return Row(sym, day, v, s, known_at)


STRICT = Contract(0, Rules(limit=2, at_most=30))
CAREFUL = Contract(0, Rules(limit=2, withdrawn_at_most=40))
PLAIN = Contract(0, Rules(limit=2))
EVERY: Scope = {}
LATE: list[Entry] = [STRICT, landed(1, row("A", 1), row("B", 9)), landed(2, row("A", 2)), decided(3, "release", (2, 0))]

# Name to (whether there is a sequence, log, positions up to which it is refined).
KNOWN: dict[str, tuple[bool, list[Entry], list[int]]] = {
    "a held batch comes late": (False, LATE, [4]),
    "a held batch comes late, in a refine of its own": (False, LATE, [3, 4]),
    "an older row of a sequence": (True, [PLAIN, landed(1, row("A", 1, s=2)), landed(2, row("A", 2, s=1))], [3]),
    "a held row that a later list lacks": (
        False,
        [
            STRICT,
            landed(1, row("B", 1), row("A", 9)),
            landed(2, row("A", 1), scope=EVERY),
            landed(3, row("A", 1), scope={"sym": ("A", "A")}),
            decided(4, "release", (2, 0)),
        ],
        [5],
    ),
    "lists of one refine, each by the limit": (
        False,
        [
            Contract(0, Rules(withdrawn_at_most=60)),
            landed(1, row("A"), row("A", day=1), row("B"), scope=EVERY),
            landed(2, row("A"), row("A", day=1), scope=EVERY),
            landed(3, row("A"), scope=EVERY),
        ],
        [4],
    ),
    "a deleted key comes again": (
        False,
        [
            PLAIN,
            landed(6, row("A", 1, known_at=5)),
            by_hand(7, "delete", row("A"), 2),
            landed(8, row("A", 2, known_at=1)),
        ],
        [3, 4],
    ),
    "clocks": (
        False,
        [
            PLAIN,
            landed(2, row("A", 0, known_at=0)),
            landed(10, row("A", 1, known_at=0)),
            landed(11, row("A", 2, known_at=3)),
        ],
        [4],
    ),
    "a list has a key for another": (
        False,
        [
            PLAIN,
            landed(3, row("A", 1, known_at=1), scope=EVERY),
            landed(9, row("B", 1, known_at=2), scope=EVERY),
            landed(12, row("B", 1, known_at=2), row("B", 1, day=1, known_at=2), scope=EVERY),
        ],
        [2, 4],
    ),
    "a list has a key for another, and may not withdraw": (
        False,
        [
            CAREFUL,
            landed(3, row("A", 1, known_at=1), scope=EVERY),
            landed(9, row("B", 1, known_at=2), scope=EVERY),
            decided(10, "withdraw", (3, 0)),
        ],
        [4],
    ),
    "a list's row is in quarantine": (
        False,
        [PLAIN, landed(1, row("A", 1), row("B", 1), scope=EVERY), landed(2, row("A", 1), row("B", 9), scope=EVERY)],
        [3],
    ),
    "a list's key cannot be read": (
        False,
        [PLAIN, landed(1, row("A", 1), row("B", 1), scope=EVERY), landed(2, row("A", 1), row(None), scope=EVERY)],
        [3],
    ),
    "a list lacks too much": (
        False,
        [CAREFUL, landed(1, row("A"), row("B"), scope=EVERY), landed(2, row("A"), scope=EVERY)],
        [3],
    ),
    "held withdrawals take place by decision": (
        False,
        [
            CAREFUL,
            landed(1, row("A"), row("B"), scope=EVERY),
            landed(2, row("A"), scope=EVERY),
            decided(3, "withdraw", (3, 0)),
        ],
        [3, 4],
    ),
    "two land the same window": (False, [PLAIN, landed(1, row("A", 1)), landed(2, row("A", 2), seen=1)], [3]),
    "the same row twice": (False, [PLAIN, landed(1, row("A", 1)), landed(2, row("A", 1))], [3]),
    "another row of a key": (False, [PLAIN, landed(1, row("A", 1)), landed(2, row("A", 2))], [2, 3]),
    "a correction whose author had not seen the newest": (
        False,
        [PLAIN, landed(1, row("A", 1)), landed(2, row("A", 2)), by_hand(3, "upsert", row("A", 0), 2)],
        [4],
    ),
}
