"""Silver in the making: what a refine has folded so far, over what the tables hold; nothing of it is visible yet."""

from collections.abc import Callable, Sequence
from pathlib import Path

from assay.ports import Layout, Parquet, Relation, Scope

Read = Callable[[Sequence[Scope]], Relation]
"""The part of a table that a fold may touch, given the boxes of its keys."""


def of(relation: Relation) -> Read:
    """The same whatever is asked for."""
    return lambda _: relation


class Draft:
    """Two tables as they will be: those there are (or empty ones) less what was taken away, and files in scratch."""

    def __init__(self, current: Read, past: Read, layouts: tuple[Layout, Layout], scratch: Path) -> None:
        self._current, self._past = current, past
        self.layouts, self.scratch = layouts, scratch
        self.fresh: dict[str, Parquet] = {}
        self.former: dict[str, Parquet] = {}
        self.removed: list[str] = []

    def current(self, boxes: Sequence[Scope]) -> Relation:
        """The current rows that keys within the boxes may have."""
        return self._with(self._current(boxes), self.fresh)

    def past(self, boxes: Sequence[Scope]) -> Relation:
        """The former rows that keys within the boxes may have."""
        return self._with(self._past(boxes), self.former)

    def _with(self, there: Relation, made: dict[str, Parquet]) -> Relation:
        left = [url for url in there.files if url not in self.removed]
        return Relation(there.columns, (*left, *made))

    def of(self, urls: Sequence[str]) -> Relation | None:
        """The rows of some files of current; None if there are none."""
        return Relation(self.layouts[0].columns, tuple(urls)) if urls else None

    def take(self, fresh: Sequence[Parquet], former: Sequence[Parquet], leaving: Sequence[str]) -> None:
        """Put a fold's outcome in: `leaving` are files of current whose rows lie in `fresh` and `former` by now."""
        for url in leaving:
            if (made := self.fresh.pop(url, None)) is None:
                self.removed.append(url)
            else:
                made.path.unlink()
        self.fresh |= {str(one.path): one for one in fresh}
        self.former |= {str(one.path): one for one in former}
