"""One value for a SQL type, as DuckDB names it and as contracts, tables, the API and the console use it."""

import re
from dataclasses import dataclass
from functools import lru_cache

_DECIMAL = re.compile(r"(?:DECIMAL|NUMERIC)(?:\((.*)\))?")
_DIGITS = re.compile(r" ?([0-9]{1,3}) ?, ?([0-9]{1,3}) ?")
_TIMED = {"TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"}
_SPELT = {"TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ"}


@dataclass(frozen=True)
class SqlType:
    """A type's one name in capitals, with the digits of a decimal: `str()` gives it back, spelt one way.

    Attributes:
        name: `VARCHAR`, `BIGINT`, `DECIMAL`, `TIMESTAMPTZ` …; a nested type is its whole text.
        precision: how many digits a decimal has at most; 0 for every other type.
        scale: how many of them are decimals; 0 for every other type.
    """

    name: str
    precision: int = 0
    scale: int = 0

    @classmethod
    def parse(cls, text: str) -> "SqlType":
        """Read what DuckDB, Spark or a contract calls a type; ValueError for a decimal that cannot be.

        >>> SqlType.parse("decimal(18, 6)")
        SqlType(name='DECIMAL', precision=18, scale=6)
        >>> str(SqlType.parse("timestamp with time zone"))
        'TIMESTAMPTZ'
        """
        return _parsed(text)

    @property
    def zoned(self) -> bool:
        """Whether its values are moments: a timestamp with a time zone."""
        return self.name == "TIMESTAMPTZ"

    @property
    def timed(self) -> bool:
        """Whether its values are a day and an hour, with a time zone or without."""
        return self.name in _TIMED

    @property
    def decimal(self) -> bool:
        """Whether its values are numbers with a declared scale."""
        return self.name == "DECIMAL"

    def __str__(self) -> str:
        return f"DECIMAL({self.precision},{self.scale})" if self.decimal else self.name


@lru_cache(1024)
def _parsed(text: str) -> SqlType:
    name = " ".join(text.upper().split())
    found = _DECIMAL.fullmatch(name)
    if not found:
        return SqlType(_SPELT.get(name, name))
    digits = _DIGITS.fullmatch(found[1] or "")
    if not digits:
        raise ValueError(f"{text}: a decimal says precision and scale, such as DECIMAL(18,6)")
    precision, scale = int(digits[1]), int(digits[2])
    if not 1 <= precision <= 38 or scale > precision:
        raise ValueError(f"{text}: a decimal has 1 to 38 digits, and no more decimals than digits")
    return SqlType("DECIMAL", precision, scale)
