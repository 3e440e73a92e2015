"""Objects in an S3 bucket, put only if absent; DuckDB reads copies of them on this machine's disk."""

import hashlib
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore import exceptions
from ulid import ULID

from assay import clock
from assay.crash import effect
from assay.errors import LakeBusy, LakeDamaged, SettingsError
from assay.lake.files import SCRATCH, checked, clear_errors, lost
from assay.targets.aws.clients import Clients, code_of, errors, no_bucket, status_of

PIECE = 16 << 20
"""Bytes of one part of a multipart upload, and of one read of a large object."""
WHOLE = 64 << 20
"""What is larger is uploaded in parts."""
TRIES, PAUSE = 6, 0.1  # of what botocore does not try again: a conditional put that met another, an answer cut off
SMALL, HELD = 1 << 20, 64 << 20
"""Iceberg's metadata no larger than that is held in memory, so many bytes of it: a manifest is asked for up to five times a commit."""
RECENT = 86_400.0  # seconds for which a copy that was used is not taken away: who serves from it may open it again
_METADATA = re.compile(r"warehouse/.*/metadata/.*")
_HASHED = re.compile(r".*-([0-9a-f]{16})(-[0-9]+)?[.](parquet|ndjson[.]gz)")  # names that tell the hash of their bytes
_TAKEN = {"PreconditionFailed", "412"}
_MET = {"ConditionalRequestConflict", "409", "OperationAborted", "NoSuchUpload"}
_SILENT = (exceptions.HTTPClientError, exceptions.ConnectionError)
_CUT_OFF = (
    exceptions.ResponseStreamingError,
    exceptions.IncompleteReadError,
    exceptions.ReadTimeoutError,
    exceptions.FlexibleChecksumError,
)
_GONE = {"NoSuchKey", "404", "NotFound"}


class _Held:
    """Small objects in memory, the longest unused of them gone first; an object never changes, so none is stale."""

    def __init__(self) -> None:
        self._objects: OrderedDict[str, bytes] = OrderedDict()
        self._size, self._lock = 0, threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Held, ()

    def get(self, name: str) -> bytes | None:
        with self._lock:
            if (found := self._objects.get(name)) is not None:
                self._objects.move_to_end(name)
            return found

    def keep(self, name: str, data: bytes) -> None:
        if len(data) > SMALL:
            return
        with self._lock:
            if name not in self._objects:
                self._objects[name] = data
                self._size += len(data)
            while self._size > HELD:
                self._size -= len(self._objects.popitem(last=False)[1])

    def drop(self, name: str) -> None:
        with self._lock:
            self._size -= len(self._objects.pop(name, b""))


