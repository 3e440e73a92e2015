"""The tokens of a bronze line, cut out of it in Python as they are spelt, for every engine."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from assay.contract import spelling
from assay.contract.tree import Field, IntegerOf, JsonOf, NumberOf, Spelling

NO_VALUE = '"?"'
"""The token in the place of a text that is not of its column's spelling."""
# A line that is no JSON still says whose it is: we wrote its beginning.
ENVELOPE = re.compile(rb'\{"_seq":([0-9]{1,18}),"_n":([0-9]{1,9}),')
_HEAD = re.compile(rb'\{"_seq":[0-9]{1,18},"_n":[0-9]{1,9},(?:"_op":"([a-z]+)",)?(?:"_producer":"[^"]*",)?"_record":')
_SPACE = re.compile(r'("(?:[^"\\]|\\.)*")|\s+')
_NUMBER = re.compile(r"(?P<sign>[+-]?)(?P<whole>[0-9]+)(?:[.](?P<part>[0-9]*))?(?:[eE](?P<power>[+-]?[0-9]+))?")
_FAR = 80  # digits before or after the point, more than any decimal has
_value = msgspec.json.Decoder(msgspec.Raw)
_records = msgspec.json.Decoder(dict[str, msgspec.Raw])


def record_of(line: bytes) -> msgspec.Raw | None:
    """The record of a line, if it is strict JSON and nothing but our envelope is around it."""
    head = _HEAD.match(line)
    if not head or not line.endswith(b"}"):
        return None
    try:
        return _value.decode(line[head.end() : -1])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def exact_token(record: msgspec.Raw, field: Field) -> str | None:
    """The token at the first of the field's paths that is there, as it is spelt; for a number it is written without exponent.

    '' where the way to it is no strict JSON.
    """
    try:
        for path in field.token.paths:
            if (found := _walk(record, path)) is not None and bytes(found) != b"null":
                token = _SPACE.sub(r"\1", bytes(found).decode())
                if isinstance(field.value, JsonOf):
                    return token
                told = _respelt(token, field.spelling) if field.spelling else token
                return None if told is None else _plain(told)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""
    return None


def _respelt(token: str, op: Spelling) -> str | None:
    """What `_spelling` says in SQL, of a number's token."""
    if not token.startswith('"'):
        return token
    told: str = msgspec.json.decode(token)
    told = told.strip(spelling.BLANKS) if op.trim else told
    if told in op.nulls:
        return None
    if told and op.numeric:
        if not re.fullmatch(spelling.number(op.decimal, op.group), told):
            return NO_VALUE
        told = told.translate({ord(sign): None for sign in spelling.signs(op.group)} | {ord(op.decimal): "."})
    return json.dumps(told, ensure_ascii=False)


def _plain(token: str) -> str:
    """A number without exponent, exactly, bare or in quotes; beyond any decimal it stays beyond. Other tokens as they are."""
    if len(token) > 2 and token[0] == token[-1] == '"':
        return f'"{_plain(token[1:-1])}"'
    found = _NUMBER.fullmatch(token)
    if not found:
        return token
    sign, whole, part, power = found["sign"], found["whole"], found["part"] or "", found["power"] or "0"
    digits = (whole + part).lstrip("0")
    if not digits:
        return "0"
    # A power of more digits than this moves any line's digits out of sight.
    shift = int(power) if len(power.lstrip("+-0")) < 10 else int(f"{power[0]}1".replace("+", "")) * 10**9
    point = len(digits) - len(part) + shift
    if point > _FAR or point < -_FAR:
        return f"{sign}1{'0' * _FAR}" if point > 0 else f"{sign}0.{'0' * _FAR}1"
    digits = "0" * (1 - point) + digits if point < 1 else digits.ljust(point, "0")
    point = max(point, 1)
    return f"{sign}{digits[:point]}.{digits[point:]}".removesuffix(".")


def _walk(value: msgspec.Raw, path: Sequence[str]) -> msgspec.Raw | None:
    for name in path:
        if not bytes(value).startswith(b"{"):
            return None
        found = _records.decode(value).get(name)
        if found is None:
            return None
        value = found
    return value


class Found(NamedTuple):
    """A line cut up.

    Attributes:
        bad: why it can be read as no record: `encoding`, `too_long`, `malformed`; None if it can.
        op: what the envelope says of it, None if nothing.
        object: whether the record is an object.
        twice: the columns whose way leads through a name that an object has twice, as `,a,b,`; None if there are none.
        tokens: of each field, as `exact_token` has it.
    """

    bad: str | None
    op: str | None
    object: bool
    twice: str | None
    tokens: list[str | None]


