"""What differs between two contracts of one dataset, and what of it breaks those who read it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal

from assay.contract.model import Column, Contract, KnownAt, Promise, Rule

What = Literal[
    "added", "removed", "type", "required", "read", "order", "key", "partition", "clocks", "rules", "gate", "source", "described",
]  # fmt: skip
_BREAKS: tuple[What, ...] = ("removed", "type", "key", "partition")
_CLOCKS = ("known_at", "sequence", "settle", "complete")
_SOURCE = ("source", "options", "universe", "start", "window", "every", "cursor", "reask", "slide")


@dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        kind: what it touches. `read` is how a value is found and read in a record, `clocks` when a row is known and
            which of two is newer, `source` what is asked of whom, `described` what people read about the data.
        column: the column it is about; empty where it is about the dataset.
        said: the difference in a sentence for people.
    """

    kind: What
    column: str
    said: str


def changes(old: Contract, new: Contract) -> tuple[Change, ...]:
    """Every difference that means something, columns first; none for texts that say the same.

    The file's path and the spelling of its YAML mean nothing. Both must promise the same dataset (ValueError).
    """
    if old.dataset != new.dataset:
        raise ValueError(f"{old.dataset} and {new.dataset} are two datasets")
    return (*_columns(old, new), *_dataset(old, new))


def breaking(found: Iterable[Change]) -> tuple[Change, ...]:
    """Those that break readers of the tables: a column gone or of another type, another key, other partitions."""
    return tuple(one for one in found if one.kind in _BREAKS)


def _columns(old: Contract, new: Contract) -> Iterator[Change]:
    before, after = ({c.name: c for c in contract.columns} for contract in (old, new))
    for name in before:
        if name not in after:
            yield Change("removed", name, f"{name} went away")
    for name, column in after.items():
        if name in before:
            yield from _column(before[name], column)
        else:
            yield Change("added", name, f"{name} is new: {column.type}")
    both = [[name for name in one if name in before and name in after] for one in (before, after)]
    if both[0] != both[1]:
        yield Change("order", "", f"the columns stand in another order: {', '.join(both[1])}")


def _column(old: Column, new: Column) -> Iterator[Change]:
    name = new.name
    if (old.type, old.kind) != (new.type, new.kind):
        yield Change("type", name, f"{name} was {_type(old)} and is {_type(new)}")
    if old.required != new.required:
        yield Change("required", name, f"{name} {'must now have' if new.required else 'need no longer have'} a value")
    if old.ordinal != new.ordinal:
        yield Change("key", name, f"{name} {'counts records now' if new.ordinal else 'no longer counts records'}")
    elif old.origins != new.origins:
        yield Change("read", name, f"{name} was read from {_paths(old)} and is read from {_paths(new)}")
    for of in ("excess", "zone", "format", "decimal", "group", "nulls", "trim"):
        if getattr(old, of) != getattr(new, of):
            was, now = (
                ", ".join(said) if isinstance(said, tuple) else said for said in (getattr(old, of), getattr(new, of))
            )
            yield Change("read", name, _said(f"{of} of {name}", was, now))
    for of in ("description", "classification", "unit"):
        if getattr(old, of) != getattr(new, of):
            yield Change("described", name, _said(f"{of} of {name}", getattr(old, of), getattr(new, of)))


def _dataset(old: Contract, new: Contract) -> Iterator[Change]:
    if old.key != new.key:
        yield Change("key", "", _said("the key", ", ".join(old.key), ", ".join(new.key)))
    if old.partition != new.partition:
        yield Change("partition", "", _said("the partitions", *(" by ".join(c.partition or ()) for c in (old, new))))
    for of in _CLOCKS:
        if getattr(old, of) != getattr(new, of):
            yield Change("clocks", "", _said(of, _text(getattr(old, of)), _text(getattr(new, of))))
    if old.early != new.early:
        yield Change("clocks", "", "half days: some rows are known at another hour")
    yield from _rules(old, new)
    for of in (one.name for one in fields(old.gate)):
        if getattr(old.gate, of) != getattr(new.gate, of):
            yield Change("gate", "", _said(f"{of} of the gate", getattr(old.gate, of), getattr(new.gate, of)))
    for of in _SOURCE:
        if _text(getattr(old, of)) != _text(getattr(new, of)):
            yield Change("source", "", _said(of, _text(getattr(old, of)), _text(getattr(new, of))))
    for of in ("title", "description", "version", "mutability"):
        if getattr(old, of) != getattr(new, of):
            yield Change("described", "", _said(of, getattr(old, of), getattr(new, of)))
    if old.engine != new.engine:
        yield Change("described", "", _said("engine", *(" above ".join(map(str, one.engine)) for one in (old, new))))
    for of in ("promises", "shown"):
        if getattr(old, of) != getattr(new, of):
            was, now = (
                sorted({*getattr(one, of)} - {*getattr(two, of)}, key=str) for one, two in ((old, new), (new, old))
            )
            yield Change("described", "", _said(of, *("; ".join(map(_spelt, one)) for one in (was, now))))


def _rules(old: Contract, new: Contract) -> Iterator[Change]:
    before, after = ({rule.name: rule for rule in contract.rules} for contract in (old, new))
    for name in before:
        if name not in after:
            yield Change("rules", "", f"rule {name} went away")
    for name, rule in after.items():
        if name not in before:
            yield Change("rules", "", f"rule {name} is new: {rule.expression}")
        elif replace(before[name], description="") != replace(rule, description=""):
            yield Change("rules", "", _said(f"rule {name}", _judged(before[name]), _judged(rule)))
        elif before[name].description != rule.description:
            yield Change(
                "described", "", _said(f"description of rule {name}", before[name].description, rule.description)
            )
    if old.unique != new.unique:
        yield Change("rules", "", _said("unique", *(_uniques(contract) for contract in (old, new))))
    if old.days != new.days:
        yield Change("rules", "", _said("the calendar", old.days, new.days))
    elif old.calendar != new.calendar:
        yield Change("rules", "", f"the calendar {new.days} has other days, or closes otherwise on some")
    both = [[name for name in one if name in before and name in after] for one in (before, after)]
    if both[0] != both[1]:
        yield Change("rules", "", f"the rules stand in another order: {', '.join(both[1])}")


def _judged(rule: Rule) -> str:
    limit = "" if rule.at_most is None else f", {'below' if rule.below else 'at most'} {rule.at_most:g} {rule.unit}"
    return f"{rule.expression} ({rule.severity}{limit}, from {rule.min_rows} rows on)"


def _uniques(contract: Contract) -> str:
    return "; ".join(f"{one.name} ({', '.join(one.columns)})" for one in contract.unique)


def _type(column: Column) -> str:
    return f"{column.type} ({column.kind})"


def _paths(column: Column) -> str:
    return " or ".join(".".join(path) for path in column.origins)


def _text(value: object) -> object:
    if isinstance(value, KnownAt):
        return f"{value.column} at {value.time} {value.zone} + {value.lag}"
    return json.dumps(value, sort_keys=True, default=str) if isinstance(value, Mapping) else value


def _spelt(one: Promise | tuple[str, str]) -> str:
    return f"{one.property} {one.lag}" if isinstance(one, Promise) else f"{one[0]}: {one[1]}"


def _said(what: str, old: object, new: object) -> str:
    return (
        f"{what}: was {old if old not in (None, '') else 'nothing'}, is {new if new not in (None, '') else 'nothing'}"
    )