@dataclass(frozen=True)
class S3Files:
    """See `assay.ports.Files`: the objects of `bucket` below `prefix`, which ends in a slash.

    A put sends `If-None-Match: *`; whatever it is answered but success, the object is read, and S3 reads what was put last
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html#ConsistencyModel). `disk` is where files in the making and
    copies lie: of the latter, `copies` bytes, those used in the last day aside. What is read in pieces (`verify` does) comes from S3 each time. An object of another account than `account`'s is refused.
    """

    clients: Clients
    bucket: str
    prefix: str
    disk: Path
    account: str = ""
    copies: int = 20 * 10**9
    _proved: set[tuple[str, str]] = field(default_factory=set, init=False, repr=False, compare=False)
    _held: _Held = field(default_factory=_Held, init=False, repr=False, compare=False)
    _seen: list[bool] = field(default_factory=list, init=False, repr=False, compare=False)
    _kept: list[int] = field(default_factory=lambda: [0], init=False, repr=False, compare=False)

    @property
    def base(self) -> str:
        """What the objects' addresses begin with."""
        return f"s3://{self.bucket}/{self.prefix}"

    def put_new(self, name: str, data: bytes | Path, as_effect: str) -> bool:
        key = checked(name)
        try:
            size = len(data) if isinstance(data, bytes) else data.stat().st_size
            with effect(as_effect), errors("s3", self.base + key):
                ours = self._put(key, data, size)
            if ours and isinstance(data, Path):  # who wrote it reads it next, as DuckDB or for its footer
                with suppress(OSError):  # it is in, whatever this disk says of a copy
                    self._have(data, self._copy(key), size)
            elif ours and isinstance(data, bytes) and _METADATA.fullmatch(key):
                self._held.keep(key, data)
            return ours
        finally:
            if isinstance(data, Path):
                data.unlink(missing_ok=True)

    def _put(self, name: str, data: bytes | Path, size: int) -> bool:
        why: Exception | None = None
        for pause in _pauses():
            try:
                if size > WHOLE:
                    self._put_parts(name, data)
                elif isinstance(data, bytes):
                    self._s3.put_object(Body=data, IfNoneMatch="*", **self._of(name))
                else:
                    with data.open("rb") as body:
                        self._s3.put_object(Body=body, ContentLength=size, IfNoneMatch="*", **self._of(name))
            except (exceptions.ClientError, *_SILENT) as error:
                if not _may_be_in(error):
                    raise
                same = self._same(name, data, size)
                if same is not None:
                    return same
                why = error
                time.sleep(pause)
            else:
                return True
        raise LakeBusy(f"s3 does not say whether {self.base}{name} is in; run it again") from why

    def _put_parts(self, name: str, data: bytes | Path) -> None:
        upload = self._s3.create_multipart_upload(ChecksumAlgorithm="CRC32", **self._of(name))["UploadId"]
        of = {"UploadId": upload, **self._of(name)}
        try:
            parts = []
            for number, piece in enumerate(_pieces(data), 1):
                said = self._s3.upload_part(PartNumber=number, Body=piece, ChecksumAlgorithm="CRC32", **of)
                parts.append({"PartNumber": number, "ETag": said["ETag"], "ChecksumCRC32": said.get("ChecksumCRC32")})
            told = [{key: value for key, value in one.items() if value} for one in parts]
            self._s3.complete_multipart_upload(MultipartUpload={"Parts": told}, IfNoneMatch="*", **of)
        except BaseException:
            with suppress(exceptions.ClientError, *_SILENT):  # a rule of the bucket takes away what stays
                self._s3.abort_multipart_upload(**of)
            raise

    def _same(self, name: str, data: bytes | Path, size: int) -> bool | None:
        """Whether the object that is there holds these bytes; None if there is none."""
        if size <= WHOLE:
            found = self._get(name)
            return None if found is None else found == (data if isinstance(data, bytes) else data.read_bytes())
        start = 0
        for piece in _pieces(data):
            found = self._get(name, start, start + len(piece))
            if found is None:
                return None
            if found != piece:
                return False
            start += len(piece)
        return self._get(name, start, start + 1) == b""

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        whole = start == 0 and end is None
        if whole and (held := self._held.get(name)) is not None:
            return held
        with errors("s3", self.base + name):
            if end is not None and end <= start:
                if not self.exists(name):
                    raise lost(name)
                return b""
            found = self._get(checked(name), start, end)
        if found is None:
            raise lost(name)
        if whole and _METADATA.fullmatch(name):
            self._held.keep(name, found)
        return found

    def _get(self, name: str, start: int = 0, end: int | None = None) -> bytes | None:
        span = {} if start == 0 and end is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        why: Exception | None = None
        for pause in _pauses():
            try:
                body = self._s3.get_object(**span, **self._of(name))["Body"]
            except exceptions.ClientError as error:
                if code_of(error) in _GONE:
                    return None
                if code_of(error) in ("InvalidRange", "416"):
                    return b""
                raise
            try:
                data: bytes = body.read()
            except _CUT_OFF as error:
                why = error
                time.sleep(pause)
            else:
                return data
        raise LakeBusy(f"s3 breaks off in {self.base}{name}; run it again") from why

    def local(self, name: str, sha256: str) -> Path:
        return self._proven(name, sha256)

    def url(self, name: str) -> str:
        if told := _HASHED.fullmatch(name):
            return str(self._proven(name, told[1]))
        copy = self._copy(name)
        if not _used(copy):
            self._keep(copy, name)
        return str(copy)

    def _proven(self, name: str, sha256: str) -> Path:
        """The copy whose hash begins so, looked at once in a process: one that rotted, or was cut short, is fetched again."""
        copy = self._copy(name)
        if (name, sha256) in self._proved and _used(copy):
            return copy
        for there in (True, False):
            if not (there and _used(copy)):
                self._keep(copy, name)
            with copy.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found.startswith(sha256):
                self._proved.add((name, sha256))
                return copy
            copy.unlink(missing_ok=True)
        raise LakeDamaged(f"{name} does not have the bytes that were written; restore it from a copy")

    def exists(self, name: str) -> bool:
        with errors("s3", self.base + name):
            try:
                self._s3.head_object(**self._of(checked(name)))
            except exceptions.ClientError as error:
                if code_of(error) in _GONE:
                    self._bucket_is_there()
                    return False
                raise
        return True

    def _bucket_is_there(self) -> None:
        """SettingsError where it is not: to HEAD, S3 says no more of a missing bucket than of a missing object. It is asked once."""
        if self._seen:
            return
        try:
            self._s3.head_bucket(Bucket=self.bucket, **self._owner)
        except exceptions.ClientError as error:
            if code_of(error) in _GONE:
                raise SettingsError(no_bucket(self.bucket)) from error
            raise
        self._seen.append(True)

    def names(self, prefix: str, after: str = "") -> Iterator[str]:
        start = {"StartAfter": self.prefix + after} if after else {}
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix + prefix, **self._owner, **start
        )
        with errors("s3", f"{self.base}{prefix}*"):
            for page in pages:
                for one in page.get("Contents", ()):
                    yield one["Key"].removeprefix(self.prefix)

    def delete(self, name: str) -> None:
        self._held.drop(name)
        with errors("s3", self.base + name):
            self._s3.delete_object(**self._of(checked(name)))

    def scratch(self) -> Path:
        with clear_errors(self.disk):
            (self.disk / SCRATCH).mkdir(parents=True, exist_ok=True, mode=0o700)
        return self.disk / SCRATCH / str(ULID())

    @property
    def _s3(self) -> Any:
        return self.clients("s3")

    @property
    def _owner(self) -> dict[str, str]:
        return {"ExpectedBucketOwner": self.account} if self.account else {}

    def _of(self, name: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.prefix + name, **self._owner}

    def _copies(self) -> Path:
        where = self.disk / "copies"
        with clear_errors(self.disk):
            where.mkdir(parents=True, exist_ok=True, mode=0o700)
        return where

    def _copy(self, name: str) -> Path:
        """Where the copy of an object lies, if there is one."""
        of = hashlib.sha256((self.base + checked(name)).encode()).hexdigest()
        return self._copies() / f"{of[:32]}-{name.rpartition('/')[2]}"

    def _keep(self, copy: Path, name: str) -> None:
        """Copy an object to this disk, whole before it has its name; of two that do, both have the same bytes."""
        made = self.scratch()
        try:
            with clear_errors(self.disk), errors("s3", self.base + name), made.open("wb") as file:
                start = 0
                while True:
                    piece = self._get(checked(name), start, start + PIECE)
                    if piece is None:
                        raise lost(name)
                    file.write(piece)
                    start += len(piece)
                    if len(piece) < PIECE:
                        break
            self._have(made, copy, start)
        finally:
            made.unlink(missing_ok=True)

    def _have(self, made: Path, copy: Path, size: int) -> None:
        """A finished file becomes the copy; now and then those that are too many go."""
        with made.open("rb") as file:
            os.fsync(file.fileno())
        made.replace(copy)
        self._kept[0] += size
        if self._kept[0] > self.copies // 10:
            self._kept[0] = 0
            _forget(copy.parent, self.copies)


