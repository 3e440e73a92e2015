"""Pictures as plain numbers and paths, for SVG in the templates: a price series, and the way back of a value."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 280, 64, 16, 12, 28
COLUMNS = 400


@dataclass(frozen=True)
class Chart:
    """A series drawn: `line` and `area` are paths, ticks are (place, label), `first` to `high` are (day, figure)."""

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


def chart(series: Sequence[tuple[date, float, str]]) -> Chart | None:
    """The chart of (day, value, figure) in order of days; None below two points."""
    if len(series) < 2:
        return None
    start, end = series[0][0].toordinal(), series[-1][0].toordinal()
    low, high = min(series, key=lambda p: p[1]), max(series, key=lambda p: p[1])
    ticks = _ticks(low[1], high[1])
    bottom, top = min(ticks[0], low[1]), max(ticks[-1], high[1])
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(ordinal: int) -> float:
        return round(LEFT + wide * (ordinal - start) / max(1, end - start), 1)

    def y(value: float) -> float:
        return round(TOP + tall * (top - value) / ((top - bottom) or 1), 1)

    kept = thin([(d.toordinal(), v) for d, v, _ in series], COLUMNS)
    points = [f"{x(d)} {y(v)}" for d, v in kept]
    line = "M" + "L".join(points)
    area = f"{line}L{x(end)} {HEIGHT - BOTTOM}L{x(start)} {HEIGHT - BOTTOM}Z"
    first, last, lowest, highest = ((p[0].isoformat(), p[2]) for p in (series[0], series[-1], low, high))
    return Chart(
        line=line, area=area, across=[(x(d.toordinal()), label) for d, label in _days(series[0][0], series[-1][0])],
        upward=[(y(t), _label(t)) for t in ticks], end=(x(end), y(series[-1][1])),
        first=first, last=last, low=lowest, high=highest, points=len(series),
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


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from below the lowest to above the highest value, about five."""
    span = (high - low) or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(span))
    step = next(unit * m for m in (0.2, 0.25, 0.5, 1, 2, 2.5) if span / (unit * m) <= 5)
    out = [math.floor(low / step) * step]
    while len(out) < 2 or out[-1] < high:
        out.append(out[-1] + step)
    return [round(tick, 9) for tick in out]


def _label(value: float) -> str:
    return f"{value:,.6f}".rstrip("0").rstrip(".")


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


def flow(found: Mapping[str, Any]) -> Flow:
    """The way back of an explained value: gold cell, model, silver rows, bronze lines, requests."""
    column = found["column"] or "row"
    groups = groups_of(found["observations"])
    steps, inputs = found["model"]["steps"], found["inputs"]
    value = "null" if found["value"] is None else str(found["value"])
    ranks: list[list[tuple[str, str, tuple[str, ...], str]]] = [
        [("gold", column, (_cut(value, 24), found["unit"]), "#value")],
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
        [
            ("bronze", g.dataset, (_cut(_tail(g.file).partition("-")[2], 24), _lines(g)), f"#b{n}")
            for n, g in enumerate(groups, 1)
        ],
        [
            (
                "request",
                _tail(g.request["url"]),
                tuple(_cut(f"{k}={v}", 24) for k, v in list(g.request["params"].items())[:2]),
                f"#b{n}",
            )
            for n, g in enumerate(groups, 1)
        ],
    ]
    left_out = max(0, len(groups) - MOST)
    for rank in ranks[3:]:
        if left_out:
            rank[MOST - 1 :] = [(rank[0][0], f"{left_out + 1} more", ("listed below",), "#observations")]
    height = max(len(rank) for rank in ranks) * ROW + 8
    made = [_column(x, rank, height) for x, rank in enumerate(ranks)]
    arrows = [(made[0][0], made[1][0]), *((made[1][0], box) for box in made[2])]
    for n, box in enumerate(made[3]):
        dataset = groups[n].dataset if n < len(groups) and not (left_out and n == MOST - 1) else None
        arrows += [
            (made[2][m], box) for m, i in enumerate(inputs) if i["listed"] and dataset in (None, dataset_of(i["table"]))
        ]
        arrows.append((box, made[4][n]))
    said = f"{column} of {found['table']} from {_many(len(inputs), 'silver input')}, {_many(len(groups), 'bronze file')} and as many requests"
    return Flow(
        [box for boxes in made for box in boxes],
        [_arrow(after, before) for before, after in arrows],
        8 + 5 * BOX + 4 * GAP,
        height,
        said,
    )


@dataclass(frozen=True)
class Group:
    """Observations that came in one bronze file from one request."""

    dataset: str
    file: str
    request: Mapping[str, Any]
    rows: list[Mapping[str, Any]]


def groups_of(observations: Sequence[Mapping[str, Any]]) -> list[Group]:
    """Observations by the file and the request they came from, in the order they are listed."""
    out: dict[tuple[str, ...], Group] = {}
    for one in observations:
        asked = one["request"]
        name = (one["dataset"], one["file"], asked["url"], *(f"{k}={v}" for k, v in asked["params"].items()))
        out.setdefault(name, Group(one["dataset"], one["file"], asked, [])).rows.append(one)
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
