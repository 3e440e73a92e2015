"""A lake's settings: `assay.toml`, checked key by key."""

import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from assay.errors import SettingsError

_SIZE = re.compile(r"[1-9]\d*(\.\d+)? ?([KMGT]i?B)")
_DURATION = re.compile(r"P(?=\d|T\d)(\d{1,4}D)?(T(?=\d)(\d{1,4}H)?(\d{1,4}M)?)?")
_Test = tuple[Callable[[Any], bool], str]
_TEXT: _Test = (lambda v: isinstance(v, str) and bool(v), "a text")
_COUNT: _Test = (lambda v: isinstance(v, int) and not isinstance(v, bool) and v > 0, "a whole number above 0")
_BYTES: _Test = (lambda v: isinstance(v, str) and bool(_SIZE.fullmatch(v)), 'a size such as "500MB" or "2GB"')
_LAKE: dict[str, _Test] = {
    "name": _TEXT,
    "data": _TEXT,
    "memory": _BYTES,
    "threads": _COUNT,
}
_SOURCE: dict[str, _Test] = {
    "base_url": _TEXT,
    "origin": _TEXT,
    "allow_private": (lambda v: isinstance(v, bool), "true or false"),
    "requests": _COUNT,
    "per": (lambda v: isinstance(v, int | float) and not isinstance(v, bool) and v > 0, "seconds above 0"),
    "calls_per_day": _COUNT,
    "bytes_per_30_days": _BYTES,
    "options": (lambda v: isinstance(v, dict), "a table"),
}
_UPKEEP: dict[str, _Test] = {
    "keep_releases": _COUNT,
    "keep_days": (lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 0, "a whole number, 0 or more"),
    "compact_files": (lambda v: isinstance(v, int) and not isinstance(v, bool) and v > 1, "a whole number above 1"),
    "every": (lambda v: isinstance(v, str) and bool(_DURATION.fullmatch(v)), 'a duration such as "P1D" or "PT6H"'),
}
_CLUSTER = re.compile(r"[A-Za-z0-9_-]{1,255}")
_DEFINITION = re.compile(r"(arn:aws[a-z-]*:ecs:[a-z0-9-]+:[0-9]{12}:task-definition/)?[A-Za-z0-9_-]{1,255}(:[0-9]+)?")


def _each(found: Any, pattern: str) -> bool:
    return (
        isinstance(found, list) and bool(found) and all(isinstance(v, str) and re.fullmatch(pattern, v) for v in found)
    )


