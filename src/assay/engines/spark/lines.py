"""Bronze lines as Spark's workers read them: a part is unpacked and cut into tokens in Python, by the code of every engine."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from assay.contract.tree import Field
from assay.engines.spark.words import named
from assay.engines.tokens import ENVELOPE, Cut, cutter

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 10_000
_OURS = (
    ("_row", "bigint"), ("_part", "bigint"), ("_place", "bigint"), ("_n", "bigint"), ("_seq", "bigint"), ("_bad", "string"),
    ("_op", "string"), ("_object", "boolean"), ("_twice", "string"), ("_raw", "binary"),
)  # fmt: skip
Parts = Mapping[str, tuple[int, int, Mapping[int, int]]]
"""By a file's name its number in the group, in how many slices it is read, and the place of each wanted batch by `_n`."""


def schema(fields: Sequence[Field]) -> list[tuple[str, str]]:
    """The columns of what is read: ours, and a text for each token."""
    return [*_OURS, *((f"_t_{f.name}", "string") for f in fields)]


def reading(fields: Sequence[Field], parts: Parts) -> "Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]":
    """What a worker does with files (path, content, which slice): the lines of the wanted batches, with their tokens.

    The slices of a part are read side by side; each unpacks the whole, which takes a tenth of what its lines take.
    """

    def read(batches: "Iterable[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        import pyarrow as pa
        from isal import igzip

        kinds = {"bigint": pa.int64(), "string": pa.string(), "boolean": pa.bool_(), "binary": pa.binary()}
        shape = pa.schema([(name, kinds[kind]) for name, kind in schema(fields)])
        cut = cutter(fields)
        for batch in batches:
            for path, content, nth in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                part, slices, places = parts[named(path)]
                lines = igzip.decompress(content).split(b"\n")
                first, end = len(lines) * nth // slices, len(lines) * (nth + 1) // slices
                told = (line(cut, part, places, i, lines[i]) for i in range(first, end))
                found = (row for row in told if row)
                while some := list(islice(found, _ROWS)):
                    columns = [
                        pa.array(one, kind) for one, kind in zip(zip(*some, strict=True), shape.types, strict=True)
                    ]
                    yield pa.RecordBatch.from_arrays(columns, schema=shape)

    return read


def line(cut: Cut, part: int, places: Mapping[int, int], number: int, raw: bytes) -> tuple[Any, ...] | None:
    """A line as a row of `schema`; None if it is of no wanted batch, or a tombstone."""
    envelope = ENVELOPE.match(raw)
    if not envelope:
        return None
    try:
        place = places[int(envelope[2])]
    except KeyError:
        return None
    found = cut(raw)
    if found.op == "erased":
        return None
    ours = (part << 32 | number, part, place, int(envelope[2]), int(envelope[1]))
    return (*ours, found.bad, found.op, found.object, found.twice, raw, *found.tokens)
