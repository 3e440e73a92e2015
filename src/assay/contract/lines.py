"""A contract's YAML by its lines: what was found to be wrong where, and the customProperties of one place."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import yaml
from open_data_contract_standard.model import CustomProperty

from assay.errors import ContractError, UsageError
from assay.windows import Duration


class Noted(Exception):
    """What cannot be read was noted; the next thing is looked at."""


class Lines:
    """Where things stand in a YAML text, a path of keys and indexes to a line, and what was found to be wrong there."""

    def __init__(self, name: str, node: yaml.Node) -> None:
        self.name, self.node = name, node
        self.unsure: set[str] = set()
        """Columns whose type could not be read: nothing is said of what else needs it."""
        self._found: dict[str, int] = {}
        self._taken: set[int] = set()

    def note(self, path: Iterable[str | int], message: str, *, last: bool = False, key: bool = False) -> None:
        """Keep a complaint, about a key itself or what it holds; after a `last` one nothing more is said about its line."""
        line = self._at(path, key=key).start_mark.line + 1
        if line not in self._taken:
            self._found[f"{self.name}:{line}: {message}"] = line
        if last:
            self._taken.add(line)

    def fail(self, path: Iterable[str | int], message: str) -> NoReturn:
        """Keep a complaint and leave what is being read, up to `each`."""
        self.note(path, message)
        raise Noted

    @contextmanager
    def each(self) -> Iterator[None]:
        """Whatever fails inside does not hinder what stands after it."""
        with suppress(Noted):
            yield

    def done(self) -> None:
        """ContractError with all that was found, a line each, in the order of the text."""
        if self._found:
            raise ContractError(*sorted(self._found, key=lambda said: self._found[said]))

    def text(self, path: Iterable[str | int]) -> str:
        """The scalar at a path, as its author spelt it."""
        return str(self._value(path).value)

    def _value(self, path: Iterable[str | int]) -> yaml.Node:
        node: yaml.Node = self.node
        for part in path:
            pairs = node.value if isinstance(node, yaml.MappingNode) else enumerate(node.value)
            node = next(v for k, v in pairs if (k.value if isinstance(k, yaml.Node) else k) == part)
        return node

    def _at(self, path: Iterable[str | int], *, key: bool = False) -> yaml.Node:
        node = named = self.node
        for part in path:
            if isinstance(node, yaml.MappingNode):
                found = [(k, v) for k, v in node.value if k.value == str(part)]
                if not found:
                    break
                named, node = found[0]
                node = named if isinstance(node, yaml.ScalarNode) else node
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
        return named if key else node


def near(key: str, names: Iterable[str]) -> str:
    import difflib

    return ", ".join(difflib.get_close_matches(key, list(names), 3, 0) or sorted(names)[:3])


class Properties:
    """The customProperties of one place, each known and there once, with the line to complain about."""

    def __init__(
        self, found: list[CustomProperty] | None, known: set[str], path: tuple[str | int, ...], lines: Lines
    ) -> None:
        self._lines, self._path = lines, path
        self._at: dict[str, tuple[str | int, ...]] = {}
        self._values: dict[str, Any] = {}
        for index, one in enumerate(found or []):
            at, name = (*path, "customProperties", index), str(one.property)
            if name not in known:
                lines.note(at, f"customProperty {name} means nothing here; did you mean {near(name, known)}?")
            if name in self._values:
                lines.note(at, f"customProperty {name} stands here twice; keep one")
            self._at[name], self._values[name] = at, one.value

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str, default: Any = None) -> Any:
        return self._values.get(name, default)

    def note(self, name: str, message: str) -> None:
        self._lines.note(self._at.get(name, (*self._path, "customProperties")), message)

    def fail(self, name: str, message: str) -> NoReturn:
        self._lines.fail(self._at.get(name, (*self._path, "customProperties")), message)

    def mapping(self, name: str, keys: set[str]) -> dict[str, Any]:
        value = self.get(name) or {}
        if not isinstance(value, dict) or value.keys() - keys:
            self.fail(name, f"{name}: expects a mapping of {', '.join(sorted(keys))}")
        return value

    def words(self, name: str, default: str | None, pattern: re.Pattern[str], why: str) -> str | None:
        if name not in self:
            return default
        value = self.get(name)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            self.fail(name, f"{name}: {value} is not a name that matches {pattern.pattern}; {why}")
        return value

    def count(self, name: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            self.fail(name, f"{value!r} is no count of rows; say a whole number such as 100")
        return value

    def share(self, name: str, value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 100:
            self.fail(name, f"{value!r} is no share in percent; say a number from 0 to 100")
        return float(value)

    def lag(self, name: str, value: Any) -> str:
        try:
            if Duration.parse(str(value)).months:
                self.fail(name, f"{name}: {value} is longer in some months than in others; say it in days or hours")
        except UsageError as error:
            self.fail(name, f"{name}: {error}")
        return str(value)


class Spelt:
    """The texts of scalars below a place, as their author wrote them."""

    def __init__(self, lines: Lines, at: tuple[str | int, ...]) -> None:
        self._lines, self._at = lines, at

    def __call__(self, path: Sequence[str | int]) -> str:
        return self._lines.text((*self._at, *path))