_URL = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?/?")
_AWS: dict[str, _Test] = {
    "region": (lambda v: isinstance(v, str) and bool(re.fullmatch(r"[a-z]{2}(-[a-z]+)+-[0-9]", v)), 'a region such as "ca-central-1"'),
    "account": (lambda v: isinstance(v, str) and bool(re.fullmatch(r"[0-9]{12}", v)), "the account's 12 digits, as a text"),
    "bucket": (lambda v: isinstance(v, str) and bool(re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", v)), "a bucket's name: 3 to 63 small letters, digits and -"),
    "prefix": (lambda v: isinstance(v, str) and bool(re.fullmatch(r"(?=.{1,40}$)[a-z][a-z0-9]*(_[a-z0-9]+)*", v)), "40 small letters, digits and single _ at most, beginning with a letter"),
    "copies": _BYTES,
    "workgroup": (lambda v: isinstance(v, str) and bool(re.fullmatch(r"[A-Za-z0-9._-]{1,128}", v)), 'a work group of Athena such as "primary"'),
    "cluster": (lambda v: isinstance(v, str) and bool(_CLUSTER.fullmatch(v)), "an ECS cluster's name: letters, digits, - and _"),
    "task_definition": (lambda v: isinstance(v, str) and bool(_DEFINITION.fullmatch(v)), 'a task definition that is registered: "family", "family:revision" or its ARN'),
    "subnets": (lambda v: _each(v, r"subnet-[a-z0-9]+") and len(v) <= 16, 'a list of 1 to 16 subnets such as ["subnet-0a1b"]'),
    "security_groups": (lambda v: _each(v, r"sg-[a-z0-9]+") and len(v) <= 5, 'a list of 1 to 5 security groups such as ["sg-0a1b"]'),
    "log_group": (lambda v: isinstance(v, str) and bool(re.fullmatch(r"[A-Za-z0-9_/.#-]{1,512}", v)), 'a log group of CloudWatch such as "/ecs/lake"'),
    "endpoints": (lambda v: isinstance(v, dict) and all(isinstance(one, str) and _URL.fullmatch(one) for one in v.values()), 'a table such as {s3 = "https://..."}'),
}  # fmt: skip
CLOUDSIM = "ASSAY_CLOUDSIM"
"""The variable that names the file of `assay cloudsim up` with the addresses of its services: they stand for AWS then."""
WHEN = ("late", "held", "pending", "failing", "shrank", "holes", "drift", "clock", "ending")
_HEAD = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
_SECRET = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_NAMES: _Test = (
    lambda v: isinstance(v, list) and bool(v) and all(isinstance(one, str) and one for one in v),
    'a list of texts such as ["late"], with one at least',
)
_ALERT: dict[str, _Test] = {
    "when": _NAMES,
    "datasets": _NAMES,
    "webhook": _TEXT,
}
_UNITS = {"K": 1, "M": 2, "G": 3, "T": 4}
ORIGINS = ("vendor", "sandbox", "synthetic")


def size(text: str) -> int:
    """Bytes of a size, as `[lake] memory` and `bytes_per_30_days` say it.

    >>> size("1.5GB"), size("2 KiB")
    (1500000000, 2048)
    """
    number, unit = re.fullmatch(r"([\d.]+) ?(\w+)", text).groups()  # type: ignore[union-attr]  # `read` tested it
    return int(Decimal(number) * (1024 if "i" in unit else 1000) ** _UNITS[unit[0]])


@dataclass(frozen=True)
class Upkeep:
    """What upkeep keeps, and when it is due.

    Attributes:
        keep_releases, keep_days: the newest releases, and those that were current within so many days, are kept.
        compact_files: so many small files of a partition are made one.
        every: how often `apply` runs it, as an ISO 8601 duration.
    """

    keep_releases: int = 10
    keep_days: int = 30
    compact_files: int = 8
    every: str = "P1D"


@dataclass(frozen=True)
class Policy:
    """What `[alert.NAME]` says: of which conditions whom to tell.

    Attributes:
        when: words of `WHEN`, in their order.
        datasets: those it is about; all and what is the lake's own, if there is none.
        webhook: the name of the secret that holds the address to tell; '' for none.
    """

    name: str
    when: tuple[str, ...]
    datasets: tuple[str, ...] = ()
    webhook: str = ""


@dataclass(frozen=True)
class Aws:
    """What `[aws]` says: where the target `aws` finds the lake.

    Attributes:
        region, account: whose services are asked; a bucket of another account is refused.
        bucket: holds the lake's objects, below `<prefix>/<env>/`.
        prefix: what the names of databases, table and secrets begin with; the lake's name unless it is said.
        copies: how much of the objects is kept on this machine's disk, for DuckDB.
        workgroup: of Athena, which computes gold there; '' where DuckDB does.
        cluster, task_definition, subnets, security_groups: of ECS, for who runs commands as tasks; '' and none for who does not.
        log_group: where the tasks' lines are read; '' for the group that the task definition names.
        endpoints: addresses of services by name, for those not to be asked at AWS's own.
        emulated: whether the services are doubles of `assay cloudsim`, not AWS.
    """

    region: str
    account: str
    bucket: str
    prefix: str
    copies: str = "20GB"
    workgroup: str = ""
    cluster: str = ""
    task_definition: str = ""
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    log_group: str = ""
    endpoints: Mapping[str, str] = field(default_factory=dict)
    emulated: bool = False


@dataclass(frozen=True)
class Settings:
    """What `assay.toml` says.

    Attributes:
        root: the lake's directory.
        data: where zones, catalog and ledger lie; `<root>/data/<env>` unless [lake] data says otherwise.
        sources: `[source.NAME]` tables as they stand; `land` reads them.
        upkeep: the policy of `[upkeep]`.
        alerts: the `[alert.NAME]` tables, in their order.
        aws: `[aws]`, if there is one.
    """

    root: Path
    name: str
    env: str
    data: Path
    memory: str = "1GB"
    threads: int = 2
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    upkeep: Upkeep = Upkeep()
    alerts: tuple[Policy, ...] = ()
    aws: Aws | None = None


def read(root: Path, env: str = "dev") -> Settings:
    """The settings of the lake in a directory; SettingsError says which key of which line is wrong and what is expected."""
    path = root / "assay.toml"
    try:
        text = path.read_text()
        raw = tomllib.loads(text)
    except FileNotFoundError as error:
        raise SettingsError(f"{root} is no lake: it has no assay.toml; `assay init {root}` makes one") from error
    except OSError as error:
        raise SettingsError(f"{root} is no lake: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from error
    said = _Said(path, text)
    if unknown := raw.keys() - {"lake", "source", "upkeep", "alert", "aws"}:
        one = sorted(unknown)[0]
        raise SettingsError(
            f"{said.at(one)}: [{one}] means nothing; there are [lake], [source.NAME], [upkeep], [alert.NAME] and [aws]"
        )
    lake = raw.get("lake", {})
    _check(said, "lake", lake, _LAKE)
    upkeep = raw.get("upkeep", {})
    _check(said, "upkeep", upkeep, _UPKEEP)
    if not env.replace("-", "").replace("_", "").isalnum():
        raise SettingsError(f"environment {env!r}: letters, digits, - and _ only; it becomes a directory")
    sources = raw.get("source", {})
    if not isinstance(sources, dict):
        raise SettingsError(f"{path}: source must be tables [source.NAME]")
    for name, source in sources.items():
        where = f"source.{name}"
        _check(said, where, source, _SOURCE)
        if source.get("origin") not in ORIGINS:
            raise SettingsError(
                f"{said.at(where, 'origin')}: {where}.origin must say whose records these are: {', '.join(ORIGINS)}"
            )
        if "base_url" not in source:
            raise SettingsError(f"{said.at(where)}: {where}.base_url is missing")
        if source["base_url"].startswith("file:"):
            source["base_url"] = f"file:{(root / source['base_url'].removeprefix('file:')).resolve()}"
    data = Path(lake.get("data", "data"))
    if odd := set(str(root.resolve() / data)) & set("#?%\n"):
        raise SettingsError(
            f"{root.resolve() / data}: a lake's path may not hold {min(odd)!r}: its tables are named by URLs"
        )
    name = str(lake.get("name", root.resolve().name))
    return Settings(
        root=root,
        name=name,
        env=env,
        data=(data if data.is_absolute() else root.resolve() / data) / env,
        memory=str(lake.get("memory", "1GB")),
        threads=int(lake.get("threads", 2)),
        sources=sources,
        upkeep=Upkeep(**upkeep),
        alerts=_alerts(said, raw.get("alert", {})),
        aws=_aws(said, raw["aws"], name) if "aws" in raw else None,
    )


@dataclass(frozen=True)
class _Said:
    """The text of `assay.toml`, for complaints."""

    path: Path
    text: str

    def at(self, table: str, key: str = "") -> str:
        """The file, and the line where a table or its key stands, if that can be told."""
        inside, where = False, 0
        for n, line in enumerate(self.text.splitlines(), 1):
            if head := _HEAD.fullmatch(line):
                names = [part.strip().strip("\"'") for part in head[1].split(".")]
                name = ".".join(names)
                inside = name == table
                if not where and (inside or name.startswith(f"{table}.")):
                    where = n
            elif inside and key and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*=""", line):
                return f"{self.path}:{n}"
        return f"{self.path}:{where}" if where else str(self.path)


def _aws(said: _Said, found: Any, name: str) -> Aws:
    """`[aws]`, with the addresses of `assay cloudsim` where `CLOUDSIM` names them."""
    _check(said, "aws", found, _AWS)
    if missing := [key for key in ("region", "account", "bucket") if key not in found]:
        raise SettingsError(f"{said.at('aws')}: aws.{missing[0]} is missing")
    prefix = found.get("prefix", re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_"))
    test, kind = _AWS["prefix"]
    if not test(prefix):
        raise SettingsError(f"{said.at('aws')}: aws.prefix is missing, and the lake's name {name!r} is not {kind}")
    told = {"prefix": prefix, **found}
    told |= {key: tuple(found[key]) for key in ("subnets", "security_groups") if key in found}
    if path := os.environ.get(CLOUDSIM):
        try:
            told["endpoints"] = json.loads(Path(path).read_text())["endpoints"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError(
                f"{CLOUDSIM} names {path}, which is not what `assay cloudsim up` writes ({type(error).__name__}); start it, or unset the variable"
            ) from error
        told["emulated"] = True
    return Aws(**told)


def _alerts(said: _Said, found: Any) -> tuple[Policy, ...]:
    """The policies of `[alert.NAME]`."""
    if not isinstance(found, dict):
        raise SettingsError(f"{said.at('alert')}: alert must be tables [alert.NAME]")
    out = []
    for name, one in found.items():
        where = f"alert.{name}"
        if not _NAME.fullmatch(name):
            raise SettingsError(
                f"{said.at(where)}: alert.{name}: a name has letters, digits, - and _ and begins with a letter"
            )
        hook = one.get("webhook", "A") if isinstance(one, dict) else "A"
        if not (isinstance(hook, str) and _SECRET.fullmatch(hook)):  # what it is may be a secret itself
            what = "is an address, which is a secret" if set("/:") & set(str(hook)) else "is no name of a secret"
            raise SettingsError(
                f"{said.at(where, 'webhook')}: {where}.webhook {what}: put the address into a secret (docs/settings.md) and say "
                "that one's name here, in letters, digits and _"
            )
        _check(said, where, one, _ALERT)
        if "when" not in one:
            raise SettingsError(f"{said.at(where)}: {where}.when is missing; there are {', '.join(WHEN)}")
        if unknown := [word for word in one["when"] if word not in WHEN]:
            at = said.at(where, "when")
            raise SettingsError(f"{at}: {where}.when: {unknown[0]!r} means nothing; there are {', '.join(WHEN)}")
        if "ending" in one["when"] and one.get("datasets"):
            raise SettingsError(
                f"{said.at(where, 'when')}: {where}.when: ending is about calendars, not about datasets; say it in a policy without datasets"
            )
        when = tuple(word for word in WHEN if word in one["when"])
        out.append(Policy(name, when, tuple(dict.fromkeys(one.get("datasets", ()))), one.get("webhook", "")))
    return tuple(out)


def _check(said: _Said, where: str, found: Any, keys: Mapping[str, _Test]) -> None:
    """Whether a table has known keys with values of the right kind."""
    if not isinstance(found, dict):
        raise SettingsError(f"{said.at(where)}: {where} must be a table [{where}]")
    for key, value in found.items():
        if key not in keys:
            at = said.at(where, key)
            raise SettingsError(f"{at}: {where}.{key} means nothing; there are {', '.join(sorted(keys))}")
        test, kind = keys[key]
        if not test(value):
            raise SettingsError(f"{said.at(where, key)}: {where}.{key} must be {kind}, not {value!r}")
