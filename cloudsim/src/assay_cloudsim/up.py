"""Starts every service as a process of its own on 127.0.0.1, says where they are, and ends them all.

A part is `python -m assay_cloudsim NAME --fd N --port N --options FILE`. Its socket was bound here, so that no port is lost
between looking for a free one and using it. Its stdin is a pipe that is held open here: it ends when this process does.
FILE is below the directory, has mode 0600 and says what the other parts' addresses are:

    {"account": "123456789012", "region": "ca-central-1", "endpoints": {"s3": "http://127.0.0.1:4566", ...}, ...}

A part that binds by itself (`athena`, whose `serve(endpoints, port)` is all that is known of it) is given its port free.
"""

import argparse
import fcntl
import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from assay_cloudsim import tether
from assay_cloudsim.variables import variables

ACCOUNT, REGION = "123456789012", "ca-central-1"
PARTS = {
    "ministack": [
        "s3",
        "dynamodb",
        "secretsmanager",
        "sqs",
        "lambda",
        "apigatewayv2",
        "logs",
        "ssm",
        "sts",
        "iam",
        "kms",
    ],
    "glue": ["glue"],
    "ecs": ["ecs"],
    "athena": ["athena"],
}
"""Which part answers for which of AWS's services, by boto3's names."""
_OWN_BIND = {"athena"}
_STARTING = 60.0  # seconds; a loaded machine imports slowly
_ENDING = 5.0


class Failed(Exception):
    """A sentence for whoever started this."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `up`."""
    parser.add_argument(
        "--directory", type=Path, help="where data, logs and endpoints.json go (a temporary one if left out)"
    )
    parser.add_argument(
        "--port", type=_port, help="the first of the ports, one for each process (free ones if left out)"
    )
    parser.add_argument("--region", default=REGION, help=f"the region of every service (default: {REGION})")
    parser.add_argument(
        "--image",
        type=_image,
        action="append",
        default=[],
        metavar="NAME=DIRECTORY",
        help="a container image that ECS can run: bin in the directory is first in its PATH (repeat for more)",
    )
    parser.add_argument("--capacity", type=_count, default=20, help="tasks of ECS at once (default: 20)")
    parser.add_argument(
        "--throttle", action="store_true", help="let ECS start tasks at no higher rate than Fargate does"
    )
    parser.add_argument(
        "--task-events", metavar="QUEUE", help="SQS queue, by name or URL, to tell of ECS's task states"
    )
    parser.add_argument("--auth", action="store_true", help="let MiniStack refuse what IAM's policies do not allow")
    parser.add_argument("--tethered", action="store_true", help="end when stdin is closed")


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1024 <= int(text) <= 65_000:
        raise argparse.ArgumentTypeError(f"{text} is no port between 1024 and 65000")
    return int(text)


def _image(text: str) -> tuple[str, str]:
    name, _, directory = text.rpartition("=")
    if not name or not Path(directory, "bin").is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not NAME=DIRECTORY with a bin in the directory")
    return name, str(Path(directory).absolute())


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is no number between 1 and 1000")
    return int(text)


def read(path: Path) -> dict[str, Any]:
    """What a part is told."""
    told: dict[str, Any] = json.loads(path.read_bytes())
    return told


