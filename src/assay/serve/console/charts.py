"""Pictures as plain numbers and paths, for SVG in the templates: a price series, and the way back of a value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_FLOOR, Decimal, localcontext
from typing import Any

import msgspec

from assay.serve.console.figures import seen

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 280, 64, 16, 12, 28
COLUMNS = 400


@dataclass(frozen=True)
class Chart:
    """A series drawn: `line` and `area` are paths, ticks are (place, label), `first` to `high` are (day, figure).

    The labels of the upward ticks stand to the left of `left`.
    """

    line: str
    area: str
    across: list[tuple[float, str]]
    upward: list[tuple[float, str]]
    end: tuple[float, float]
    first: tuple[str, str]
    last: tuple[str, str]
    low: tuple[str, str]
    high: tuple[str, str]
    points: int
    left: int


def chart(series: Sequence[tuple[date, float, str]]) -> Chart | None:
    """The chart of (day, finite value, figure) in order of days; None below two points."""
    if len(series) < 2:
        return None
    start, end = series[0][0].toordinal(), series[-1][0].toordinal()
    low, high = min(series, key=lambda p: p[1]), max(series, key=lambda p: p[1])
    ticks = _ticks(low[1], high[1])
    labels = [_label(tick) for tick in ticks]
    left = max(LEFT, 7 * max(map(len, labels)) + 16)
    wide, tall = WIDTH - left - RIGHT, HEIGHT - TOP - BOTTOM

    def x(ordinal: int) -> float:
        return round(left + wide * (ordinal - start) / max(1, end - start), 1)

    def y(value: float | Decimal) -> float:
        return round(TOP + tall * float((ticks[-1] - Decimal(value)) / (ticks[-1] - ticks[0])), 1)

    kept = thin([(d.toordinal(), v) for d, v, _ in series], COLUMNS)
    points = [f"{x(d)} {y(v)}" for d, v in kept]
    line = "M" + "L".join(points)
    area = f"{line}L{x(end)} {HEIGHT - BOTTOM}L{x(start)} {HEIGHT - BOTTOM}Z"
    first, last, lowest, highest = ((p[0].isoformat(), p[2]) for p in (series[0], series[-1], low, high))
    return Chart(
        line=line, area=area, across=[(x(d.toordinal()), label) for d, label in _days(series[0][0], series[-1][0])],
        upward=[(y(tick), label) for tick, label in zip(ticks, labels, strict=True)], end=(x(end), y(series[-1][1])),
        first=first, last=last, low=lowest, high=highest, points=len(series), left=left,
    )  # fmt: skip


def thin(points: Sequence[tuple[int, float]], columns: int) -> list[tuple[int, float]]:
    """At most four points per column of pixels: its first, lowest, highest and last, so that no extreme is lost."""
    start, end = points[0][0], points[-1][0]
    groups: dict[int, list[tuple[int, float]]] = {}
    for point in points:
        groups.setdefault((point[0] - start) * columns // max(1, end - start + 1), []).append(point)
    out = []
    for group in groups.values():
        keep = {group[0], group[-1], min(group, key=lambda p: p[1]), max(group, key=lambda p: p[1])}
        out += sorted(keep)
    return out


def _ticks(low: float, high: float) -> list[Decimal]:
    """Round numbers from below the lowest to above the highest value, two to seven.

    They are decimals, exact at any magnitude: a double may be so large that adding the step does not change it.
    """
    with localcontext(prec=60, rounding=ROUND_FLOOR):  # two doubles differ in their 17th digit at the latest
        span = (Decimal(high) - Decimal(low)) or abs(Decimal(high)) or Decimal(1)
        unit = Decimal(1).scaleb(span.adjusted())
        step = next(unit * m for m in map(Decimal, ("0.2", "0.25", "0.5", "1", "2")) if span / (unit * m) <= 5)
        first = int((Decimal(low) / step).to_integral_value())
        last = -int((-Decimal(high) / step).to_integral_value())
        return [n * step for n in range(first, max(last, first + 1) + 1)]


def _label(tick: Decimal) -> str:
    plain = f"{tick:,f}"
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return plain if len(plain) <= 24 else f"{tick.normalize():e}"


def _days(start: date, end: date) -> list[tuple[date, str]]:
    years = end.year - start.year
    if years >= 3:
        step = 1 + years // 9
        return [(date(y, 1, 1), str(y)) for y in range(start.year + 1, end.year + 1) if y % step == 0]
    months = [(start.year * 12 + start.month + i) for i in range(years * 12 + end.month - start.month)]
    step = 1 + len(months) // 8
    return [
        (date(m // 12, m % 12 + 1, 1), date(m // 12, m % 12 + 1, 1).strftime("%b %Y")) for m in months if m % step == 0
    ]


# ------------------------------------------------------------------ the way back

BOX, GAP, TALL, ROW, MOST = 196, 44, 62, 78, 4


@dataclass(frozen=True)
class Box:
    """A box of the flow: `kind` colours it, `lines` stand in it, `href` leads to its details."""

    x: int
    y: int
    kind: str
    head: str
    lines: tuple[str, ...]
    href: str


@dataclass(frozen=True)
class Flow:
    """The boxes and the arrows between them, in a picture of this size."""

    boxes: list[Box]
    arrows: list[str]
    width: int
    height: int
    said: str


def flow(found: Mapping[str, Any], groups: Sequence["Group"], column: str | None) -> Flow:
    """The way back of an explained value, or without a column of its row: gold, model, silver rows, bronze lines, requests."""
    steps, inputs = found["model"]["steps"], found["inputs"]
    value = "null" if found["value"] is None else seen(str(found["value"]))
    gold = (
        (_cut(value, 24), found["unit"])
        if column
        else tuple(_cut(seen(v), 24) for v in list(found["key"].values())[:2])
    )
    ranks: list[list[tuple[str, str, tuple[str, ...], str]]] = [
        [("gold", column or "row", gold, "#value")],
        [("model", found["model"]["relation"], (_many(len(steps), "step"),), "#model")],
        [
            (
                "silver",
                i["table"],
                (_many(i["rows"], "row"), f"{i['listed']} shown below" if i["listed"] else ""),
                "#inputs",
            )
            for i in inputs
        ],
        [("bronze", g.dataset, (f"batch {g.rows[0]['batch']}", _lines(g)), f"#b{n}") for n, g in enumerate(groups, 1)],
        [(*_asked(g), f"#b{n}") for n, g in enumerate(groups, 1)],
    ]
    left_out = max(0, len(groups) - MOST)
    for rank in ranks[3:]:
        if left_out:
            rank[MOST - 1 :] = [(rank[0][0], f"{left_out + 1} more", ("listed below",), "#records")]
    height = max(len(rank) for rank in ranks) * ROW + 8
    made = [_column(x, rank, height) for x, rank in enumerate(ranks)]
    arrows = [(made[0][0], made[1][0]), *((made[1][0], box) for box in made[2])]
    for n, box in enumerate(made[3]):
        dataset = groups[n].dataset if n < len(groups) and not (left_out and n == MOST - 1) else None
        arrows += [
            (made[2][m], box) for m, i in enumerate(inputs) if i["listed"] and dataset in (None, dataset_of(i["table"]))
        ]
        arrows.append((box, made[4][n]))
    said = (
        f"{column or 'row'} of {found['table']} from {_many(len(inputs), 'silver input')}, "
        f"{_many(len({g.file for g in groups}), 'bronze file')} and {_many(len({str(g.request) for g in groups if g.request}), 'request')}"
    )
    return Flow(
        [box for boxes in made for box in boxes],
        [_arrow(after, before) for before, after in arrows],
        8 + 5 * BOX + 4 * GAP,
        height,
        said,
    )


SHARED = (
    "dataset", "file", "request", "decision", "batch", "entry", "origin", "captured_at", "evidence", "contract_sha256", "rules",
    "record_refines_to_row",
)  # fmt: skip


@dataclass(frozen=True)
class Group:
    """Records that came in one bronze file from one request and were judged alike: all that is SHARED is said once.

    `request` is none where a person wrote the record: `decision` says who and why, also where one only let it in.
    """

    dataset: str
    file: str
    request: Mapping[str, Any] | None
    decision: Mapping[str, Any] | None
    rows: list[Mapping[str, Any]]


def groups_of(records: Sequence[Mapping[str, Any]]) -> list[Group]:
    """Records by everything in SHARED, in the order they are listed."""
    out: dict[bytes, Group] = {}
    for one in records:
        name = msgspec.json.encode([one[what] for what in SHARED])
        out.setdefault(name, Group(one["dataset"], one["file"], one["request"], one["decision"], [])).rows.append(one)
    return list(out.values())


def dataset_of(table: str) -> str:
    """`silver.splits_versions` is read from the dataset `splits`."""
    return table.partition(".")[2].removesuffix("_versions")


def _column(rank: int, boxes: Sequence[tuple[str, str, tuple[str, ...], str]], height: int) -> list[Box]:
    top = (height - len(boxes) * ROW) // 2 + (ROW - TALL) // 2
    x = 4 + rank * (BOX + GAP)
    return [
        Box(x, top + n * ROW, kind, _cut(head, 23), tuple(one for one in lines if one), href)
        for n, (kind, head, lines, href) in enumerate(boxes)
    ]


def _asked(group: Group) -> tuple[str, str, tuple[str, ...]]:
    """The last box of the way back: what was asked of the source, or what a person decided."""
    if group.request is not None:
        params = list(group.request["params"].items())[:2]
        return "request", _tail(group.request["url"]), tuple(_cut(seen(f"{k}={v}"), 24) for k, v in params)
    decision = group.decision or {"kind": "decided", "who": ""}
    return "decision", decision["kind"], (_cut(seen(decision["who"]), 24),) if decision["who"] else ()


def _lines(group: Group) -> str:
    first = group.rows[0]["line"]
    return f"line {first}" + (f" and {len(group.rows) - 1} more" if len(group.rows) > 1 else "")


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _arrow(start: Box, end: Box) -> str:
    """From the middle of a box's left side to the middle of the right side of the box before it."""
    x0, y0, x1, y1 = start.x, start.y + TALL // 2, end.x + BOX, end.y + TALL // 2
    half = (x0 - x1) // 2
    return f"M{x0} {y0}C{x0 - half} {y0} {x1 + half} {y1} {x1 + 3} {y1}"


def _tail(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
