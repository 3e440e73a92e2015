"""Pictures as plain numbers and paths, for SVG in the templates: a price series, and the way back of a value."""

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
    return Chart(
        line, area, [(x(d.toordinal()), label) for d, label in _days(series[0][0], series[-1][0])],
        [(y(t), _label(t)) for t in ticks if bottom <= t <= top], (x(end), y(series[-1][1])),
        *((p[0].isoformat(), p[2]) for p in (series[0], series[-1], low, high)), points=len(series),
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
    span = (high - low) or abs(high) or 1.0
    unit = 10.0 ** (len(str(int(span))) - 1 if span >= 1 else -(len(f"{span:.12f}".split(".")[1]) - len(f"{span:.12f}".split(".")[1].lstrip("0")) + 1))
    step = next(unit * m for m in (0.2, 0.25, 0.5, 1, 2, 2.5, 5, 10) if span / (unit * m) <= 5)
    begin = int(low // step)
    return [round((begin + i) * step, 10) for i in range(int((high - begin * step) / step) + 2)]


def _label(value: float) -> str:
    return f"{value:,.4f}".rstrip("0").rstrip(".")


def _days(start: date, end: date) -> list[tuple[date, str]]:
    years = end.year - start.year
    if years >= 3:
        step = 1 + years // 9
        return [(date(y, 1, 1), str(y)) for y in range(start.year + 1, end.year + 1) if y % step == 0]
    months = [(start.year * 12 + start.month + i) for i in range(years * 12 + end.month - start.month)]
    step = 1 + len(months) // 8
    return [(date(m // 12, m % 12 + 1, 1), date(m // 12, m % 12 + 1, 1).strftime("%b %Y")) for m in months if m % step == 0]


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
    seen = found["observations"]
    silver = [(i["table"], (f"{i['rows']:,} row{'s' if i['rows'] != 1 else ''}",), "#inputs") for i in found["inputs"]]
    files: dict[str, list[int]] = {}
    urls: dict[str, int] = {}
    for n, one in enumerate(seen, 1):
        files.setdefault(one["file"], [one["line"], 0, n])[1] += 1
        urls.setdefault(_address(one["request"]), n)
    bronze = [(_tail(name), (f"line {line}" + (f" and {count - 1} more" if count > 1 else ""),), f"#o{n}") for name, (line, count, n) in files.items()]
    asked = [(_tail(url.partition("?")[0]), (_cut(url.partition("?")[2] or url, 27),), f"#o{n}") for url, n in urls.items()]
    steps = len(found["model"]["steps"])
    ranks = [
        ("gold", [(column, (_cut(str(found["value"] if found["value"] is not None else "null"), 24), found["unit"]), "#value")]),
        ("model", [(found["model"]["relation"], (f"{steps} step{'s' if steps != 1 else ''}",), "#model")]),
        ("silver", _few(silver, "#inputs")),
        ("bronze", _few(bronze, "#observations")),
        ("request", _few(asked, "#observations")),
    ]
    height = max(len(boxes) for _, boxes in ranks) * ROW + 8
    made: list[list[Box]] = []
    for rank, (kind, boxes) in enumerate(ranks):
        top = (height - len(boxes) * ROW) // 2 + (ROW - TALL) // 2
        made.append(
            [Box(4 + rank * (BOX + GAP), top + n * ROW, kind, _cut(head, 25), tuple(one for one in lines if one), href) for n, (head, lines, href) in enumerate(boxes)]
        )
    arrows = [_arrow(after, before) for nearer, farther in zip(made, made[1:], strict=False) for before in nearer for after in farther]
    said = f"{column} of {found['table']} from {len(silver)} silver inputs, {len(files)} bronze files and {len(urls)} requests"
    return Flow([box for boxes in made for box in boxes], arrows, 8 + 5 * BOX + 4 * GAP, height, said)


def _few(boxes: list[tuple[str, tuple[str, ...], str]], rest: str) -> list[tuple[str, tuple[str, ...], str]]:
    if len(boxes) <= MOST:
        return boxes or [("nothing", ("no rows",), rest)]
    return [*boxes[: MOST - 1], (f"{len(boxes) - MOST + 1} more", ("see below",), rest)]


def _arrow(start: Box, end: Box) -> str:
    """From the middle of a box's left side to the middle of the right side of the box before it."""
    x0, y0, x1, y1 = start.x, start.y + TALL // 2, end.x + BOX, end.y + TALL // 2
    half = (x0 - x1) // 2
    return f"M{x0} {y0}C{x0 - half} {y0} {x1 + half} {y1} {x1 + 3} {y1}"


def _address(request: Mapping[str, Any]) -> str:
    return request["url"] + "?" + "&".join(f"{k}={v}" for k, v in sorted(request["params"].items()))


def _tail(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
