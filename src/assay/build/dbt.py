"""Runs dbt in processes of its own: one imports it, which takes longer than most builds, and each run is a fork of that."""

import atexit
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TextIO, cast

from assay.errors import SettingsError

# Its standard input is a pipe that this process holds: it ends when this process does, however that died. A run is a
# fork of it, so that none knows of another, and ends with either of both; dbt itself reads an empty standard input.
# What dbt imports and computes only when it runs, and is the same for any project, is there before the first fork.
_PROGRAM = """
import contextlib, json, os, select, signal, sys, threading
from dbt.cli.main import cli
with contextlib.suppress(ImportError, AttributeError):
    import dbt.adapters.duckdb.impl, dbt.task.build
    from dbt.adapters.duckdb.credentials import DuckDBCredentials
    from dbt.contracts.project import Configuration, PackageConfig, ProfileConfig, Project, ProjectFlags
    from dbt.contracts.selection import SelectorFile
    for one in Configuration, DuckDBCredentials, PackageConfig, ProfileConfig, Project, ProjectFlags, SelectorFile:
        one.json_schema()
signal.signal(signal.SIGINT, signal.SIG_IGN)
for line in sys.stdin.buffer:
    token, work, args, environment = json.loads(line)
    mine, parents = os.pipe()
    if pid := os.fork():
        os.close(mine)
        print(f"\\n{token} {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}", flush=True)
        os.close(parents)
        continue
    os.close(parents)
    held = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    threading.Thread(target=lambda: select.select([held, mine], [], []) and os._exit(1), daemon=True).start()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update({"HOME": work, "TMPDIR": work, **environment})
    os.chdir(work)
    sys.exit(cli(args))
"""
PATIENCE = 10
"""Seconds that it has to end by itself."""
_FLAGS = ("--quiet", "--no-use-colors", "--no-version-check")
_NOISE = re.compile(
    r"nanobind: |.*resource_tracker: There appear|  warnings\.warn\('resource_tracker| - leaked (instance|type|function) | - \.\.\. skipped remainder|See https://nanobind\."
)
# The file's own lines, which its author has; rules; and that there is an error, which whoever reads this knows.
_QUOTED = re.compile(
    r"\s*(\d+ +\|.*|-{5,}|Raw Error:|Encountered an error:|LINE \d+: .*|\^|compiled code at .*|> (in macro|called by) .*|)\s*$"
)
_TRACE, _TIME, _COLOUR = (
    re.compile(r"^Traceback \(most recent call last\):$", re.MULTILINE),
    re.compile(r"^(\d\d:){2}\d\d +", re.MULTILINE),
    re.compile(r"\x1b\[[\d;]*m"),
)
_WHOLE_YAML = re.compile(r" @ [\w ]+: \{.*\}(?= - at path)")
_LINE = re.compile(r"\n +line (\d+)\n.*$", re.MULTILINE)
_PACKAGES = ' This can happen when calling a macro that does not exist. Check for typos and/or install package dependencies with "dbt deps".'
_OF_NODE = re.compile(r"(\w+ Error )*in (?P<kind>[a-z ]+) (?P<name>\S+) \((?P<file>.+?)\) ")
_OF_MODEL = re.compile(r"(\w+ Error )*(?P<kind>[A-Z][a-z ]+) '\w+\.\w+\.(?P<name>\S+)' \((?P<file>.+?)\) ")
_TEST = re.compile(r"'test_(\w+)' is undefined\.?")
_PLACES = ("--profiles-dir", ".", "--project-dir", ".")


class _Dbt(NamedTuple):
    process: subprocess.Popen[str]
    asked: TextIO
    said: TextIO

    def end(self) -> None:
        """Let go of it: what runs in it has ended when this returns."""
        try:
            self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:  # a fork of this process holds its standard input too
            self.process.kill()
            self.process.communicate()


def sentence(printed: str) -> str:
    """What dbt says is wrong, as one line that begins with the file.

    Without the YAML and SQL that it quotes, where in dbt it happened, and what a lake cannot follow (`dbt deps`).
    """
    said = _TRACE.split(_TIME.sub("", _COLOUR.sub("", printed)))[0]
    jinja = _LINE.search(said)
    kept = (line.strip() for line in _LINE.sub("", said).splitlines() if not _QUOTED.match(line))
    told = _WHOLE_YAML.sub("", " ".join(kept)).replace(_PACKAGES, "")
    if found := _OF_NODE.match(told):
        told = (
            f"{found['file']}{f':{jinja[1]}' if jinja else ''}: {found['kind']} {found['name']}: {told[found.end() :]}"
        )
    elif found := _OF_MODEL.match(told):
        told = f"{found['file']}: {found['kind'].lower()} {found['name']} {told[found.end() :]}"
    return _TEST.sub(r"there is no test \1", told)


_waiting: dict[int, _Dbt] = {}  # by the process that started it: a fork has none of its parent's


def ready() -> None:
    """Start the process for the next run, which imports dbt while this one does something else."""
    mine = os.getpid()
    if mine not in _waiting:
        with suppress(SettingsError):  # the run will say it
            _waiting[mine] = _start()


def run(work: Path, command: str, *options: str, environment: Mapping[str, str] | None = None) -> str | None:
    """Run a dbt command on the project in `work`, with variables beside its own; None if it went well, else what it printed.

    Runs at once are apart from each other. SettingsError if no process can be started.
    """
    token, mine = secrets.token_hex(8), os.getpid()
    dbt = _waiting.pop(mine, None) or _start()
    if dbt.process.poll() is not None:  # somebody ended it while it waited
        dbt.end()
        dbt = _start()
    said: list[str] = []
    try:
        with suppress(BrokenPipeError):  # its end is told below
            dbt.asked.write(
                json.dumps([token, str(work), [*_FLAGS, command, *_PLACES, *options], dict(environment or {})]) + "\n"
            )
            dbt.asked.flush()
        for line in dbt.said:
            if line.startswith(token):
                if _waiting.setdefault(mine, dbt) is not dbt:
                    dbt.end()
                return _without_noise(said) if line.split()[1] != "0" else None
            said.append(line)
    except BaseException:
        dbt.end()
        raise
    dbt.end()
    return _without_noise([*said, f"the process that runs dbt ended with {dbt.process.returncode}"])


def _without_noise(lines: Iterable[str]) -> str:
    """What dbt said, but for what a library of its says of itself when a process ends, and nobody can act on."""
    return "".join(line for line in lines if not _NOISE.match(line)).strip()


def _start() -> _Dbt:
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": "/",
        "TZ": "UTC",
        "LANG": "C.UTF-8",
        "DO_NOT_TRACK": "1",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    pipe = subprocess.PIPE
    try:
        # Not `-m`: Python would warn that the module is imported already. `-P` keeps the project off the import path.
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM], env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT,
            text=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise SettingsError(f"{sys.executable} cannot be started for dbt: {error.strerror}") from error
    return _Dbt(process, cast("TextIO", process.stdin), cast("TextIO", process.stdout))


@atexit.register
def end() -> None:
    """End the process that waits for this one's next run, if one does."""
    if dbt := _waiting.pop(os.getpid(), None):
        dbt.process.kill()  # it does nothing, or imports dbt for a run that did not come
        dbt.end()
