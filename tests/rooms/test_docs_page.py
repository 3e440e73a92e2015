"""dbt's documentation page over HTTP: of the release that is served, for who reads everything, in an origin of its own."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from isal import igzip
from msgspec import structs

from assay.lake import docs, keys, release
from assay.run.lake import Lake as RealLake
from assay.serve.console import dbtdocs
from tests.rooms import serving_lake
from tests.rooms.serving_lake import Lake, Table

# What no project says of itself: the machine's, the user's, the run's.
STRANGERS = ("0a1b", "/home/ada")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    made = serving_lake.build(tmp_path_factory.mktemp("docs"))
    yield made
    made.close()


def texts(page: str) -> list[Any]:
    """The manifest and the catalog in a page, as its script has them."""
    decoder, out = json.JSONDecoder(), []
    for mark in ("n={manifest:", ",catalog:"):
        found = page.index(mark) + len(mark)
        value, end = decoder.raw_decode(page, found)
        out.append(value)
        page = page[end:]
    return out


def test_the_page_is_of_the_release_and_a_stranger_to_the_console(lake: Lake) -> None:
    with serving_lake.serving(lake, every=0) as url, serving_lake.client(url) as http:
        answer = http.get("/dbt")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        [policy] = answer.headers.get_list("content-security-policy")
        said = dict(one.strip().partition(" ")[::2] for one in policy.split(";"))
        assert said.pop("sandbox") == "allow-scripts"
        assert {name: said.pop(name) for name in ("script-src", "style-src")} == {
            "script-src": "'unsafe-inline'", "style-src": "'unsafe-inline'"
        }  # fmt: skip
        assert {name: said.pop(name) for name in ("img-src", "font-src")} == {"img-src": "data:", "font-src": "data:"}
        assert said.keys() == {"default-src", "base-uri", "form-action", "frame-ancestors"}
        assert {*said.values()} == {"'none'"}
        assert answer.headers.get_list("cross-origin-opener-policy") == ["unsafe-none"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        page, number = answer.text, answer.headers["x-assay-release"]
        assert f"<title ng-non-bindable>Test lake, release {number}</title>" in page
        assert f">Test lake</a>, release {number}, <time" in page
        manifest, catalog = texts(page)
        assert {one["name"] for one in manifest["nodes"].values()} == {"fct_price", "mart_known"}
        assert catalog["nodes"]["model.test.fct_price"]["columns"]["open"]["type"] == "DECIMAL(18,6)"
        assert not [one for one in STRANGERS if one in page]
        assert page.count("</script") == b"".join(dbtdocs._template()).decode().count("</script"), (
            "no text of the project ends the script"
        )
        for path in ("/", "/gold/fct_price"):
            there = http.get(path)
            assert there.headers.get_list("content-security-policy") == [
                "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
            ]
            assert there.headers.get_list("cross-origin-opener-policy") == ["same-origin"]
            assert '<a href="/dbt">' in there.text
        assert http.get("/dbt?x=1").status_code == 400
        assert http.post("/dbt").status_code == 405
        # What the page may try: a browser says of an origin of its own that it is null.
        assert http.get("/v1/gold", headers={"origin": "null"}).status_code == 403

        before = release.current(lake.local.files)
        assert before
        again = lake.release(before.number + 1)
        assert (again.docs, again.docs_sha256) == (before.docs, before.docs_sha256)
        other = lake.release(before.number + 2, (Table("other", "SELECT 1::BIGINT AS one", ("one",)),))
        assert other.docs == docs.name_of(other.id)
        assert {*other.objects} >= {other.docs, other.seeds}
        answer = http.get("/dbt")
        assert answer.headers["x-assay-release"] == str(other.number)
        assert [one["name"] for one in texts(answer.text)[0]["nodes"].values()] == ["other"]


def test_who_reads_some_datasets_does_not_get_it(lake: Lake) -> None:
    shown = {name: keys.create(lake.local.files, name, who="a test", datasets=of)[1]
             for name, of in {"all": None, "every": ("price_eod", "splits")}.items()}  # fmt: skip
    with serving_lake.serving(lake, keyed=True) as url:
        for name, status in (("all", 200), ("every", 403)):
            with httpx.Client(base_url=url, headers={"authorization": f"Bearer {shown[name]}"}, timeout=120) as http:
                assert http.get("/dbt").status_code == status
                assert ('href="/dbt"' in http.get("/").text) == (status == 200)
        with serving_lake.client(url) as http:
            assert http.get("/dbt").status_code == 401


def test_a_release_of_before_says_so_and_an_altered_object_is_not_shown(lake: Lake) -> None:
    files = lake.local.files
    found = release.current(files)
    assert found
    old = structs.replace(found, number=found.number + 1, id=found.id, docs="", docs_sha256="")
    release.publish(files, old)
    with serving_lake.serving(lake, every=0) as url, serving_lake.client(url) as http:
        answer = http.get("/dbt")
        assert answer.status_code == 404
        assert f"Release {old.number} was built before" in answer.text
        assert "`assay build` keeps it" in answer.text
        assert 'href="/dbt"' not in http.get("/").text
        made = lake.release(old.number + 1, (Table("mine", "SELECT 1::BIGINT AS one", ("one",)),))
        assert http.get("/dbt").status_code == 200
        path = files.local(made.docs, "")
        path.chmod(0o600)
        path.write_bytes(igzip.compress(igzip.decompress(path.read_bytes()).replace(b"mine", b"fine")))
        answer = http.get("/dbt")
        assert (answer.status_code, "fine" in answer.text) == (500, False)
        anew = lake.release(made.number + 1, (Table("mine", "SELECT 1::BIGINT AS one", ("one",)),))
        assert (anew.docs_sha256, anew.docs != made.docs) == (made.docs_sha256, True)
        assert http.get("/dbt").status_code == 200


def test_what_a_build_keeps_is_the_projects_and_nothing_of_the_machine(
    built: tuple[RealLake, Any], tmp_path: Path
) -> None:
    """Every text of it is one that the project, its contracts or dbt says, in words that know no place on a disk."""
    lake, _ = built
    found = lake.released()
    kept = docs.read(lake.target.files, found.docs, found.docs_sha256)
    manifest, catalog = json.loads(bytes(kept.manifest)), json.loads(bytes(kept.catalog))
    gold = {f"model.markets.{one.name}": one for one in found.gold}
    for unique_id, one in gold.items():
        node = manifest["nodes"][unique_id]
        assert node["description"].strip() == one.description
        assert "silver" in node["compiled_code"] or "gold" in node["compiled_code"] or "stg" in node["compiled_code"]
        assert "{{" in node["raw_code"]
        types = {name: its["type"] for name, its in catalog["nodes"][unique_id]["columns"].items()}
        assert types == {c.name: c.type for c in one.columns}
    assert {one["name"] for one in manifest["sources"].values()} >= {one.dataset for one in found.silver}
    assert catalog["sources"].keys() == manifest["sources"].keys()
    assert {*manifest["parent_map"]} >= {*gold}
    assert {one["package_name"] for one in manifest["macros"].values()} == {"markets"}
    assert manifest["metadata"].keys() == {"dbt_schema_version", "dbt_version", "project_name", "adapter_type"}
    text = bytes(kept.manifest).decode() + bytes(kept.catalog).decode()
    for stranger in (
        str(lake.root),
        "/tmp",
        "/dev/shm",
        str(Path.home()),
        "_tmp",
        str(tmp_path.parents[-2]),
        "invocation",
        "user_id",
    ):
        assert stranger not in text, stranger
    assert not re.search(r'"(root_path|env|created_at|build_path|compiled_path|given|expect)"', text)
