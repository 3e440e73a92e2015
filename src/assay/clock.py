"""The only clock of the package.

`ASSAY_CLOCK_OFFSET`, in seconds and perhaps negative, moves it: so tests run two machines whose clocks disagree.
"""

import os
import threading
from datetime import UTC, datetime, timedelta

from assay.errors import SettingsError

_last = datetime.min.replace(tzinfo=UTC)
_lock = threading.Lock()


def now() -> datetime:
    """The time in UTC, to the microsecond, never the same or earlier twice within a process."""
    global _last  # noqa: PLW0603 - a clock has one state, and this is the only clock
    with _lock:
        _last = max(datetime.now(UTC) + _offset(), _last + timedelta(microseconds=1))
        return _last


def _offset() -> timedelta:
    # Looked up each time: a process that was forked may have got another one.
    said = os.environ.get("ASSAY_CLOCK_OFFSET")
    if not said:
        return timedelta()
    try:
        return timedelta(seconds=float(said))
    except (ValueError, OverflowError) as error:
        raise SettingsError(f"ASSAY_CLOCK_OFFSET is {said!r}; it is a number of seconds") from error