Cut = Callable[[bytes], Found]
LONGEST = 2_000_000
"""So many bytes a line has that DuckDB's reader takes for too long."""


def cutter(fields: Sequence[Field]) -> Cut:
    """What cuts a line into the tokens of these fields."""
    names = list(dict.fromkeys(name for f in fields for path in f.token.paths for name in path))
    spelt = [json.dumps(name, ensure_ascii=False).encode() for name in names]
    plain = [
        (f.token.paths[0][0], isinstance(f.value, IntegerOf | NumberOf))
        if len(f.token.paths) == 1 and len(f.token.paths[0]) == 1 and not f.spelling
        else None
        for f in fields
    ]
    nothing: list[str | None] = [None] * len(fields)

    def cut(line: bytes) -> Found:
        head = _HEAD.match(line)
        erased = head or _ERASED.match(line)
        op = erased[1].decode() if erased and erased[1] else None
        if op == "erased":
            return Found(None, op, False, None, nothing)
        if len(line) >= LONGEST:
            return Found("too_long", None, False, None, nothing)
        if not line.isascii() and not is_text(line):
            return Found("encoding", None, False, None, nothing)
        record = record_of(line)
        if record is None:
            return Found("malformed", None, False, None, nothing)
        data = bytes(record)
        if not data.startswith(b"{"):
            return Found(None, op, False, None, nothing)
        if b"\\" in data or any(data.count(one) > 1 for one in spelt):
            twice, first = _closely(data.decode(), fields)
            if twice:
                return Found(None, op, True, twice, first)
        top = _records.decode(record)
        tokens: list[str | None] = []
        for field, short in zip(fields, plain, strict=True):
            if short is None:
                tokens.append(_first(record, field))
                continue
            found = top.get(short[0])
            if found is None or (data := bytes(found)) == b"null":
                tokens.append(None)
            elif short[1]:
                text = data.decode()
                tokens.append(text if _SHORT.fullmatch(text) else _told(text, field))
            else:
                text = data.decode()
                tokens.append(_SPACE.sub(r"\1", text) if text[0] in "{[" else text)
        return Found(None, op, True, None, tokens)

    return cut


_ERASED = re.compile(rb'\{"_seq":[0-9]{1,18},"_n":[0-9]{1,9},"_op":"(erased)",')
_SHORT = re.compile(r"-?[0-9]{1,20}(?:[.][0-9]{1,20})?")
_TOKENS = re.compile(r""""(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+""")


def _told(token: str, field: Field) -> str | None:
    """A token as it goes into a table: numbers ours, whatever they are spelt like."""
    token = _SPACE.sub(r"\1", token)
    if not isinstance(field.value, IntegerOf | NumberOf):
        return token
    told = _respelt(token, field.spelling) if field.spelling else token
    return None if told is None else _plain(told)


def _first(record: msgspec.Raw, field: Field) -> str | None:
    """The token at the first of the field's paths that is there."""
    for path in field.token.paths:
        if (found := _walk(record, path)) is not None and bytes(found) != b"null":
            return _told(bytes(found).decode(), field)
    return None


def _closely(record: str, fields: Sequence[Field]) -> tuple[str | None, list[str | None]]:
    """The columns of which an object on their way has a name twice, and the tokens by the first of such names."""
    twice: list[str] = []
    tokens: list[str | None] = []
    for field in fields:
        told: str | None = None
        for path in field.token.paths:
            text: str | None = record
            for name in path:
                found = [one for key, one in _members(text) if key == name] if text else []
                if len(found) > 1 and field.name not in twice:
                    twice.append(field.name)
                text = found[0] if found else None
            if told is None and text is not None and text != "null":
                told = text
        tokens.append(None if told is None else _told(told, field))
    return f",{','.join(twice)}," if twice else None, tokens


def _members(text: str) -> Iterator[tuple[str, str]]:
    """An object's names and the texts of their values, without whitespace between tokens; none of what is no object."""
    if not text.startswith("{"):
        return
    tokens, at = _TOKENS.findall(text), 1
    while tokens[at] != "}":
        end, depth = at + 2, 0
        while depth or tokens[end] not in ",}":
            depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(tokens[end], 0)
            end += 1
        yield json.loads(tokens[at]), "".join(tokens[at + 2 : end])
        at = end + (tokens[end] == ",")


def is_text(line: bytes) -> bool:
    """Whether a line is UTF-8."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
