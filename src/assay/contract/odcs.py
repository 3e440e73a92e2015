"""Contracts as files of ODCS 3.1 YAML: each text is checked once, and known by its hash from then on."""

import contextlib
import hashlib
import os
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path

import msgspec

from assay.contract import calendars
from assay.contract.calendars import Calendar
from assay.contract.model import Contract
from assay.errors import ContractError, SettingsError

# what decides about a text, so that a kept contract is never one that today's checks would refuse
_DECIDES = (
    "settings.py",
    "contract/calendars.py",
    "contract/model.py",
    "contract/syntax.py",
    "contract/keys.py",
    "contract/lines.py",
    "contract/quality.py",
    "contract/rules.py",
    "contract/spelling.py",
    "guard.py",
    "sqltypes.py",
    "windows.py",
)


def read(path: Path, kept: Path | None = None) -> Contract:
    """The contract in a file, its calendar beside it; ContractError with file, line and remedy if it cannot be one."""
    if path.suffix != ".yaml":
        raise ContractError(f"{path.name}: is not read; a contract's name ends in .yaml")
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ContractError(f"{path}: is no file that can be read; take it away")
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ContractError(f"{path.name}:{line}: not UTF-8; save the file as UTF-8") from error
    except OSError as error:
        raise ContractError(f"{path}: cannot be read: {error.strerror}") from error
    found = parse(text, path.name, path, kept)
    if ("price.priceUnit", "call") in found.shown and not found.price:
        line = next((n for n, one in enumerate(text.splitlines(), 1) if one.startswith("price")), 1)
        raise ContractError(
            f"{path.name}:{line}: price: that of a call is a priceAmount of 0 or more, and a priceCurrency of ISO 4217 such as USD"
        )
    if found.calendar:
        raise ContractError(
            f"{path.name}:1: a second document behind the contract; a calendar is a file of its own, {found.calendar.file}"
        )
    return _with(found, _beside(found, path), path.name) if found.days else found


def _beside(contract: Contract, path: Path) -> Calendar:
    """The calendar that a contract names, as the lake of its file has it."""
    there = path.parent.parent / "calendars"
    at = there / f"{contract.days}.csv"
    if at.exists() and not at.is_file():  # a pipe would be waited for
        raise ContractError(f"calendars/{contract.days}.csv: is no file that can be read; take it away")
    try:
        return calendars.read(at)
    except FileNotFoundError:
        names = ", ".join(sorted(one.stem for one in there.glob("*.csv"))) or "none"
        raise ContractError(
            f"{path.name}:{_line(contract)}: calendar: there is no calendars/{contract.days}.csv (there is {names}); write "
            f"it, or `assay calendar {contract.days}` does where that is an exchange's; weekdays needs none"
        ) from None
    except OSError as error:
        raise ContractError(f"calendars/{contract.days}.csv: cannot be read: {error.strerror}") from error


def _with(contract: Contract, calendar: Calendar, name: str) -> Contract:
    """A contract with its calendar, in its text too; ContractError where the two are about other clocks."""
    found = replace(contract, calendar=calendar, text=calendars.attached(contract.text, calendar))
    if found.early and contract.known_at and contract.known_at.zone != calendar.zone:
        raise ContractError(
            f"{name}:{_line(contract)}: calendar: the half days of {calendar.file} are of {calendar.zone}, and knownAt is of "
            f"{contract.known_at.zone}; say knownAt in the calendar's zone"
        )
    return found


def _line(contract: Contract) -> int:
    """Where a contract names its calendar."""
    named = re.compile(rf"\b{re.escape(contract.days)}\b")
    before = ""
    for n, line in enumerate(contract.text.splitlines(), 1):
        if named.search(line) and "calendar" in before + line:
            return n
        before = line
    return 1


def read_all(directory: Path, kept: Path | None = None) -> dict[str, Contract]:
    """Every contract of a directory, by dataset; ContractError with all that is wrong in any, or if two claim one dataset.

    `kept` is a directory of contracts that were checked before, by the hash of their text: what is there is taken
    from there, at a hundredth of the cost, and what is not is put there. It can be deleted at any time.
    """
    found, wrong = read_each(directory, kept)
    if wrong:
        raise ContractError(*(line for one in wrong for line in one.args))
    return found


