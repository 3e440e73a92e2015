"""What a caller was granted of a release: some datasets, and the gold that is computed from these and nothing else."""

from collections.abc import Mapping

from msgspec import structs

from assay.lake.release import Model, Release

Grant = frozenset[str] | None
"""The datasets that a caller reads; None for all there is."""
NOTHING: Grant = frozenset()

Sources = Mapping[str, frozenset[str] | None]
"""By relation (`gold.fct_price`), the datasets it is computed from; None where that cannot be told."""


def narrowed(found: Release, grant: Grant, of: Sources) -> Release:
    """The release as if it held no more than the grant: what is made of it can show nothing else."""
    if grant is None:
        return found

    def allowed(relation: str) -> bool:
        its = of.get(relation.lower())
        return its is not None and its <= grant

    return structs.replace(
        found,
        gold=tuple(one for one in found.gold if allowed(f"gold.{one.name}")),
        silver=tuple(one for one in found.silver if one.dataset in grant),
        models=tuple(one for one in found.models if allowed(one.relation)),
        docs="",  # it tells of every table
        docs_sha256="",
    )


def sources(found: Release) -> Sources:
    """What each relation of a release is computed from: by the SQL of its steps, and for gold what its yml declares too.

    What is read that is no silver, step or list of numbers (a file, a table that nobody knows) could be anything:
    then it cannot be told.
    """
    models = {one.relation.lower(): one for one in found.models}
    datasets = {one.dataset for one in found.silver}
    out: dict[str, frozenset[str] | None] = {}
    walking: list[str] = []

    def of(relation: str) -> frozenset[str] | None:
        zone, _, name = relation.partition(".")
        if zone == "silver":
            dataset = name if name in datasets else name.removesuffix("_versions").removesuffix("_past")
            return frozenset({dataset}) if dataset in datasets else None
        if relation in walking:  # one that reads itself reads nothing new
            return frozenset() if relation == walking[-1] else None
        if relation not in out:
            walking.append(relation)
            read = _read(models[relation]) if relation in models else None
            out[relation] = None if read is None else _together([of(one) for one in sorted(read)])
            walking.pop()
        return out[relation]

    declared = {f"gold.{one.name}".lower(): [i.table.lower() for i in one.inputs] for one in found.gold}
    for relation in {**models, **declared}:
        out[relation] = _together([of(relation), *map(of, declared.get(relation, ()))])
    return out


def _together(parts: list[frozenset[str] | None]) -> frozenset[str] | None:
    known = [one for one in parts if one is not None]
    return frozenset().union(*known) if len(known) == len(parts) else None


def _read(model: Model) -> set[str] | None:
    """The relations that a step reads, in small letters; None where its SQL does not say all of them."""
    import sqlglot
    from sqlglot import exp

    if model.kind == "seed":
        return set()
    try:
        tree = sqlglot.parse_one(model.sql, read="duckdb")
    except (sqlglot.errors.SqlglotError, RecursionError):
        return None
    if not isinstance(tree, exp.Query):
        return None
    withs = {one.alias.lower() for one in tree.find_all(exp.CTE)}
    read = set()
    for table in tree.find_all(exp.Table):
        if isinstance(table.this, exp.GenerateSeries):
            continue
        if not isinstance(table.this, exp.Identifier):
            return None
        if table.db:
            read.add(f"{table.db}.{table.name}".lower())
        elif table.name.lower() not in withs:
            return None
    return read