def run(asked: argparse.Namespace) -> int:
    """Start all parts, print one line of JSON, and stay until a signal, the end of stdin if tethered, or a part's death."""
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: over.set())
    if asked.tethered:
        tether.follow(patience=2 * _ENDING)
    try:
        with ExitStack() as stack:
            directory = asked.directory or Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="assay-cloudsim-"))
            )
            stack.enter_context(_directory(directory))
            children = stack.enter_context(_started(directory.resolve(), asked))
            told = _ready(children, directory, over)
            if told:
                print(told, flush=True)
            while not over.wait(0.2):
                for child in children:
                    child.look()
    except Failed as failed:
        print(f"assay-cloudsim: {failed}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _directory(directory: Path) -> Iterator[None]:
    """Ours alone for as long as this process lives, however it ends."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("logs", "tmp", "s3", "state", "tasks"):
            (directory / name).mkdir(mode=0o700, exist_ok=True)
        lock = (directory / "lock").open("wb")
    except OSError as error:
        raise Failed(f"{directory} cannot be used: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Failed(f"{directory} is in use: another assay-cloudsim runs there") from None
        told = directory / "endpoints.json"
        told.unlink(missing_ok=True)  # of one that was killed
        try:
            yield
        finally:
            told.unlink(missing_ok=True)


class Part:
    """A child process; `listening` is bound already."""

    def __init__(self, name: str, listening: socket.socket, directory: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.port = listening.getsockname()[1]
        self._log = directory / "logs" / f"{name}.log"
        command = [sys.executable, "-m", "assay_cloudsim", name, "--port", str(self.port)]
        command += ["--options", str(directory / "parts.json")]
        kept = []
        if name not in _OWN_BIND:
            command += ["--fd", str(listening.fileno())]
            kept = [listening.fileno()]
        else:
            listening.close()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=kept,
                start_new_session=True,
            )
        listening.close()

    def look(self) -> None:
        """Failed if the process is gone."""
        code = self._process.poll()
        if code is not None:
            lines = self._log.read_text(errors="replace").strip().splitlines()
            last = f": {lines[-1][:300]}" if lines else ""
            raise Failed(f"{self.name} ended with {code} (see {self._log}){last}")

    def answers(self) -> bool:
        """Whether it serves yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/_ministack/ready" if self.name == "ministack" else "/")
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return status == 200 or self.name != "ministack"

    def end(self) -> None:
        """Ask it to end."""
        with suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        with suppress(ProcessLookupError):
            self._process.terminate()

    def ended(self, until: float) -> None:
        """Wait for its end, and see to it."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, until - time.monotonic()))
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def _started(directory: Path, asked: argparse.Namespace) -> Iterator[list[Part]]:
    names = [n for n in PARTS if n in {"ministack", "glue"} or importlib.util.find_spec(f"assay_cloudsim.{n}")]
    for needed in ("ministack", "moto"):
        if importlib.util.find_spec(needed) is None:
            raise Failed(f"{needed} is not installed beside {sys.executable}: pip install assay-cloudsim there")
    sockets = dict(zip(names, _bound(names, asked.port), strict=True))
    addresses = {n: f"http://127.0.0.1:{s.getsockname()[1]}" for n, s in sockets.items()}
    endpoints = {service: addresses[name] for name in names for service in PARTS[name]}
    options = {
        "account": ACCOUNT,
        "region": asked.region,
        "endpoints": endpoints,
        "images": dict(asked.image),
        "capacity": asked.capacity,
        "throttle": asked.throttle,
        "task_events": asked.task_events,
    }
    _write(directory / "parts.json", json.dumps(options))
    # What MiniStack's Lambda starts inherits its environment, and finds MiniStack by itself.
    elsewhere = variables({service: url for service, url in endpoints.items() if service not in PARTS["ministack"]})
    children: list[Part] = []
    try:
        for name, listening in sockets.items():
            port = listening.getsockname()[1]
            children.append(Part(name, listening, directory, _environment(directory, asked, port) | elsewhere))
        yield children
    finally:
        for child in children:
            child.end()
        until = time.monotonic() + _ENDING
        for child in children:
            child.ended(until)


def _bound(names: list[str], first: int | None) -> list[socket.socket]:
    sockets = []
    for number, name in enumerate(names):
        port = first + number if first else 0
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
        except OSError as error:
            raise Failed(f"port {port} cannot be had for {name}: {error.strerror}; choose another --port") from None
        if name not in _OWN_BIND:
            listening.listen(128)
        sockets.append(listening)
    return sockets


def _environment(directory: Path, asked: argparse.Namespace, port: int) -> dict[str, str]:
    """Nothing of the user's settings and secrets reaches a part; MiniStack's variables are in its README."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "TZ") if name in os.environ}
    return kept | {
        "AUTH": "true" if asked.auth else "false",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_DEFAULT_REGION": asked.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SECRET_ACCESS_KEY": "test",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "HOME": str(directory / "tmp"),
        "IOT_MTLS_ENABLED": "0",  # MQTT, else on 8883 of every address
        "LANG": "C.UTF-8",
        "LOG_LEVEL": "WARNING",
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "MINISTACK_REGION": asked.region,
        "PERSIST_STATE": "0",
        "PYTHONUNBUFFERED": "1",
        "S3_DATA_DIR": str(directory / "s3"),
        "SFTP_ENABLED": "0",
        "STATE_DIR": str(directory / "state"),
        "TASKS_DIR": str(directory / "tasks"),
        "TMPDIR": str(directory / "tmp"),
    }


def _ready(children: list[Part], directory: Path, over: threading.Event) -> str:
    """The line that says where they are, once all answer; empty if that is of no interest any more."""
    until = time.monotonic() + _STARTING
    waiting = list(children)
    while waiting and not over.is_set():
        for child in children:
            child.look()
        waiting = [child for child in waiting if not child.answers()]
        if waiting and time.monotonic() > until:
            raise Failed(f"{waiting[0].name} does not answer after {_STARTING:.0f} s (see {directory / 'logs'})")
        if waiting:
            over.wait(0.05)
    if over.is_set():
        return ""
    options = read(directory / "parts.json")
    told = json.dumps({name: options[name] for name in ("account", "region", "endpoints")})
    _write(directory / "endpoints.json", told + "\n")
    return told


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and for its owner alone."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text)
    new.replace(path)
