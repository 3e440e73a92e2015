"""One contract as expression trees: how a field's token becomes a value, and every reason why it may not."""

from sqlglot import exp, parse_one

from assay.contract.model import Column, Contract
from assay.errors import ContractError
from assay.ports import Field, Refinement
from assay.windows import Duration

_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\z"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?\z"
_ZONED = r"(Z|[+-][0-9]{2}:[0-9]{2})\z"


def refinement(contract: Contract) -> Refinement:
    """The contract's trees, over tokens `_t_<column>` and values `<column>` as `assay.ports.Refinement` says."""
    if unread := next((c.name for c in contract.columns if c.kind == "json"), None):
        raise ContractError(f"{unread}: objects and arrays are read by no engine yet")
    fields = tuple(Field(c.name, c.origins) for c in contract.columns)
    rules = [(r.name, parse_one(r.expression, read="duckdb")) for r in contract.rules if r.severity == "error"]
    warnings = [(r.name, parse_one(r.expression, read="duckdb")) for r in contract.rules if r.severity == "warning"]
    return Refinement(
        fields=fields,
        # With a sequence, a batch may tell several states of a key in order; without, it tells one.
        identity=(*contract.key, *([contract.sequence] if contract.sequence else [])),
        values={c.name: _value(c) for c in contract.columns},
        reasons=tuple(_reason(c) for c in contract.columns),
        rules=tuple(rules),
        warnings=tuple(warnings),
        known_at=_known_at(contract),
        hash=_hash(contract),
    )


def _tree(template: str, column: Column) -> exp.Expr:
    """A constant template with `v`, `t`, and the column's own constants put in as tree nodes, never as text."""
    parts = {
        "v": exp.column(column.name, quoted=True),
        "t": exp.column(f"_t_{column.name}", quoted=True),
        **{
            reason: exp.Literal.string(f"{column.name}:{reason}")
            for reason in ("required", "type", "range", "scale", "digits")
        },
        "zone": exp.Literal.string(column.zone),
        "text_number": exp.Literal.string(rf'^"[+-]?[0-9]{{1,38}}([.][0-9]{{0,{_scale(column)}}}0*)?"\z'),
        "scale_digits": exp.Literal.number(_scale(column)),
        "exact": exp.Literal.number(10 ** max(0, 15 - _scale(column))),
        "date_shape": exp.Literal.string(_DATE),
        "time_shape": exp.Literal.string(_TIME),
        "zoned": exp.Literal.string(_ZONED),
    }
    tree = parse_one(template, read="duckdb")
    return exp.replace_placeholders(tree, **parts)


def _scale(column: Column) -> int:
    return column.scale if column.kind == "number" else 0


def _value(column: Column) -> exp.Expr:
    """The value of a token, null where it is none; what was lost on the way is `_reason`'s business."""
    inner = "SUBSTR(:t, 2, LENGTH(:t) - 2)"
    templates = {
        "string": f"CASE WHEN CONTAINS(:t, '\\') THEN CAST(:t AS JSON) ->> '$' WHEN ASCII(:t) = 34 THEN NULLIF({inner}, '') END",
        "boolean": "CASE WHEN :t IN ('true', '\"true\"') THEN TRUE WHEN :t IN ('false', '\"false\"') THEN FALSE END",
        "date": f"TRY_CAST({inner} AS DATE)",
        "timestamp": f"""CASE WHEN NOT REGEXP_MATCHES({inner}, :time_shape) THEN NULL
            WHEN REGEXP_MATCHES({inner}, :zoned) THEN TRY_CAST({inner} AS TIMESTAMPTZ)
            ELSE TRY_CAST({inner} AS TIMESTAMP) AT TIME ZONE :zone END""",
    }
    number = f"TRY_CAST(CASE WHEN ASCII(:t) = 34 THEN {inner} ELSE CAST(:t AS VARCHAR) END AS {column.type})"
    return _tree(templates.get(column.kind, number), column)


