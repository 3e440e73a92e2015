"""What docs/formats.md shows of evidence and releases is what today's code reads and writes."""

import base64
import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import msgspec
import pytest
from isal import igzip

from assay.build import manifest
from assay.errors import LakeDamaged
from assay.lake import docs, erasures, evidence, formats, keys, release, retention
from assay.lake.evidence import Evidence, Stored
from assay.ports import N, Rejected
from assay.spoken import TERMS
from assay.targets.local import DiskFiles
from tests.conftest import ROOT

EFFECT = "refine.evidence"


def examples(heading: str) -> list[str]:
    """The JSON blocks below a heading of docs/formats.md."""
    text = (ROOT / "docs/formats.md").read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```json\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def files(tmp_path: Path) -> DiskFiles:
    return DiskFiles(tmp_path)


def put(files: DiskFiles, name: str, data: bytes) -> str:
    files.put_new(name, data, EFFECT)
    return hashlib.sha256(data).hexdigest()


def test_the_golden_evidence_is_read_and_would_be_written_so(files: DiskFiles) -> None:
    text, _ = examples("Evidence")
    said = json.loads(text)
    sha256 = put(files, evidence.name_of("price_eod", 41), igzip.compress(text.encode()))
    found, its = evidence.read(files, "price_eod", 41, sha256)
    assert its == sha256
    assert json.loads(igzip.decompress(evidence.encode(found))) == said
    assert {*said} == {*Evidence.__struct_fields__}, "every field is shown"
    assert {key for one in said["verdicts"] for key in one} == {*evidence.Verdict.__struct_fields__}
    for one in found.verdicts:
        terms = sum(getattr(one, term) for term in TERMS)
        assert one.state == "void" or terms == one.rows


def test_the_golden_journal_of_an_erasure_is_read_and_would_be_written_so(files: DiskFiles) -> None:
    [text] = examples("Erasures")
    put(files, erasures.READY, text.encode())
    found = erasures.begun(files)
    assert found is not None
    assert msgspec.json.decode(msgspec.json.encode(found)) == json.loads(text)
    for wrong, told in ((b'{"format":2}', "newer assay"), (b"{}", "no journal of an erasure")):
        files.delete(erasures.READY)
        put(files, erasures.READY, wrong)
        with pytest.raises(LakeDamaged, match=told):
            erasures.begun(files)


def test_the_golden_quarantine_is_read_and_would_be_written_so(files: DiskFiles) -> None:
    _, text = examples("Evidence")
    lines = [json.loads(line) for line in text.splitlines()]
    name = "quarantine/price_eod/000000041-4b227777d4dd1fc6.ndjson.gz"
    sha256 = put(files, name, igzip.compress(text.encode()))
    found = list(evidence.rejected(files, Stored(name, sha256, len(lines))))
    raw = [lines[0]["line"].encode(), base64.b64decode(lines[1]["line_base64"])]
    assert found == [
        Rejected(one["_position"] * N + one["_n"], one["_seq"], tuple(one["reasons"]), line)
        for one, line in zip(lines, raw, strict=True)
    ]
    kept = evidence.keep_rejected(files, "price_eod", 41, found)
    assert kept is not None
    assert igzip.decompress(files.read(kept.name)).decode() == text
    assert list(evidence.rejected(files, kept)) == found


def test_the_golden_release_is_read_and_would_be_written_so(files: DiskFiles) -> None:
    [text] = examples("Release")
    said = json.loads(text)
    put(files, release.name_of(7), text.encode())
    found = release.read(files, 7)
    other = DiskFiles(files.root / "other")
    release.publish(other, found)
    assert json.loads(other.read(release.name_of(7))) == said
    [gold], [silver] = found.gold, found.silver
    for one, shown in ((found, said), (gold, said["gold"][0]), (silver, said["silver"][0])):
        assert {*shown} == {*one.__struct_fields__}, "every field is shown"
    beside = {found.seeds: found.seeds_sha256, found.docs: found.docs_sha256}
    assert found.objects == {gold.serving: gold.serving_sha256} | beside
    assert [*found.parquet] == [silver.current.files[0].name, gold.files[0].name]
    assert (silver.rows, found.origins) == (1004, ("vendor",))


def test_the_golden_documentation_is_read_and_would_be_written_so(files: DiskFiles) -> None:
    [text] = examples("dbt's documentation")
    said = json.loads(text)
    name = docs.name_of("01K0Z7A0000000000000000000")
    sha256 = put(files, name, igzip.compress(text.encode()))
    found = docs.read(files, name, sha256)
    assert json.loads(igzip.decompress(docs.encode(found))) == said
    assert {*said} == {*docs.Docs.__struct_fields__}, "every field is shown"
    with duckdb.connect() as con:
        con.execute("CREATE SCHEMA gold; CREATE TABLE gold.mart_month (month DATE)")
        assert docs.encode(manifest.docs(said["manifest"], con)) == docs.encode(
            docs.Docs(*(msgspec.Raw(msgspec.json.encode(said[one], order="sorted")) for one in ("manifest", "catalog")))
        )
    with pytest.raises(LakeDamaged, match="is not what was written"):
        docs.read(files, name, "0" * 64)
    files.delete(name)
    with pytest.raises(LakeDamaged, match="newer assay"):
        docs.read(files, name, put(files, name, igzip.compress(b'{"format":2}')))


def test_the_golden_key_is_read_and_would_be_written_so(files: DiskFiles) -> None:
    text, revoked = (one.rstrip("\n").encode() for one in examples("API keys"))
    its = hashlib.sha256(text).hexdigest()[:16]
    assert f"`keys/{its}.json`" in (ROOT / "docs/formats.md").read_text()
    put(files, keys.name_of(its), text)
    put(files, keys.revoked_name_of(its), revoked)
    [found] = keys.listed(files)
    for one, shown, kind in ((found.key, text, keys.Key), (found.revoked, revoked, keys.Revoked)):
        assert {*json.loads(shown)} == {*kind.__struct_fields__}, "every field is shown"
        assert msgspec.json.format(msgspec.json.encode(one), indent=1) == shown
    made, _ = keys.create(files, "ci", who="ada")
    stored = files.read(keys.name_of(made.id))
    assert {*json.loads(stored)} == {*keys.Key.__struct_fields__}
    assert made.id == hashlib.sha256(stored).hexdigest()[:16]


def test_the_golden_number_is_read_and_would_be_written_so(files: DiskFiles) -> None:
    [text] = [one.rstrip("\n").encode() for one in examples("Format of the lake")]
    put(files, formats.name_of(formats.FORMAT), text)
    assert f"`{formats.name_of(formats.FORMAT)}`" in (ROOT / "docs/formats.md").read_text()
    assert formats.of(files) == formats.FORMAT
    said = msgspec.json.decode(text, type=formats.Number)
    assert {*json.loads(text)} == {*formats.Number.__struct_fields__}, "every field is shown"
    other = DiskFiles(files.root / "other")
    formats.put(other, formats.FORMAT)
    assert json.loads(other.read(formats.name_of(formats.FORMAT))).keys() == json.loads(text).keys()
    assert formats._encoded(said.lake, said.assay) == text


def test_what_is_stored_says_its_format(files: DiskFiles) -> None:
    made = Evidence(1, None, "x", "refined", "run", datetime(2026, 1, 1, tzinfo=UTC), 0, 1, "0" * 64)
    assert json.loads(igzip.decompress(evidence.encode(made)))["format"] == 1
    found = msgspec.json.decode(examples("Release")[0], type=release.Release)
    release.publish(files, found)
    assert json.loads(files.read(release.name_of(found.number)))["format"] == 1


def test_what_a_newer_assay_wrote_is_named_whatever_it_looks_like(files: DiskFiles) -> None:
    newer = b'{"format":2,"kind":"moved"}'
    put(files, evidence.name_of("x", 1), igzip.compress(newer))
    with pytest.raises(
        LakeDamaged, match=r"000000001\.json\.gz was written by a newer assay \(format 2, this one reads 1\)"
    ):
        evidence.read(files, "x", 1)
    put(files, release.name_of(1), newer)
    with pytest.raises(
        LakeDamaged, match=r"00000001\.json was written by a newer assay \(format 2, this one reads 1\)"
    ):
        release.read(files, 1)
    for text in (b'{"format":1}', b"{", b'{"format":"x"}', b"[]"):
        name = evidence.name_of("x", 2)
        files.delete(name)
        put(files, name, igzip.compress(text))
        with pytest.raises(LakeDamaged, match="is not evidence any more"):
            evidence.read(files, "x", 2)


def test_a_text_that_is_none_any_more_is_damage(files: DiskFiles) -> None:
    [text] = examples("Release")
    name = release.name_of(7)
    put(files, name, text.encode().replace(b'"mart_', b'"\xb0art_'))
    for read in (release.read, retention._pins):
        with pytest.raises(LakeDamaged, match=f"{name} is not a release any more"):
            read(files, 7)
    key, revoked = (one.rstrip("\n").encode() for one in examples("API keys"))
    its = hashlib.sha256(key).hexdigest()[:16]
    put(files, keys.name_of(its), key.replace(b"research", b"\xb0esearch"))
    assert keys.active(files, {}) == {its: None}
    assert keys.listed(files)[0].damaged
    put(files, keys.revoked_name_of(its), revoked.replace(b"ada", b"\xb0da"))
    with pytest.raises(LakeDamaged, match="the key stays revoked"):
        keys.listed(files)


@pytest.mark.parametrize("garbage", [b"", b"garbage", bytes(200)])
def test_evidence_that_is_none_any_more_is_damage(files: DiskFiles, garbage: bytes) -> None:
    assert files.put_new(evidence.name_of("price_eod", 41), garbage, "refine.evidence")
    with pytest.raises(LakeDamaged, match=r"is not evidence any more; restore it from a copy"):
        evidence.read(files, "price_eod", 41)
