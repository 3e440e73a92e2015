"""`deploy.yaml` of a lake: what its Prefect server holds beside what the contracts imply, and what environments have of their own."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from assay.contract.lines import Lines, near
from assay.errors import ContractError, UsageError
from assay.windows import Duration

FILE = "deploy.yaml"
POOLS = {"ingest": 4, "transform": 1, "stream": 2, "backfill": 1}
"""The work pools that there always are, and how many flow runs of each go at once unless the lake says otherwise."""
SCHEDULED = {"upkeep": "0 3 * * *", "refine": "PT1H", "build": "PT1H", "alerts": "PT15M"}
"""What runs beside landings, and when unless the lake says otherwise: cron in UTC, or a duration."""
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_CRON = re.compile(r"(?:\*|(?P<first>\d{1,2})(?:-(?P<last>\d{1,2}))?)(?:/(?P<step>\d{1,2}))?", re.ASCII)
_LONGEST = 5000


@dataclass(frozen=True)
class Pool:
    """A work pool: how many flow runs go at once, and its queues by name, each with its priority and limit."""

    concurrency_limit: int | None = None
    queues: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Described:
    """What the file says of one environment.

    Attributes:
        pools: by name, those that there always are among them.
        limits: global concurrency limits.
        variables: by name, any JSON.
        schedules: of upkeep, refine, build and alerts; "" where one is not scheduled.
        jobs: job variables by the name of what runs with them, such as `dbt-ecs-task`.
    """

    pools: Mapping[str, Pool] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    schedules: Mapping[str, str] = field(default_factory=dict)
    jobs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read(root: Path, env: str) -> Described:
    """What a lake describes for an environment; a lake without the file has what there always is.

    ContractError with all that is wrong in it, a line each.
    """
    path = root / FILE
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except UnicodeDecodeError:
        raise ContractError(f"{FILE}: not UTF-8; save the file as UTF-8") from None
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        said = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise ContractError(f"{FILE}:{line}: not YAML: {getattr(error, 'problem', None) or error}") from None
    lines = Lines(FILE, node or yaml.MappingNode("tag:yaml.org,2002:map", []))
    found = _section(lines, (), said or {}, own=True)
    own = found.pop("environments")
    lines.done()
    return _described(over(found, own.get(env, {})))


# ------------------------------------------------------------------ reading


def _section(lines: Lines, at: tuple[str, ...], said: Any, *, own: bool) -> dict[str, Any]:
    """The file, or what one environment has of its own; what is wrong is noted."""
    readers: dict[str, Callable[[Lines, tuple[str, ...], Any], Any]] = {
        "pools": lambda _, at, v: _each(lines, at, v, _pool),
        "limits": lambda _, at, v: _each(lines, at, v, _limit),
        "variables": lambda _, at, v: _each(lines, at, v, _variable),
        "schedules": lambda _, at, v: _keys(lines, at, v, dict.fromkeys(SCHEDULED, _schedule)),
        "jobs": lambda _, at, v: _each(lines, at, v, _job),
    }
    if own:
        readers["environments"] = lambda _, at, v: _each(
            lines, at, v, lambda _, at, v: _section(lines, at, v, own=False)
        )
    found: dict[str, Any] = {name: {} for name in readers} | _keys(lines, at, said, readers)
    return found


def _keys(
    lines: Lines, at: tuple[str, ...], said: Any, readers: Mapping[str, Callable[[Lines, tuple[str, ...], Any], Any]]
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if not isinstance(said, dict):
        lines.note(at, f"{'.'.join(at) or FILE} expects a mapping of {', '.join(readers)}")
        return out
    for key, value in said.items():
        if key not in readers:
            said_ = ".".join([*at, str(key)])
            lines.note((*at, key), f"{said_} means nothing; did you mean {near(str(key), readers)}?", key=True)
        else:
            with lines.each():
                out[key] = readers[key](lines, (*at, key), value)
    return out


def _each(
    lines: Lines, at: tuple[str, ...], said: Any, reader: Callable[[Lines, tuple[str, ...], Any], Any]
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if not isinstance(said, dict):
        lines.fail(at, f"{'.'.join(at)} expects names, each with what it is")
    for key, value in said.items():
        with lines.each():
            if not isinstance(key, str) or not _NAME.fullmatch(key):
                lines.fail((*at, key), f"{key} is no name: small letters, digits and -, a letter first")
            out[key] = reader(lines, (*at, key), value)
    return out


def _pool(lines: Lines, at: tuple[str, ...], said: Any) -> dict[str, Any]:
    return _keys(
        lines, at, said,
        {"concurrency_limit": _count, "queues": lambda _, at, v: _each(lines, at, v, _queue)},
    )  # fmt: skip


def _queue(lines: Lines, at: tuple[str, ...], said: Any) -> dict[str, Any]:
    return _keys(lines, at, said, {"priority": _count, "concurrency_limit": _count})


def _limit(lines: Lines, at: tuple[str, ...], said: Any) -> int:
    return int(_keys(lines, at, said, {"limit": _count}).get("limit") or lines.fail(at, f"{at[-1]} lacks its limit"))


def _count(lines: Lines, at: tuple[str, ...], said: Any) -> int:
    if not isinstance(said, int) or isinstance(said, bool) or not 1 <= said <= 10_000:
        lines.fail(at, f"{'.'.join(at)}: {said!r} is no whole number from 1 to 10000")
    return said


def _variable(lines: Lines, at: tuple[str, ...], said: Any) -> Any:
    if not isinstance(said, str | int | float | bool | list | dict) or len(str(said)) > _LONGEST:
        lines.fail(at, f"{'.'.join(at)} is a text, a number, a list or a mapping, of {_LONGEST} characters at most")
    return _json(lines, at, said)


def _json(lines: Lines, at: tuple[str, ...], said: Any) -> Any:
    """What JSON can say of it; a day is none of that."""
    try:
        same = json.loads(json.dumps(said)) == said
    except (TypeError, ValueError):
        same = False
    if same:
        return said
    return lines.fail(at, f"{'.'.join(at)} holds what JSON does not know, such as a day; put it in quotes")


def _job(lines: Lines, at: tuple[str, ...], said: Any) -> Any:
    if not isinstance(said, dict):
        lines.fail(at, f"{'.'.join(at)} expects job variables, such as env")
    return _json(lines, at, said)


def _schedule(lines: Lines, at: tuple[str, ...], said: Any) -> str:
    if said is None or said is False:
        return ""
    text = str(said)
    if text.startswith("P"):
        try:
            length = Duration.parse(text)
        except UsageError as error:
            lines.fail(at, f"{'.'.join(at)}: {error}")
        if length.months or length.exact.total_seconds() < 60:
            lines.fail(at, f"{'.'.join(at)}: {text} is shorter than a minute, or of months; say cron for those")
    elif not _is_cron(text):
        lines.fail(at, f'{".".join(at)}: {text} is neither cron, such as "0 3 * * *", nor a duration, such as PT1H')
    return text


def _is_cron(text: str) -> bool:
    """Minute, hour, day, month and day of the week, each `*`, numbers, ranges or steps."""
    fields = text.split(" ")
    return len(fields) == 5 and all(
        all(_in_range(part, low, high) for part in one.split(","))
        for one, (low, high) in zip(fields, ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7)), strict=True)
    )


def _in_range(part: str, low: int, high: int) -> bool:
    found = _CRON.fullmatch(part)
    if not found:
        return False
    first, last, step = found["first"], found["last"] or found["first"], found["step"]
    return (first is None or low <= int(first) <= int(last) <= high) and (step is None or int(step) > 0)


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One mapping laid over another, key by key, mappings in it too."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        out[key] = over(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return out


def _described(found: Mapping[str, Any]) -> Described:
    pools = over({name: {"concurrency_limit": n} for name, n in POOLS.items()}, found["pools"])
    return Described(
        pools={
            name: Pool(
                one.get("concurrency_limit"),
                {q: (said.get("priority", 1), said.get("concurrency_limit")) for q, said in one.get("queues", {}).items()},
            )
            for name, one in pools.items()
        },
        limits=found["limits"], variables=found["variables"], schedules=SCHEDULED | found["schedules"], jobs=found["jobs"],
    )  # fmt: skip
