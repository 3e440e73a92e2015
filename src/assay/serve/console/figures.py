"""How values, moments and foreign texts are written on a page."""

import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from assay import clock
from assay.lake.release import Column
from assay.ports import CONFLICT
from assay.spoken import TERMS
from assay.sqltypes import SqlType

# characters that are not seen, or turn around those beside them: what is read would not be what is stored
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ud800-\udfff\ufeff]"
)
_NUMBERS = ("DECIMAL", "DOUBLE", "FLOAT", "BIGINT", "INTEGER", "HUGEINT", "SMALLINT", "TINYINT")


def seen(text: str) -> str:
    """A foreign text for attributes and pictures: unseen characters as their numbers, blanks in quotes."""
    return _UNSEEN.sub(_number, text) if text.strip() else f'"{text}"'


def shown(text: str) -> Markup:
    """A foreign text for a page: as `seen`, what is not in it set apart, and kept from turning the text around it."""
    if not text.strip():
        return Markup('<bdi class="null">"{}"</bdi>').format(text)
    return Markup("<bdi>{}</bdi>").format(_marked(text))


def _marked(text: str) -> Markup:
    return Markup(_UNSEEN.sub(lambda found: f'<span class="null">{_number(found)}</span>', str(escape(text))))  # noqa: S704 - escaped before


def _number(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _figure(text: str | None, column: Column | None = None) -> Markup:
    """A cell as the API writes it; zeros that only fill up the declared decimals are pale."""
    if text is None:
        return Markup('<span class="null">null</span>')
    kind = SqlType.parse(column.type) if column else None
    if not kind or not kind.decimal:
        return escape(text) if column and _numeric(column) else shown(text)
    text = _padded(text, kind.scale)
    found = re.fullmatch(r"(-?\d+)(\.\d*?)(0*)", text)
    if not found or not found[3]:
        return escape(text)
    whole, rest, zeros = found[1], found[2], found[3]
    if rest == ".":
        return Markup('{}<span class="z">.{}</span>').format(whole, zeros)
    return Markup('{}{}<span class="z">{}</span>').format(whole, rest, zeros)


def _padded(text: str, scale: int) -> str:
    if not re.fullmatch(r"-?\d+(\.\d+)?", text) or not scale:
        return text
    whole, _, rest = text.partition(".")
    return f"{whole}.{rest:0<{scale}}"


def _when(at: datetime | str | None) -> Markup:
    if at is None:
        return Markup('<span class="null">never</span>')
    moment = (datetime.fromisoformat(at) if isinstance(at, str) else at).astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        moment.isoformat().replace("+00:00", "Z"), moment.strftime("%-d %b %Y, %H:%M UTC")
    )


def _ago(at: datetime | None) -> str:
    if at is None:
        return ""
    seconds = max(0, int((clock.now() - at).total_seconds()))
    for name, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size:
            count = seconds // size
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"


def _count(number: int) -> Markup:
    return Markup('<data value="{}">{}</data>').format(number, f"{number:,}")


def _rows(number: int) -> str:
    return f"{number:,} row{'' if number == 1 else 's'}"


def _sentence(text: str) -> str:
    """The first sentence of a description."""
    return re.split(r"(?<=[.!?])\s", text.strip(), maxsplit=1)[0]


def _opening(text: str) -> str:
    """A sentence with its capital, unless it begins with a name of the data."""
    return text[:1].upper() + text[1:] if text.partition(" ")[0].isalpha() else text


def _record(text: str) -> Markup:
    """A record's tokens, which may wrap after a comma and not inside a number."""
    return Markup("<bdi>{}</bdi>").format(Markup(",<wbr>").join(_marked(part) for part in text.split(",")))


def _key(values: Sequence[str]) -> Markup:
    return Markup(" · ").join(shown(one) for one in values)


def _numeric(column: Column) -> bool:
    return SqlType.parse(column.type).name in _NUMBERS


def _plain(value: object) -> object:
    """What a page writes: no text of others without its unseen characters shown, whatever a template forgets."""
    return _UNSEEN.sub(_number, value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _exact(text: str) -> Markup:
    """A text as a form sends it back."""
    return Markup(_UNSEEN.sub(lambda found: f"&#{ord(found[0])};", str(escape(text))))  # noqa: S704 - escaped before


templates = Environment(
    loader=PackageLoader("assay.serve.console"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_plain,
    trim_blocks=True,
    lstrip_blocks=True,
)
templates.filters.update(
    figure=_figure, when=_when, ago=_ago, count=_count, rows=_rows, sentence=_sentence, opening=_opening, record=_record,
    exact=_exact, seen=seen, shown=shown, key=_key, word=shlex.quote,
)  # fmt: skip
templates.tests["numeric"] = _numeric
templates.globals.update(standing=None, CONFLICT=CONFLICT, TERMS=TERMS)
templates.globals["ORIGINS"] = {
    "vendor": "as the vendor sent it",
    "sandbox": "from the sandbox, a stand-in for the vendor: real old records, not today's market",
    "synthetic": "made up by a program",
    "decided": "written by a person",
}
templates.globals["COLOURS"] = {
    "running": "good", "paused": "warn", "done": "quiet", "failed": "bad", "cancelled": "quiet", "dead": "bad",
}  # fmt: skip
templates.globals["MEANS"] = {
    "accepted": "they became a version in silver, new or changed",
    "unchanged": "they say what their key's current row says",
    "superseded": "their key was seen since, or their sequence is not newer",
    "duplicate": "a second row of the batch that says the same of its key",
    "quarantined": "rejected, with the reason",
    "held": "their batch's gate is closed: nothing of it is readable",
    "erased": "taken out of every zone by a decision; a tombstone is counted",
    "replaced": "held, and landed again since: that passed",
    "withdrawn": "keys that a complete answer lacks",
    "waiting": "landed and not judged yet",
}
