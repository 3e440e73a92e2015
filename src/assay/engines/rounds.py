"""How acts are cut into rounds that can be folded at once: no scope of a round meets another."""

from collections.abc import Mapping, Sequence
from typing import Any

from assay.ports import Act, Scope


def rounds(acts: Sequence[Act], scopes: Mapping[int, Scope]) -> list[list[Act]]:
    """The acts in order, cut before a complete one whose scope meets another's of the round.

    What a withdrawal may take, by its limit, depends on what the one before it took.
    """
    out: list[list[Act]] = []
    said = Scopes()
    for act in acts:
        scope = scopes.get(act.place)
        if not out or (scope is not None and said.meets(scope)):
            out.append([])
            said = Scopes()
        if scope is not None:
            said.add(scope)
        out[-1].append(act)
    return out


class Scopes:
    """Scopes of a round, found by the first column that they hold to one value: hundreds of symbols meet none."""

    def __init__(self) -> None:
        self._wide: list[Scope] = []
        self._by: dict[str, dict[Any, list[Scope]]] = {}

    def add(self, scope: Scope) -> None:
        column = next((c for c, (low, high) in scope.items() if low == high), None)
        if column is None:
            self._wide.append(scope)
        else:
            self._by.setdefault(column, {}).setdefault(scope[column][0], []).append(scope)

    def meets(self, scope: Scope) -> bool:
        near = list(self._wide)
        for column, by in self._by.items():
            low, high = scope.get(column, (None, None))
            near += by.get(low, []) if low is not None and low == high else [s for held in by.values() for s in held]
        return any(_meet(scope, one) for one in near)


def _meet(a: Scope, b: Scope) -> bool:
    return all(a[c][0] <= b[c][1] and b[c][0] <= a[c][1] for c in a.keys() & b.keys())