def read_each(directory: Path, kept: Path | None = None) -> tuple[dict[str, Contract], list[ContractError]]:
    """The contracts of a directory that can be read, and of each other file what is wrong in it."""
    found: dict[str, Contract] = {}
    wrong: list[ContractError] = []
    for path in _listed(directory):
        try:
            contract = read(path, kept)
            _alone(contract, path, found)
        except ContractError as error:
            if str(error) not in map(str, wrong):  # of a calendar that several have
                wrong.append(error)
        else:
            found[contract.dataset] = contract
    return found, wrong


def _listed(directory: Path) -> list[Path]:
    """The contracts' files; SettingsError where they cannot be seen."""
    try:
        return sorted(one for one in directory.iterdir() if one.suffix in (".yaml", ".yml"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingsError(f"{directory} cannot be read: {error.strerror}; it holds the contracts") from error


def _alone(contract: Contract, path: Path, others: Mapping[str, Contract]) -> None:
    """ContractError if the names of a dataset's tables are another's too."""
    for ending in ("_versions", "_past"):
        base = contract.dataset.removesuffix(ending)
        if (base != contract.dataset and base in others) or f"{contract.dataset}{ending}" in others:
            raise ContractError(
                f"{path.name}:1: {contract.dataset}: of a dataset x, x_versions and x_past are the lake's own; "
                "give one of the two another id"
            )
    if contract.dataset in others:
        raise ContractError(f"{path.name}:1: {contract.dataset} is also promised by {others[contract.dataset].path}")


@lru_cache(1024)
def parse(text: str, name: str = "contract", path: Path | None = None, kept: Path | None = None) -> Contract:
    """The contract in a text, the same object for the same arguments; `name` is what complaints call it.

    Its calendar is there if the text has one behind it, as what the lake keeps; of a file, `read` looks for it.
    """
    said, calendar = calendars.parted(text, name)
    if calendar:
        found = parse(said, name, path, kept)
        if found.days != calendar.name:
            raise ContractError(
                f"{name}:{_line(found)}: calendar: {found.days or 'none'} is named, {calendar.name} is with it"
            )
        return _with(found, calendar, name)
    at = kept / f"{_id(text)}.json" if kept else None
    taken = _taken(at, text) if at else None
    if not taken:
        from assay.contract import syntax  # YAML, pydantic and the SQL parser, for texts that nobody checked before

        taken = syntax.parse(text, name)
        if at:
            _keep(at, taken)
    return replace(taken, path=path)


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A kept contract and the sha256 of its bytes: a changed one is none."""

    sha256: str
    contract: msgspec.Raw


@cache
def _code() -> bytes:
    return b"".join(hashlib.sha256(pkgutil.get_data("assay", name) or b"").digest() for name in _DECIDES)


def _id(text: str) -> str:
    return hashlib.sha256(_code() + text.encode(errors="surrogatepass")).hexdigest()


def _taken(at: Path, text: str) -> Contract | None:
    """The kept contract of a text; None where none is there or it is not what was kept."""
    try:
        found = msgspec.json.decode(at.read_bytes(), type=_Kept)
        if hashlib.sha256(found.contract).hexdigest() != found.sha256:
            return None
        contract = msgspec.json.decode(found.contract, type=Contract)
    except (OSError, msgspec.MsgspecError, UnicodeError):
        return None
    return contract if contract.text == text else None


def _keep(at: Path, contract: Contract) -> None:
    """Keep a contract that JSON gives back as it is; a directory that cannot be written costs time and nothing else."""
    try:
        data = msgspec.json.encode(contract)
        if msgspec.json.decode(data, type=Contract) != contract:  # options may hold what JSON cannot, such as days
            return
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError):
        return
    import tempfile

    with contextlib.suppress(OSError):
        at.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=at.parent, prefix=".")
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(_Kept(hashlib.sha256(data).hexdigest(), msgspec.Raw(data))))
        Path(temporary).replace(at)