def _pauses() -> Iterator[float]:
    for attempt in range(TRIES):
        yield PAUSE * 2**attempt


def _may_be_in(error: Exception) -> bool:
    """Whether a put may be in although it was answered so, or is, or another's."""
    if not isinstance(error, exceptions.ClientError):
        return True
    again = error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)  # of which the first may have been taken
    return bool(again) or code_of(error) in _TAKEN | _MET or status_of(error) in (409, 412) or status_of(error) >= 500


def _used(copy: Path) -> bool:
    """Whether there is such a copy, which counts as used now."""
    try:
        os.utime(copy)
    except FileNotFoundError:
        return False
    return True


def _pieces(data: bytes | Path) -> Iterator[bytes]:
    if isinstance(data, bytes):
        for start in range(0, len(data), PIECE):
            yield data[start : start + PIECE]
    else:
        with data.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece


def _forget(copies: Path, most: int) -> None:
    """Take copies away, those first that were not used for longest, until they have `most` bytes."""
    found = []
    for one in copies.iterdir():
        with suppress(FileNotFoundError):
            has = one.stat()
            found.append((has.st_mtime, has.st_size, one))
    there, recent = sum(size for _, size, _ in found), clock.now().timestamp() - RECENT
    for used, size, one in sorted(found):
        if there <= most or used > recent:
            break
        one.unlink(missing_ok=True)
        there -= size
