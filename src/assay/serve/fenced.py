"""Free SELECTs asked from outside: each runs in a process of its own, within its time and memory."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from assay import fence
from assay.errors import UsageError
from assay.lake.files import scratch_directory
from assay.lake.release import Release
from assay.ports import Files, Limits
from assay.settings import size

SPENT = "the query needs more than [lake] memory of assay.toml allows; narrow it, or the lake's owner raises that"


@dataclass(frozen=True)
class Answer:
    """Rows in the engine's Python types, read as often as they are asked for; `truncated` if there were more than the limit."""

    columns: tuple[str, ...]
    rows: Iterable[tuple[Any, ...]]
    truncated: bool = False


@dataclass(frozen=True)
class Result(Answer):
    """An answer whose rows are held."""

    rows: tuple[tuple[Any, ...], ...]


@contextmanager
def asked(
    files: Files, found: Release, limits: Limits, text: str, *, limit: int = 1000, timeout: float = 30.0
) -> Iterator[Answer]:
    """The first `limit` rows of a SELECT over a release; they are read from a file, which is gone after the block.

    UsageError says what is not allowed or unknown, or that it took too long or too much: then it was killed.

    Args:
        files: the lake's files.
        found: the release.
        limits: what the query may use.
        text: one SELECT, as a person writes it, over `gold.<table>` (also without `gold.`), `silver.<dataset>` and
            `silver.<dataset>_versions`.
        limit: rows kept.
        timeout: seconds until the query is killed.
    """
    with scratch_directory(files) as work:
        its = replace(limits, scratch=work if limits.scratch else None)
        try:
            with fence.asked(
                "assay.serve.sql", "answer", files, found, its, text, limit,
                timeout=timeout, memory=size(limits.memory), work=work,
            ) as said:  # fmt: skip
                columns = next(iter(said))
                yield Answer(columns, _Rows(said), said.last())
        except fence.Late:
            raise UsageError(f"stopped after {timeout:g} s; narrow the query, by its key first") from None
        except fence.Spent:
            raise UsageError(SPENT) from None
        except fence.Crashed as error:
            raise UsageError(f"the query ended the process it ran in ({error}); ask it in another way") from None


class _Rows:
    """The rows among what was said: neither the columns before them nor what comes last."""

    def __init__(self, said: fence.Said) -> None:
        self._said = said

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for one in self._said:
            if isinstance(one, list):
                yield from one
