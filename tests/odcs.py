"""ODCS 3.1's own JSON schema, key by key, and the table of docs/contract.md that says what becomes of each here.

The schema is tests/fixtures/odcs-json-schema-v3.1.0.json, whose origin and licence stand beside it.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from assay.contract import keys
from tests.conftest import ROOT

SCHEMA = json.loads((ROOT / "tests/fixtures/odcs-json-schema-v3.1.0.json").read_text())


def every_key() -> dict[str, Mapping[str, Any]]:
    """Every key that a contract may hold, by its path, and what the schema says of its value."""
    out: dict[str, Mapping[str, Any]] = {}
    for path, said in _walk(SCHEMA, "", ()):
        out.setdefault(path, said)
    return out


def _walk(node: Mapping[str, Any], path: str, within: tuple[str, ...]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The keys below a node; what holds itself is followed once."""
    if ref := node.get("$ref"):
        if ref not in within:
            yield from _walk(_referred(ref), path, (*within, ref))
        return
    for name, said in node.get("properties", {}).items():
        below = f"{path}.{name}" if path else name
        yield below, _resolved(said)
        yield from _walk(said, below, within)
    if isinstance(node.get("items"), dict):
        yield from _walk(node["items"], f"{path}[]", within)
    for one in (part for name in ("allOf", "anyOf", "oneOf") for part in node.get(name, ())):
        yield from _walk(one, path, within)
    if "then" in node:
        yield from _walk(node["then"], path, within)


def _referred(ref: str) -> Mapping[str, Any]:
    node: Any = SCHEMA
    for part in ref.removeprefix("#/").split("/"):
        node = node[part]
    return node


def _resolved(node: Mapping[str, Any]) -> Mapping[str, Any]:
    return _resolved(_referred(node["$ref"])) if "$ref" in node else node


def table() -> str:
    """The rows of docs/contract.md: what becomes of a key has one; keys below it that share its fate stand in one beneath."""
    rows: list[str] = []
    below: dict[str, list[str]] = {}
    for path in every_key():
        if "schema[].properties[].quality[]" in path:
            continue  # as at the table
        found = keys.meaning(path)
        assert found, f"{path}: ODCS knows it, and contract/keys.py does not"
        if path in keys.KEYS:
            rows.append(path)
        else:
            above, _, name = path.rpartition(".")
            below.setdefault(above, []).append(name)
    out = ["| key | | meaning here |", "|---|---|---|"]
    left = dict(below)
    for path in sorted(rows, key=list(keys.KEYS).index):
        found = keys.KEYS[path]
        out.append(f"| `{path}` | {found.fate} | {found.said or 'with the contract'} |")
        for above in [one for one in left if one in (path, f"{path}[]") or one.startswith((f"{path}.", f"{path}["))]:
            names = ", ".join(f"`{name}`" for name in left.pop(above))
            out.append(f"| `{above}.` {names} | {found.fate} | as `{path}` |")
    assert not left, left
    return "\n".join(out) + "\n"
