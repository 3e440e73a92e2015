"""What is wrong in a dbt project's yml files by themselves: dbt tells one such thing at a time, and passes over a misspelt key."""

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SUFFIXES = (".yml", ".yaml")
_PLACES = (("model-paths", "models"), ("seed-paths", "seeds"), ("test-paths", "tests"), ("snapshot-paths", "snapshots"),
           ("macro-paths", "macros"), ("analysis-paths", "analyses"))  # fmt: skip
# Keys that dbt still reads where its own list of keys has them no more.
_STILL = {
    "meta",
    "tags",
    "docs",
    "access",
    "group",
    "latest_version",
    "freshness",
    "loader",
    "loaded_at_field",
    "overrides",
}
_PACKAGES = ("packages.yml", "dependencies.yml")
_WHERE_NAMED = {"models": (".sql", ".py"), "seeds": (".csv",)}


class Unreadable(str):
    """A complaint about a file that dbt cannot read either."""

    __slots__ = ()


def wrong(project: Path, files: Sequence[Path], seeds: Sequence[Path]) -> list[str]:
    """All complaints about yml files, each with file and line: what is no YAML, a key twice, a key that dbt does not know,
    a model or seed that no file holds; packages, which a build does not install.

    `files` are the project's, `seeds` those that lie beside it.
    """
    try:
        said = yaml.load((project / "dbt_project.yml").read_bytes(), _LOADER)  # noqa: S506 - it is the safe one
    except (yaml.YAMLError, UnicodeDecodeError):
        said = None
    said = said if isinstance(said, dict) else {}
    places = [str(one) for name, usual in _PLACES for one in said.get(name) or [usual]]
    inside = [one for one in files if any(one.is_relative_to(project / place) for place in places)]
    held = [*inside, *seeds]
    stems = {kind: {f.stem for f in held if f.suffix in suffixes} for kind, suffixes in _WHERE_NAMED.items()}
    found: list[str] = []
    for file in files:
        if file == project / "dbt_project.yml":
            # What stands below its keys are names of the project's own.
            keys = dict.fromkeys(_schema("project")["properties"], True)
            found += _file(file, project, {"properties": keys, "additionalProperties": False}, {})
        elif file.parent == project and file.name in _PACKAGES:
            what = "a lake's build installs no packages; copy the macros that you need into macros/, and take this file away"
            found.append(Unreadable(f"{file.name}: {what}"))
        elif file.suffix in _SUFFIXES and file in inside:
            found += _file(file, project, _schema("resources"), stems)
    return found


def _file(file: Path, project: Path, schema: Mapping[str, Any], stems: Mapping[str, set[str]]) -> Iterator[str]:
    name = file.relative_to(project).as_posix()
    try:
        text = file.read_bytes().decode()
        node = yaml.compose(text, _LOADER)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        yield Unreadable(f"{name}:{line}: not UTF-8; save the file as UTF-8")
        return
    except yaml.YAMLError as error:
        yield Unreadable(f"{name}{_no_yaml(error, text)}")
        return
    if node is None:
        return
    if not isinstance(node, yaml.MappingNode):
        yield Unreadable(f"{name}:{node.start_mark.line + 1}: a yml of dbt begins with keys, such as `models:`")
        return
    for line, what in _unknown(node, schema, schema.get("definitions", {})):
        yield f"{name}:{line}: {what}"
    for line, what in _unnamed(node, stems):
        yield f"{name}:{line}: {what}"


def _no_yaml(error: yaml.YAMLError, text: str) -> str:
    """The place and the cause of text that is no YAML."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f": not YAML: {' '.join(str(error).split())}"
    lines = text.split("\n")
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return f":{mark.line + 1}: not YAML: a tab stands before the text; indent with blanks"
    problem = getattr(error, "problem", None) or "it cannot be read"
    return f":{mark.line + 1}: not YAML: {problem}; is the line indented as its neighbours are, and each quote and bracket closed?"


def _unknown(
    node: yaml.Node, schema: Mapping[str, Any] | bool, definitions: Mapping[str, Any]
) -> Iterator[tuple[int, str]]:
    """Keys that the schema does not know, or that stand twice, with their lines."""
    ways = list(_ways(schema, definitions))
    if isinstance(node, yaml.SequenceNode):
        for one in node.value:
            for way in ways:
                if isinstance(way.get("items"), dict):
                    yield from _unknown(one, way["items"], definitions)
                    break
    if not isinstance(node, yaml.MappingNode):
        return
    mappings = [way for way in ways if "properties" in way or way.get("type") in ("object", ["object", "null"])]
    known = {name: part for way in mappings for name, part in way.get("properties", {}).items()}
    closed = bool(mappings) and all(way.get("additionalProperties") is False for way in mappings)
    seen: set[str] = set()
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in seen:
            yield line, f"`{name}` stands here twice, and dbt reads the last"
        seen.add(name)
        if name in known:
            yield from _unknown(value, known[name], definitions)
        elif closed and name not in _STILL and name != "<<":
            near = get_close_matches(name, known, 1)
            yield (
                line,
                f"dbt knows no `{name}` here{f'; did you mean `{near[0]}`?' if near else ', and passes over it'}",
            )
        elif not closed and (near := get_close_matches(name, known, 1, 0.85)):
            yield line, f"dbt knows no `{name}` here; did you mean `{near[0]}`?"


def _ways(schema: Mapping[str, Any] | bool, definitions: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The schemas that a value may follow."""
    if isinstance(schema, bool):
        yield {}
        return
    if "$ref" in schema:
        yield from _ways(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        return
    several = [one for word in ("anyOf", "oneOf", "allOf") for one in schema.get(word, ())]
    for one in several:
        yield from _ways(one, definitions)
    if not several or "properties" in schema:
        yield schema


def _unnamed(node: yaml.MappingNode, stems: Mapping[str, set[str]]) -> Iterator[tuple[int, str]]:
    """Models and seeds that are described and that no file holds."""
    for key, listed in node.value:
        if key.value not in stems or not isinstance(listed, yaml.SequenceNode):
            continue
        for one in listed.value:
            said = {k.value: v for k, v in one.value} if isinstance(one, yaml.MappingNode) else {}
            name = said.get("name")
            if name is None or "versions" in said or name.value in stems[key.value]:
                continue
            near = get_close_matches(name.value, stems[key.value], 1)
            file = f"{name.value}{_WHERE_NAMED[key.value][0]}"
            yield name.start_mark.line + 1, f"there is no {file}{f'; did you mean `{near[0]}`?' if near else ''}"


@cache
def _schema(kind: str) -> dict[str, Any]:
    """The keys that dbt knows, as it ships them."""
    folder = Path(str(metadata.distribution("dbt-core").locate_file(f"dbt/jsonschemas/{kind}")))
    newest = max(
        folder.glob("*.json"),
        key=lambda one: (one.stem == "latest", [int(n) for n in one.stem.split(".") if n.isdigit()]),
    )
    found: dict[str, Any] = json.loads(newest.read_bytes())
    return found