def _reason(column: Column) -> exp.Expr:
    """The text `column:reason` where the token does not become the value exactly, null where it does.

    A JSON number beyond 15 digits may have been rounded before anybody could look, so it is refused (`digits`),
    unless it is a whole number or came as text; excess decimals are refused where they change the number (`scale`).
    """
    missing = "WHEN :t IS NULL OR :t = '\"\"' THEN " + (":required" if column.required else "NULL")
    # The first branch is what nearly every row takes; the others are then evaluated for the rest alone.
    # A JSON number is printed with as few digits as tell its double apart, so excess decimals show in its length;
    # and from 0.001 to 10^15 it is printed without exponent.
    fine = """WHEN ASCII(:t) BETWEEN 48 AND 57 AND :v >= 0.001 AND :v < :exact
        AND (STRPOS(:t, '.') = 0 OR LENGTH(:t) - STRPOS(:t, '.') <= :scale_digits) THEN NULL"""
    number = """
        WHEN ASCII(:t) = 34 THEN CASE WHEN :v IS NULL OR NOT REGEXP_MATCHES(:t, :text_number) THEN :type END
        WHEN NOT ASCII(:t) BETWEEN 45 AND 57 OR :t = '-Infinity' THEN :type
        WHEN :v IS NULL THEN :range
        WHEN TRY_CAST(:t AS DOUBLE) <> CAST(:v AS DOUBLE) THEN :scale
        WHEN (:v >= :exact OR :v <= -:exact) AND (CONTAINS(:t, '.') OR CONTAINS(:t, 'e') OR CONTAINS(:t, 'E')) THEN :digits"""
    if column.excess == "round":
        fine = ""
        number = """
            WHEN :v IS NULL AND ASCII(:t) BETWEEN 45 AND 57 THEN :range
            WHEN :v IS NULL OR NOT REGEXP_MATCHES(:t, '^"?[+-]?[0-9]') THEN :type"""
    templates = {
        "string": f"{missing} WHEN ASCII(:t) <> 34 OR :v IS NULL THEN :type",
        "boolean": f"{missing} WHEN NOT :t IN ('true', 'false', '\"true\"', '\"false\"') THEN :type",
        "date": f"WHEN LENGTH(:t) = 12 AND SUBSTR(:t, 2, 10) = CAST(:v AS VARCHAR) THEN NULL {missing} ELSE :type",
        "timestamp": f"""{missing} WHEN ASCII(:t) <> 34 OR NOT REGEXP_MATCHES(SUBSTR(:t, 2, LENGTH(:t) - 2), :time_shape) THEN :type
            WHEN :v IS NULL THEN :range""",
        "integer": f"{fine} {missing} {number}",
        "number": f"{fine} {missing} {number}",
    }
    return _tree(f"CASE {templates[column.kind]} END", column)


def _known_at(contract: Contract) -> exp.Expr:
    known = contract.known_at
    if known is None:
        return parse_one("CAST(NULL AS TIMESTAMPTZ)", read="duckdb")
    column = contract.column(known.column)
    lag = Duration.parse(known.lag)
    parts = {
        "c": exp.column(column.name, quoted=True),
        "time": exp.Literal.string(known.time),
        "zone": exp.Literal.string(known.zone),
        "seconds": exp.Literal.number(int(lag.exact.total_seconds())),
    }
    day = "CAST(:c + CAST(:time AS TIME) AS TIMESTAMP) AT TIME ZONE :zone" if column.kind == "date" else ":c"
    template = f"({day}) + TO_SECONDS(:seconds)" if lag.exact else day
    return exp.replace_placeholders(parse_one(template, read="duckdb"), **parts)


def _hash(contract: Contract) -> exp.Expr:
    """md5 over the columns' canonical texts, chr(31) between, chr(30) for null."""
    texts = []
    for i, column in enumerate(contract.columns):
        text = f"CAST(:c{i} AT TIME ZONE 'UTC' AS VARCHAR)" if column.kind == "timestamp" else f"CAST(:c{i} AS VARCHAR)"
        # A required column is null in rejected rows alone, whose hash nobody reads.
        texts.append(text if column.required else f"COALESCE({text}, CHR(30))")
    parts = {f"c{i}": exp.column(column.name, quoted=True) for i, column in enumerate(contract.columns)}
    return exp.replace_placeholders(parse_one(f"MD5(CONCAT({', CHR(31), '.join(texts)}))", read="duckdb"), **parts)
