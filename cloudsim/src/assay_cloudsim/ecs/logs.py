"""The log driver awslogs: a container's lines as events of its stream in CloudWatch Logs."""

import os
import select
import time
from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

_EVERY = 0.3  # seconds
_EVENTS, _BYTES = 1000, 900_000  # of one PutLogEvents; AWS takes 10,000 and 1,048,576
_LINE = 262_144 - 26  # an event's largest message

Events = list[dict[str, Any]]


class Stream:
    """One stream; made by `open`."""

    def __init__(self, client: Any, options: dict[str, str], container: str, task: str) -> None:
        self._client = client
        self._named = {
            "logGroupName": options["awslogs-group"],
            "logStreamName": f"{options['awslogs-stream-prefix']}/{container}/{task}",
        }
        self._creates = options.get("awslogs-create-group") == "true"

    def open(self) -> None:
        """ClientError if there is no such group."""
        if self._creates:
            with suppress(self._client.exceptions.ResourceAlreadyExistsException):
                self._client.create_log_group(logGroupName=self._named["logGroupName"])
        self._client.create_log_stream(**self._named)

    def put(self, events: Events) -> None:
        """Send them, in as many requests as they need."""
        while events:
            count, size = 0, 0
            while count < min(len(events), _EVENTS) and (count == 0 or size < _BYTES - _LINE):
                size += len(events[count]["message"].encode()) + 26
                count += 1
            self._client.put_log_events(**self._named, logEvents=events[:count])
            events = events[count:]


def follow(descriptor: int, stream: Stream | None) -> None:
    """Read until the end, and put lines into the stream as they come; None for a container whose output nobody keeps."""
    rest, events, sent = b"", Events(), time.monotonic()
    while True:
        ready, _, _ = select.select([descriptor], [], [], _EVERY)
        read = os.read(descriptor, 65_536) if ready else None
        if read:
            *lines, rest = (rest + read).split(b"\n")
            while len(rest) > _LINE:
                lines, rest = [*lines, rest[:_LINE]], rest[_LINE:]
        else:
            lines = [rest] if read == b"" else []
        now = int(time.time() * 1000)
        for line in lines:
            events += [
                {"timestamp": now, "message": line[at : at + _LINE].decode(errors="replace")}
                for at in range(0, len(line), _LINE)
            ]
        if events and (read == b"" or time.monotonic() - sent > _EVERY or len(events) > _EVENTS):
            _put(stream, events)
            events, sent = [], time.monotonic()
        if read == b"":
            return


def _put(stream: Stream | None, events: Events) -> None:
    try:
        if stream:
            stream.put(events)
    except (ClientError, BotoCoreError) as error:  # a deleted group, say; the container goes on, as on AWS
        print(f"logs: {error}", flush=True)
