"""API keys: of each, its hash, what it reads, until when, and who made it. The key itself is stored nowhere."""

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from secrets import token_urlsafe

import msgspec

from assay.clock import now
from assay.errors import LakeBusy, LakeDamaged, UsageError
from assay.lake.formats import UNREADABLE, refuse_newer
from assay.ports import Files

FORMAT, BEFORE = 1, "assay_"
LONGEST = 100
"""How many characters the name of a key, or of who made it, may have."""
_ID = re.compile(r"[0-9a-f]{16}")
_NAME = re.compile(r"keys/([0-9a-f]{16})(\.revoked)?\.json")
_SHOWN = re.compile(rb"assay_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")


class Key(msgspec.Struct, frozen=True):
    """What is stored of a key: `datasets` is None where it reads all, `expires` where it does so until it is revoked."""

    name: str
    secret_sha256: str
    who: str
    at: datetime
    datasets: tuple[str, ...] | None = None
    expires: datetime | None = None
    format: int = FORMAT

    def good(self, at: datetime) -> bool:
        """Whether it has not expired at a moment."""
        return not self.expires or self.expires > at


class Revoked(msgspec.Struct, frozen=True):
    """That a key is good no more. It is so as soon as this object is there, whatever it holds."""

    who: str
    at: datetime
    format: int = FORMAT


@dataclass(frozen=True)
class Known:
    """A key by its id, and what became of it."""

    id: str
    key: Key
    revoked: Revoked | None = None
    damaged: bool = False

    def state(self, at: datetime) -> str:
        """`active`, `expired` or `revoked` at a moment; `damaged` where it is not what was written, and good for nothing."""
        if self.revoked:
            return "revoked"
        if self.damaged:
            return "damaged"
        return "active" if self.key.good(at) else "expired"


def create(
    files: Files, name: str, *, who: str, datasets: tuple[str, ...] | None = None, expires: datetime | None = None
) -> tuple[Known, str]:
    """A new key, and the text that its holder shows: it is said here and never again.

    UsageError for a name that is none, or an end that has passed.
    """
    _spoken("the name of a key", name)
    _spoken("who makes it (--who)", who)
    if datasets is not None and not datasets:
        raise UsageError("a key that reads no dataset is of no use; name some, or none to let it read all")
    at = now()
    if expires and expires <= at:
        raise UsageError(f"a key that expires at {expires.isoformat()} is good for nothing: that has passed")
    secret = token_urlsafe(32)
    key = Key(name, _hashed(secret.encode()), who, at, datasets, expires)
    data = msgspec.json.format(msgspec.json.encode(key), indent=1)
    its = _id(data)
    if not files.put_new(name_of(its), data, "keys.create"):
        raise LakeBusy("another key has that id by chance; create it again")
    return Known(its, key), f"{BEFORE}{its}_{secret}"


def revoke(files: Files, its: str, *, who: str) -> Known:
    """The key, which is good no more; one that was revoked before stays so, with who did it then.

    UsageError if there is no such key.
    """
    if not _ID.fullmatch(its):  # not quoted: it may be a key
        raise UsageError("a key is revoked by its id, 16 hexadecimal digits, as `assay keys list` shows it")
    if not files.exists(name_of(its)):
        raise UsageError(f"there is no key {its}; `assay keys list` shows those there are")
    _spoken("who revokes it (--who)", who)
    data = msgspec.json.format(msgspec.json.encode(Revoked(who, now())), indent=1)
    files.put_new(revoked_name_of(its), data, "keys.revoke")
    return _known(files, its, gone=True)


def listed(files: Files) -> list[Known]:
    """All keys in the order in which they were made; those that are not what was written first."""
    found = [_known(files, its, gone=gone) for its, gone in _there(files)]
    return sorted(found, key=lambda one: (one.key.at, one.id))


def _known(files: Files, its: str, *, gone: bool) -> Known:
    try:
        key, damaged = _read(files, its), False
    except LakeDamaged as error:
        key, damaged = Key(str(error), "", "", datetime.min.replace(tzinfo=UTC)), True
    return Known(its, key, _revoked(files, its) if gone else None, damaged)


def active(files: Files, known: Mapping[str, Key | None]) -> dict[str, Key | None]:
    """The keys that are not revoked, by id; of those in `known` nothing is read again. Some may have expired.

    One that is not what was written is None: it is good for nothing, and keeps no other from being so.
    """
    found: dict[str, Key | None] = {}
    for its, gone in _there(files):
        if gone:
            continue
        if key := known.get(its):  # what was damaged may be mended
            pass
        else:
            try:
                key = _read(files, its)
            except LakeDamaged:
                key = None
        found[its] = key
    return found


def holder(shown: bytes, known: Mapping[str, Key | None]) -> Key | None:
    """Whose key a text is, of those that are known; None if it is nobody's."""
    said = _SHOWN.fullmatch(shown)
    key = known.get(said[1].decode()) if said else None
    if said is None or key is None or not key.good(now()):
        return None
    return key if hmac.compare_digest(_hashed(said[2]), key.secret_sha256) else None


def until(text: str) -> datetime:
    """The end that `90d`, counted from now, or `2027-01-31`, its midnight in UTC, speaks of; UsageError if it is neither."""
    try:
        if found := re.fullmatch(r"([1-9]\d{0,4})d", text, re.ASCII):
            return now() + timedelta(days=int(found[1]))
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
            return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        pass
    raise UsageError(f"{text[:40]!r} is no end of a key; write 90d, or a day such as 2027-01-31")


def name_of(its: str) -> str:
    """The object name of a key."""
    return f"keys/{its}.json"


def revoked_name_of(its: str) -> str:
    """The object name of what revokes a key."""
    return f"keys/{its}.revoked.json"


def _there(files: Files) -> Iterator[tuple[str, bool]]:
    """The ids of all keys, each with whether it is revoked."""
    found: dict[str, bool] = {}
    for name in files.names("keys/"):
        if said := _NAME.fullmatch(name):
            found[said[1]] = found.get(said[1], False) or bool(said[2])
    # What revokes a key may have outlived it.
    yield from ((its, gone) for its, gone in found.items() if not gone or files.exists(name_of(its)))


def _read(files: Files, its: str) -> Key:
    name = name_of(its)
    data = files.read(name)
    refuse_newer(name, data, FORMAT)
    try:
        found = msgspec.json.decode(data, type=Key)
    except UNREADABLE:
        found = None
    if found is None or _id(data) != its:
        raise LakeDamaged(
            f"{name} is not what was written, and the key is refused; restore it from a copy, or revoke it"
        )
    return found


def _revoked(files: Files, its: str) -> Revoked:
    name = revoked_name_of(its)
    data = files.read(name)
    refuse_newer(name, data, FORMAT)
    try:
        return msgspec.json.decode(data, type=Revoked)
    except UNREADABLE as error:
        raise LakeDamaged(f"{name} is not what was written; the key stays revoked, restore it from a copy") from error


def _spoken(what: str, text: str) -> None:
    """UsageError unless it can be read in a list of keys."""
    if not text.strip() or len(text) > LONGEST or not text.isprintable():
        raise UsageError(f"{what} is 1 to {LONGEST} characters that can be printed, on one line")


def _id(data: bytes) -> str:
    """A key is named by what is stored of it, so that nothing of that can be altered unseen."""
    return hashlib.sha256(data).hexdigest()[:16]


def _hashed(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


__all__ = ["Key", "Known", "Revoked", "active", "create", "holder", "listed", "revoke", "until"]
