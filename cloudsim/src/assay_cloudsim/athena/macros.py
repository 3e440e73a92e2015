"""Trino's scalar functions as DuckDB macros named `trino_NAME`, and Java's text of a double."""

import re

import duckdb

# NAME(arguments): what Trino's documentation says it gives, in DuckDB's SQL.
_MACROS = (
    # DuckDB's error() is volatile, and TRY takes nothing volatile; a cast that fails says the same.
    ("fail(said)", "CAST('~' || said AS BIGINT)"),
    ("array_distinct(a)", "list_filter(a, lambda x, i: list_position(a, x) = i)"),
    ("array_except(a, b)", "trino_array_distinct(list_filter(a, lambda x: NOT list_contains(b, x)))"),
    ("array_first(a)", "a[1]"),
    ("array_intersect(a, b)", "trino_array_distinct(list_filter(a, lambda x: list_contains(b, x)))"),
    ("array_join(a, s)", "array_to_string(list_filter(a, lambda x: x IS NOT NULL), s)"),
    ("array_join_null(a, s, n)", "array_to_string(list_transform(a, lambda x: coalesce(CAST(x AS VARCHAR), n)), s)"),
    ("array_last(a)", "a[len(a)]"),
    ("array_max(a)", "CASE WHEN len(a) > list_count(a) THEN NULL ELSE list_max(a) END"),
    ("array_min(a)", "CASE WHEN len(a) > list_count(a) THEN NULL ELSE list_min(a) END"),
    ("array_position(a, x)", "CASE WHEN a IS NULL OR x IS NULL THEN NULL ELSE coalesce(list_position(a, x), 0) END"),
    ("array_remove(a, x)", "list_filter(a, lambda y: y <> x OR y IS NULL)"),
    ("array_sort(a)", "list_sort(a, 'ASC', 'NULLS LAST')"),
    ("array_union(a, b)", "trino_array_distinct(list_concat(a, b))"),
    ("arrays_overlap(a, b)", "list_has_any(a, b)"),
    ("bit_count(x, bits)", "bit_count(CAST(x AS BIGINT)) - CASE WHEN x < 0 THEN 64 - bits ELSE 0 END"),
    ("bitwise_and(a, b)", "a & b"),
    ("bitwise_left_shift(a, b)", "a << b"),
    ("bitwise_not(a)", "~a"),
    ("bitwise_or(a, b)", "a | b"),
    ("bitwise_right_shift_arithmetic(a, b)", "a >> b"),
    ("bitwise_xor(a, b)", "xor(a, b)"),
    ("concat_arrays(a, b)", "list_concat(a, b)"),
    ("contains(a, x)", "CASE WHEN a IS NULL OR x IS NULL THEN NULL WHEN list_contains(a, x) THEN TRUE WHEN len(a) > list_count(a) THEN NULL ELSE FALSE END"),
    ("current_timezone()", "'UTC'"),
    ("date(x)", "CAST(x AS DATE)"),
    ("day(x)", "day(x)"),
    ("day_of_week(x)", "isodow(x)"),
    ("day_of_year(x)", "dayofyear(x)"),
    # CAST of a double to varchar: Java's DecimalFormat 0.0###E0 of the shortest digits.
    ("double_digits(t)", "ltrim(replace(regexp_extract(t, '^[0-9.]+'), '.', ''), '0')"),
    ("double_power(t)", "coalesce(TRY_CAST(regexp_extract(t, 'e(.*)$', 1) AS INTEGER), 0) + length(split_part(regexp_extract(t, '^[0-9.]+'), '.', 1)) - 1 - (length(replace(regexp_extract(t, '^[0-9.]+'), '.', '')) - length(trino_double_digits(t)))"),
    ("double_text(x)", "CASE WHEN isnan(x) THEN 'NaN' WHEN isinf(x) THEN CASE WHEN x > 0 THEN 'Infinity' ELSE '-Infinity' END WHEN x = 0 THEN '0.0E0' ELSE CASE WHEN x < 0 THEN '-' ELSE '' END || trino_double_digits(CAST(abs(x) AS VARCHAR))[1] || '.' || CASE WHEN rtrim(substr(trino_double_digits(CAST(abs(x) AS VARCHAR)), 2), '0') = '' THEN '0' ELSE rtrim(substr(trino_double_digits(CAST(abs(x) AS VARCHAR)), 2), '0') END || 'E' || trino_double_power(CAST(abs(x) AS VARCHAR)) END"),
    ("flatten(a)", "flatten(a)"),
    ("from_hex(x)", "unhex(x)"),
    ("from_iso8601_date(x)", "CAST(x AS DATE)"),
    ("from_iso8601_timestamp(x)", "CAST(x AS TIMESTAMPTZ)"),
    ("from_unixtime(x)", "make_timestamptz(CAST(round(CAST(x AS DOUBLE) * 1000) AS BIGINT) * 1000)"),
    ("from_utf8(x)", "decode(x)"),
    ("hamming_distance(a, b)", "hamming(a, b)"),
    ("hour(x)", "hour(x)"),
    ("infinity()", "CAST('Infinity' AS DOUBLE)"),
    ("json_array_length(j)", "CASE WHEN json_type(j) = 'ARRAY' THEN json_array_length(j) END"),
    ("json_array_contains(j, x)", "list_contains(CAST(json_extract(j, '$[*]') AS JSON[]), to_json(x))"),
    ("json_extract(j, p)", "json_extract(j, p)"),
    ("json_extract_scalar(j, p)", "CASE WHEN json_type(json_extract(j, p)) IN ('OBJECT', 'ARRAY') THEN NULL ELSE json_extract_string(j, p) END"),
    ("json_format(j)", "CAST(j AS VARCHAR)"),
    ("json_parse(x)", "CAST(x AS JSON)"),
    ("json_size(j, p)", "CASE json_type(json_extract(j, p)) WHEN 'OBJECT' THEN len(json_keys(j, p)) WHEN 'ARRAY' THEN json_array_length(j, p) ELSE 0 END"),
    ("is_json_scalar(j)", "json_type(j) NOT IN ('OBJECT', 'ARRAY')"),
    ("last_day_of_month(x)", "last_day(x)"),
    ("levenshtein_distance(a, b)", "levenshtein(a, b)"),
    ("log(b, x)", "ln(x) / ln(b)"),
    ("lpad(s, n, p)", "lpad(s, n, p)"),
    ("rpad(s, n, p)", "rpad(s, n, p)"),
    ("ltrim(s)", "ltrim(s, ' ')"),
    ("rtrim(s)", "rtrim(s, ' ')"),
    ("trim(s)", "trim(s, ' ')"),
    ("localtimestamp()", "date_trunc('millisecond', localtimestamp)"),
    ("map(k, v)", "map(k, v)"),
    ("map_entries(m)", "map_entries(m)"),
    ("map_from_entries(e)", "map_from_entries(e)"),
    ("map_keys(m)", "map_keys(m)"),
    ("map_values(m)", "map_values(m)"),
    ("map_concat(a, b)", "map_concat(a, b)"),
    ("map_get(m, k)", "CASE WHEN m IS NULL THEN NULL WHEN map_contains(m, k) THEN m[k] ELSE list_extract([m[k]], trino_fail('INVALID_FUNCTION_ARGUMENT: Key not present in map: ' || CAST(k AS VARCHAR))) END"),
    ("md5(x)", "unhex(md5(x))"),
    ("sha1(x)", "unhex(sha1(x))"),
    ("sha256(x)", "unhex(sha256(x))"),
    ("millisecond(x)", "millisecond(x) % 1000"),
    ("minute(x)", "minute(x)"),
    ("month(x)", "month(x)"),
    ("nan()", "CAST('NaN' AS DOUBLE)"),
    ("power(a, b)", "pow(CAST(a AS DOUBLE), CAST(b AS DOUBLE))"),
    ("quarter(x)", "quarter(x)"),
    ("random_below(n)", "CAST(floor(random() * n) AS BIGINT)"),
    ("regexp_count(s, p)", "len(regexp_extract_all(s, p))"),
    ("regexp_extract(s, p)", "CASE WHEN regexp_matches(s, p) THEN regexp_extract(s, p) END"),
    ("regexp_extract_group(s, p, g)", "CASE WHEN regexp_matches(s, p) THEN regexp_extract(s, p, g) END"),
    ("regexp_extract_all(s, p)", "regexp_extract_all(s, p)"),
    ("regexp_like(s, p)", "regexp_matches(s, p)"),
    ("regexp_split(s, p)", "regexp_split_to_array(s, p)"),
    ("repeat(x, n)", "list_transform(range(n), lambda i: x)"),
    ("replace(s, a)", "replace(s, a, '')"),
    ("replace_by(s, a, b)", "replace(s, a, b)"),
    ("second(x)", "second(x)"),
    ("sign(x)", "sign(x)"),
    ("slice(a, s, n)", "CASE WHEN s < 0 THEN list_slice(a, len(a) + s + 1, len(a) + s + n) ELSE list_slice(a, s, s + n - 1) END"),
    ("split(s, d)", "string_split(s, d)"),
    ("split_part(s, d, i)", "string_split(s, d)[i]"),
    ("strpos(s, x)", "strpos(s, x)"),
    ("subscript(a, i)", "a[CASE WHEN a IS NULL OR i IS NULL OR i BETWEEN 1 AND len(a) THEN i WHEN i = 0 THEN trino_fail('INVALID_FUNCTION_ARGUMENT: SQL array indices start at ' || i + 1) WHEN i < 0 THEN trino_fail('INVALID_FUNCTION_ARGUMENT: Array subscript is negative: ' || i) ELSE trino_fail('INVALID_FUNCTION_ARGUMENT: Array subscript must be less than or equal to array length: ' || i || ' > ' || len(a)) END]"),
    ("substr(s, i)", "CASE WHEN i = 0 OR -i > length(s) THEN '' ELSE substr(s, i) END"),
    ("substr_to(s, i, n)", "CASE WHEN i = 0 OR -i > length(s) OR n <= 0 THEN '' ELSE substr(s, i, n) END"),
    ("to_hex(x)", "hex(x)"),
    ("to_unixtime(x)", "epoch(x)"),
    ("to_milliseconds(x)", "epoch_ms(x)"),
    ("to_utf8(x)", "encode(x)"),
    ("to_iso8601_timestamp(x)", "strftime(x, '%Y-%m-%dT%H:%M:%S.') || lpad(CAST(millisecond(x) % 1000 AS VARCHAR), 3, '0')"),
    ("truncate(x)", "trunc(x)"),
    ("to_base(x, r)", "CASE WHEN x < 0 THEN '-' ELSE '' END || lower(to_base(abs(x), r))"),
    ("url_decode(x)", "url_decode(replace(x, '+', ' '))"),
    ("url_encode(x)", "replace(replace(replace(url_encode(x), '%20', '+'), '%2A', '*'), '~', '%7E')"),
    ("url_extract_fragment(u)", "regexp_extract(u, '#(.*)$', 1)"),
    ("url_extract_host(u)", "nullif(regexp_extract(u, '^[^:/?#]+://(?:[^/?#@]*@)?([^:/?#]*)', 1), '')"),
    ("url_extract_parameter(u, n)", "list_filter(list_transform(string_split(regexp_extract(u, '[?]([^#]*)', 1), '&'), lambda p: CASE WHEN split_part(p, '=', 1) = n THEN url_decode(replace(substr(p, length(n) + 2), '+', ' ')) END), lambda p: p IS NOT NULL)[1]"),
    ("url_extract_path(u)", "regexp_extract(u, '^(?:[^:/?#]+:)?(?://[^/?#]*)?([^?#]*)', 1)"),
    ("url_extract_port(u)", "TRY_CAST(regexp_extract(u, '^[^:/?#]+://(?:[^/?#@]*@)?[^:/?#]*:([0-9]+)', 1) AS BIGINT)"),
    ("url_extract_protocol(u)", "regexp_extract(u, '^([^:/?#]+):', 1)"),
    ("url_extract_query(u)", "regexp_extract(u, '[?]([^#]*)', 1)"),
    ("week(x)", "weekofyear(x)"),
    ("width_bucket(x, a, b, n)", "CAST(CASE WHEN a < b THEN CASE WHEN x < a THEN 0 WHEN x >= b THEN n + 1 ELSE floor((x - a) * n / CAST(b - a AS DOUBLE)) + 1 END ELSE CASE WHEN x > a THEN 0 WHEN x <= b THEN n + 1 ELSE floor((a - x) * n / CAST(a - b AS DOUBLE)) + 1 END END AS BIGINT)"),
    ("year(x)", "year(x)"),
    ("year_of_week(x)", "isoyear(x)"),
    ("text_to_int(s, t)", "CASE WHEN s IS NULL THEN NULL WHEN regexp_full_match(s, '[+-]?[0-9]+') THEN CAST(s AS BIGINT) ELSE trino_fail('INVALID_CAST_ARGUMENT: Cannot cast ' || chr(39) || s || chr(39) || ' to ' || t) END"),
    ("text_to_boolean(s)", "CASE WHEN s IS NULL THEN NULL WHEN lower(s) IN ('t', 'true', '1') THEN TRUE WHEN lower(s) IN ('f', 'false', '0') THEN FALSE ELSE CAST(trino_fail('INVALID_CAST_ARGUMENT: Cannot cast ' || chr(39) || s || chr(39) || ' to BOOLEAN') AS BOOLEAN) END"),
    ("text_to_date(s)", "CASE WHEN s IS NULL THEN NULL WHEN regexp_full_match(s, '[ ]*[+-]?[0-9]{1,6}-[0-9]{1,2}-[0-9]{1,2}[ ]*') THEN CAST(trim(s) AS DATE) ELSE make_date(trino_fail('INVALID_CAST_ARGUMENT: Value cannot be cast to date: ' || s), 1, 1) END"),
    ("text_to_timestamp(s)", "CASE WHEN s IS NULL THEN NULL WHEN regexp_full_match(s, '[ ]*[0-9]{1,6}-[0-9]{1,2}-[0-9]{1,2}( [0-9]{1,2}:[0-9]{1,2}(:[0-9]{1,2}([.][0-9]+)?)?)?[ ]*') THEN CAST(trim(s) AS TIMESTAMP) ELSE make_timestamp(trino_fail('INVALID_CAST_ARGUMENT: Value cannot be cast to timestamp: ' || s)) END"),
    # Exact, half up: the numbers without their points as HUGEINT, so what has more than 38 digits on the way is an error.
    ("half_up(n, d)", "(abs(n) * 2 + abs(d)) // (abs(d) * 2) * CASE WHEN (n < 0) <> (d < 0) THEN -1 ELSE 1 END"),
    ("no_decimal(x)", "list_extract([x], CASE WHEN typeof(x) LIKE 'DECIMAL%' THEN trino_fail('NOT_SUPPORTED: this double of Athena cannot tell the type of a decimal here, cast it: ' || typeof(x)) ELSE 1 END)"),
    ("divide_unknown(a, b)", "CASE WHEN typeof(a) IN ('DOUBLE', 'FLOAT') OR typeof(b) IN ('DOUBLE', 'FLOAT') THEN a / b ELSE CAST(trino_fail('NOT_SUPPORTED: this double of Athena cannot tell the types of a division here, cast its operands: ' || typeof(a) || ' / ' || typeof(b)) AS DOUBLE) END"),
)  # fmt: skip


def java_double(value: float) -> str:
    """Java's Double.toString, in which Athena writes a double into its results."""
    if value != value:  # noqa: PLR0124 - NaN
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(value)
    digits, power = next(s for p in range(18) if float(s := f"{value:.{p}e}") == value).split("e")
    return f"{digits if '.' in digits else digits + '.0'}E{int(power)}"


_BODIES = {head.split("(")[0]: body for head, body in _MACROS}
ARITY = {m[0].split("(")[0]: len([p for p in m[0].split("(")[1][:-1].split(",") if p.strip()]) for m in _MACROS}


def install(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    """The macros that a statement names, in the connection's main schema."""
    needed = {m: _BODIES[m] for m in _named(sql) if m in _BODIES}
    while more := {m for body in needed.values() for m in _named(body)} - needed.keys():
        needed |= {m: _BODIES[m] for m in more}
    for head, body in _MACROS:
        if head.split("(")[0] in needed:
            con.execute(f"CREATE MACRO IF NOT EXISTS main.trino_{head} AS {body}").fetchall()


def _named(sql: str) -> set[str]:
    return {name.lower() for name in re.findall(r"(?i)\btrino_(\w+)\(", sql)}
