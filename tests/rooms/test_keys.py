"""API keys: made once and shown once, good until they end or are revoked; and the door of a server that demands them."""

import base64
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from assay import clock
from assay.errors import LakeDamaged, UsageError
from assay.lake import keys
from assay.run import lake as lakes
from assay.targets.local import DiskFiles
from tests.every.stores import StoreFiles, WorstStore
from tests.forked import Said
from tests.forked import assay as command
from tests.kept import begun
from tests.rooms import serving_lake
from tests.rooms.serving_lake import Lake

KEY = r"assay_([0-9a-f]{16})_([\w-]{43})"


@pytest.fixture
def files(tmp_path: Path) -> DiskFiles:
    return DiskFiles(tmp_path)


def made(files: DiskFiles, name: str = "ci", **named: object) -> tuple[keys.Known, str]:
    return keys.create(files, name, who="Ada", **named)  # type: ignore[arg-type]


# ------------------------------------------------------------------ what is stored


def test_a_key_opens_what_it_is_for_and_its_text_is_stored_nowhere(files: DiskFiles) -> None:
    known, text = made(files, datasets=("price_eod",))
    its, secret = re.fullmatch(KEY, text).groups()  # type: ignore[union-attr]
    assert its == known.id
    stored = b"".join(path.read_bytes() for path in files.root.rglob("*") if path.is_file())
    assert secret.encode() not in stored
    assert keys.holder(text.encode(), keys.active(files, {})) == known.key
    assert (known.key.name, known.key.who, known.key.datasets, known.key.expires) == ("ci", "Ada", ("price_eod",), None)
    assert made(files)[1] != text


def test_nothing_else_is_a_key(files: DiskFiles) -> None:
    (one, text), (other, _) = made(files), made(files, "other")
    active = keys.active(files, {})
    wrong = [
        "", "assay_", text[:-1], f"{text}x", text.upper(), f" {text}", f"{text}\n", text[:-1] + ("A" if text[-1] != "A" else "B"),
        text.replace(one.id, other.id), text.replace(one.id, "0" * 16), text.replace("assay_", ""), one.key.secret_sha256,
        f"assay_{one.id}_{one.key.secret_sha256}", "x" * 100_000,
    ]  # fmt: skip
    assert [shown for shown in wrong if keys.holder(shown.encode(), active)] == []
    assert keys.holder(b"\xff\xfe", active) is None


def test_a_key_ends_when_it_expires_or_is_revoked(files: DiskFiles) -> None:
    soon = clock.now() + timedelta(seconds=0.5)
    (lasting, _), (brief, ended), (gone, _) = made(files), made(files, expires=soon), made(files)
    there = set(keys.active(files, {}))
    assert brief.id in there or clock.now() >= soon
    assert there - {brief.id} == {lasting.id, gone.id}
    first = keys.revoke(files, gone.id, who="Bob")
    assert gone.id not in keys.active(files, {})
    time.sleep(0.55)
    active = keys.active(files, {})
    assert {its for its, key in active.items() if key and key.good(clock.now())} == {lasting.id}
    assert keys.holder(ended.encode(), active) is None
    at = clock.now()
    assert [(one.id, one.state(at)) for one in keys.listed(files)] == [
        (lasting.id, "active"), (brief.id, "expired"), (gone.id, "revoked"),
    ]  # fmt: skip
    again = keys.revoke(files, gone.id, who="Eve")
    assert again.revoked == first.revoked, "who revoked it first"
    assert again.revoked
    assert again.revoked.who == "Bob"


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b[31m", "x" * 101, "\udcff", "\u202egnp"])
def test_a_name_can_be_read_in_a_list(files: DiskFiles, name: str) -> None:
    with pytest.raises(UsageError, match="characters that can be printed"):
        keys.create(files, name, who="Ada")
    with pytest.raises(UsageError, match="--who"):
        keys.create(files, "ci", who=name)
    assert not list(files.names(""))


def test_what_is_no_end_is_refused() -> None:
    for text in (
        "",
        "0d",
        "-1d",
        "90",
        "90 d",
        "d",
        "1.5d",
        "2027-13-01",
        "2027-1-1",
        "99999999d",
        "9999d9d",
        "tomorrow",
        "٩d",
    ):
        with pytest.raises(UsageError, match="is no end of a key"):
            keys.until(text)
    assert keys.until("2027-01-31").isoformat() == "2027-01-31T00:00:00+00:00"
    assert timedelta(days=89) < keys.until("90d") - clock.now() <= timedelta(days=90)
    assert keys.until("99999d")


def test_a_key_that_was_altered_is_good_for_nothing_and_stops_no_other(files: DiskFiles) -> None:
    (one, text), (_, other) = made(files, datasets=("price_eod",)), made(files)
    path = files.root / keys.name_of(one.id)
    path.chmod(0o600)
    path.write_text(path.read_text().replace("price_eod", "company"))
    active = keys.active(files, {})
    assert keys.holder(text.encode(), active) is None
    assert keys.holder(other.encode(), active)
    bad, _ = keys.listed(files)
    assert (bad.id, bad.state(clock.now())) == (one.id, "damaged")
    assert f"keys/{one.id}.json is not what was written" in bad.key.name
    whole = path.read_text().replace("company", "price_eod")
    path.write_text(whole)  # restored: a server that runs hears of it
    assert keys.holder(text.encode(), keys.active(files, active))
    path.write_bytes(b'{"format": 2}')
    assert "written by a newer assay" in keys.listed(files)[0].key.name
    assert keys.holder(text.encode(), keys.active(files, {})) is None
    assert keys.revoke(files, one.id, who="Bob").state(clock.now()) == "revoked"


def test_a_revocation_that_was_altered_stays_one(files: DiskFiles) -> None:
    one, _ = made(files)
    keys.revoke(files, one.id, who="Bob")
    path = files.root / keys.revoked_name_of(one.id)
    path.chmod(0o600)
    path.write_bytes(b"")
    assert keys.active(files, {}) == {}
    with pytest.raises(LakeDamaged, match="the key stays revoked"):
        keys.listed(files)
    (files.root / keys.name_of(one.id)).unlink()
    assert keys.listed(files) == []


def test_on_a_store_at_its_worst_a_key_is_revoked_once_whoever_does_it(tmp_path: Path) -> None:
    store = WorstStore(tmp_path)
    known, text = keys.create(StoreFiles(store), "ci", who="Ada")
    with ThreadPoolExecutor(4) as pool:
        told = list(
            pool.map(lambda who: keys.revoke(StoreFiles(store), known.id, who=who), ["Ada", "Bob", "Eve", "Mallory"])
        )
    assert len({one.revoked for one in told}) == 1
    other, text = keys.create(StoreFiles(store), "ci", who="Ada")
    store.calm()  # its listings lag until then
    assert keys.holder(text.encode(), keys.active(StoreFiles(store), {})) == other.key
    assert set(keys.active(StoreFiles(store), {})) == {other.id}
    assert [one.revoked for one in keys.listed(StoreFiles(store))] == [told[0].revoked, None]


# ------------------------------------------------------------------ the commands


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return begun(tmp_path / "lake", "csv")


def test_keys_are_made_listed_and_revoked_by_command(shop: Path, assay: Callable[..., Said]) -> None:
    assert assay("--lake", shop, "keys", "list").out == "there are no keys yet\n"
    said = assay("--lake", shop, "keys", "create", "ci", "--datasets", "trades", "--expires", "90d", "--who", "Ada")
    found = re.fullmatch(KEY + "\n", said.out)
    assert (said.code, bool(found)) == (0, True), said
    assert found
    assert "reads trades" in said.err
    assert found[2] not in said.err
    made = json.loads(assay("--lake", shop, "--json", "keys", "create", "all", "--who", "Ada").out)
    assert re.fullmatch(KEY, made["key"])
    listed = assay("--lake", shop, "--json", "keys", "list").out
    assert found[2] not in listed
    assert made["key"] not in listed
    assert [(one["name"], one["state"], one["datasets"], one["who"], bool(one["expires"])) for one in json.loads(listed)] == [
        ("ci", "active", ["trades"], "Ada", True), ("all", "active", None, "Ada", False),
    ]  # fmt: skip
    said = assay("--lake", shop, "keys", "revoke", found[1], "--who", "Bob")
    assert f"{found[1]} revoked: ci" in said.out
    lines = assay("--lake", shop, "keys", "list").out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"{found[1]} revoked", f"{made['id']} active"]
    assert "by Bob" in lines[0]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["create", "x", "--datasets", "nope"], "no dataset 'nope'; this lake has trades"),
        (["create", "x", "--datasets", ""], "no dataset ''"),
        (["create", "x", "--datasets", "trades,"], "no dataset ''"),
        (["create", "x", "--expires", "2020-01-01"], "that has passed"),
        (["create", "x", "--expires", ""], "is no end of a key"),
        (["create", " "], "the name of a key"),
        (["create", "x", "--who", ""], "--who"),
        (["revoke", "0" * 16], "there is no key 0000000000000000"),
        (["revoke", "../../x"], "by its id, 16 hexadecimal digits"),
    ],
)
def test_what_no_key_can_be_is_refused(shop: Path, assay: Callable[..., Said], args: list[str], words: str) -> None:
    said = assay("--lake", shop, "keys", *args)
    assert (said.code, said.out) == (2, "")
    assert words in said.err, said.err
    assert not (shop / "data/dev/keys").exists()


def test_a_key_that_is_pasted_for_its_id_is_not_repeated(shop: Path, assay: Callable[..., Said]) -> None:
    text = assay("--lake", shop, "--quiet", "keys", "create", "x", "--who", "Ada").out.strip()
    said = assay("--lake", shop, "keys", "revoke", text)
    assert said.code == 2
    assert text.rsplit("_", 1)[1] not in said.err


def test_a_command_that_dies_leaves_a_key_that_is_none_or_one_that_can_be_revoked(shop: Path) -> None:
    def stopped(at: str, *args: str) -> None:
        with command(shop, "keys", *args, "--who", "Ada", ASSAY_CRASH=at) as one:
            said = one.said()
        assert (said.code, said.out) == (137, ""), said

    files = DiskFiles(shop / "data/dev")
    stopped("keys.create:before", "create", "x")
    assert keys.listed(files) == []
    stopped("keys.create:after", "create", "x")
    [one] = keys.listed(files)  # its text is nobody's: it opens nothing
    stopped("keys.revoke:before", "revoke", one.id)
    assert set(keys.active(files, {})) == {one.id}
    stopped("keys.revoke:after", "revoke", one.id)
    assert keys.active(files, {}) == {}


def test_beyond_loopback_nobody_is_served_before_there_is_a_key(shop: Path, assay: Callable[..., Said]) -> None:
    with lakes.open(shop) as lake, pytest.raises(UsageError, match="beyond loopback"):
        lake.application("0.0.0.0")  # noqa: S104 - it is refused
    for host in ("0.0.0.0", "::", "127.0.0.2"):  # noqa: S104 - it is refused
        said = assay("--lake", shop, "serve", "--host", host, "--port", 0)
        assert (said.code, "`assay keys create NAME` makes one" in said.err) == (2, True), said
    assay("--lake", shop, "keys", "create", "x", "--who", "Ada")
    [one] = keys.listed(DiskFiles(shop / "data/dev"))
    for host in ("", " ", "192.0.2.1", "no.such.invalid", "x" * 300, "\udcff"):
        said = assay("--lake", shop, "serve", "--host", host, "--port", 0)
        assert (said.code, "--host" in said.err, said.err.count("\n")) == (2, True, 1), said
    assay("--lake", shop, "keys", "revoke", one.id, "--who", "Ada")
    assert assay("--lake", shop, "serve", "--host", "0.0.0.0", "--port", 0).code == 2  # noqa: S104 - it is refused


# ------------------------------------------------------------------ the door


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    one = serving_lake.build(tmp_path_factory.mktemp("keys"))
    yield one
    one.close()


@pytest.fixture(scope="module")
def key(lake: Lake) -> str:
    return keys.create(lake.local.files, "test", who="a test")[1]


@pytest.fixture(scope="module")
def http(lake: Lake, key: str) -> Iterator[httpx.Client]:
    """A server as it stands beyond loopback."""
    with serving_lake.serving(lake, keyed=True, hosts=None) as url, serving_lake.client(url) as client:
        yield client


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def test_a_key_is_shown_as_bearer_or_as_anybodys_password(http: httpx.Client, key: str) -> None:
    for shown in (f"Bearer {key}", f"bearer  {key}", basic("", key), basic("anybody", key), basic("ünï", key)):
        for path in ("/", "/v1/gold", "/v1/health", "/v1/gold/fct_price?limit=1", "/app.css", "/openapi.json"):
            assert http.get(path, headers={"authorization": shown}).status_code == 200, (shown, path)
    described = http.get("/openapi.json", headers={"authorization": f"Bearer {key}"}).json()
    assert set(described["components"]["securitySchemes"]) == {"bearer", "basic"}
    assert described["security"] == [{"bearer": []}, {"basic": []}]


def test_what_is_no_key_is_401_and_says_how_one_is_shown(http: httpx.Client, key: str) -> None:
    wrong = [
        "", "Bearer", f"Token {key}", key, f"Bearer {key[:-1]}", f"Bearer {key} x", "Basic", "Basic !", "Basic ====",
        basic("x", "y"), basic(key, ""), f"Basic {base64.b64encode(key.encode()).decode()}", f"Basic {key}", "Bearer \xff",
        f"Bearer {'x' * 50_000}",
    ]  # fmt: skip
    for shown in wrong:
        for path in ("/v1/gold", "/v1/health"):
            answer = http.get(path, headers=[(b"authorization", shown.encode("latin-1"))])
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Basic realm="assay"'), shown
            assert answer.headers["content-type"] == "application/problem+json"
            assert (answer.json()["status"], answer.json()["who"]) == (401, "caller")
            assert key not in answer.text
    page = http.get("/gold/fct_price")
    assert (page.status_code, page.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert page.headers["x-frame-options"] == "DENY"
    assert "Test lake" not in page.text
    twice = http.get("/v1/gold", headers=[("authorization", f"Bearer {key}"), ("authorization", f"Bearer {key}")])
    assert twice.status_code == 401


def test_a_key_in_the_address_is_none(http: httpx.Client, key: str) -> None:
    for name in ("key", "api_key", "apikey", "access_token", "token"):
        assert http.get(f"/v1/gold?{name}={key}").status_code == 401


def test_beyond_loopback_any_name_is_answered_and_no_other_origin(http: httpx.Client, key: str) -> None:
    shown = {"authorization": f"Bearer {key}"}
    for host in ("lake.example", "lake.example:8443", "10.1.2.3", "[2001:db8::1]:80"):
        assert http.get("/v1/gold", headers=shown | {"host": host}).status_code == 200
        for origin in (f"https://{host}", f"http://{host}"):
            assert http.get("/v1/gold", headers=shown | {"host": host, "origin": origin}).status_code == 200
        for origin in (
            "null",
            "https://evil.example",
            f"https://evil.{host}",
            f"file://{host}",
            host,
            f"https://{host}.",
        ):
            assert http.get("/v1/gold", headers=shown | {"host": host, "origin": origin}).status_code == 403
    both = [*shown.items(), ("host", "a.example"), ("origin", "https://evil.example"), ("origin", "https://a.example")]
    assert http.get("/v1/gold", headers=both).status_code == 403
    # Without a key it is told no more than that one is needed.
    assert http.post("/v1/gold").status_code == 401
    assert http.post("/v1/gold", headers=shown).status_code == 405


def test_on_loopback_names_are_ours_whatever_the_port(lake: Lake, key: str) -> None:
    shown = {"authorization": f"Bearer {key}"}
    with serving_lake.serving(lake, keyed=True) as url, serving_lake.client(url) as http:
        assert http.get("/v1/gold").status_code == 401
        for host in ("localhost", "LOCALHOST:1", "127.0.0.1:65535", "[::1]", "[::1]:80"):
            assert http.get("/v1/gold", headers=shown | {"host": host}).status_code == 200
            assert http.get("/v1/gold", headers=shown | {"host": host, "origin": f"http://{host}"}).status_code == 200
            assert http.get("/v1/gold", headers=shown | {"host": host, "origin": f"https://{host}"}).status_code == 403
        for host in (
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:80",
            "[::2]",
            "10.0.0.1",
            "127.0.0.2",
            "",
            "x" * 5000,
        ):
            assert http.get("/v1/gold", headers=shown | {"host": host}).status_code == 421


def test_an_open_door_is_nothing_that_can_be_asked_for(lake: Lake) -> None:
    with pytest.raises(ValueError, match="demands keys"), serving_lake.serving(lake, hosts=None):
        pass


def status(http: httpx.Client, text: str) -> int:
    return http.get("/v1/gold", headers={"authorization": f"Bearer {text}"}).status_code


def became(http: httpx.Client, text: str, wanted: int, within: float = 4.0) -> None:
    """A key is answered so within a few seconds, while the server is asked all the time."""
    end = time.monotonic() + within
    while status(http, text) != wanted:
        assert time.monotonic() < end, f"still not {wanted} after {within} s"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_running_server_knows_within_seconds_what_became_of_a_key(http: httpx.Client, lake: Lake) -> None:
    files = lake.local.files
    known, text = keys.create(files, "new", who="a test", expires=clock.now() + timedelta(seconds=60))
    became(http, text, 200)
    keys.revoke(files, known.id, who="a test")
    became(http, text, 401)
    _, text = keys.create(files, "brief", who="a test", expires=clock.now() + timedelta(seconds=7))
    became(http, text, 200)
    became(http, text, 401, within=11)


def test_wrong_keys_cost_no_look_at_what_is_stored(lake: Lake, key: str) -> None:
    looks: list[str] = []

    class Watched(DiskFiles):
        def names(self, prefix: str, after: str = "") -> Iterator[str]:
            looks.append(prefix)
            return super().names(prefix, after)

        def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
            looks.extend([name] if name.startswith("keys/") else [])
            return super().read(name, start, end)

        def exists(self, name: str) -> bool:
            looks.extend([name] if name.startswith("keys/") else [])
            return super().exists(name)

    its, before = key.split("_")[1], lake.local.files
    object.__setattr__(lake.local, "files", Watched(before.root))
    try:
        began = time.monotonic()
        with serving_lake.serving(lake, keyed=True) as url, serving_lake.client(url) as http:
            assert status(http, key) == 200
            for n in range(300):
                assert status(http, f"assay_{n:016x}_{'x' * 43}") == 401
                assert status(http, f"assay_{its}_{'x' * 43}") == 401
            took = time.monotonic() - began
    finally:
        object.__setattr__(lake.local, "files", before)
    assert 1 <= looks.count("keys/") <= 1 + took / 2
    read = [name for name in looks if name != "keys/" and not name.startswith(("releases/", "bronze/"))]
    assert len(read) == len(set(read)), "an object that is never another is read once"


def test_keys_that_cannot_be_read_let_nobody_in(lake: Lake, key: str) -> None:
    class Broken(DiskFiles):
        def names(self, prefix: str, after: str = "") -> Iterator[str]:
            if prefix == "keys/":
                raise OSError(5, "Input/output error")
            return super().names(prefix, after)

    before = lake.local.files
    object.__setattr__(lake.local, "files", Broken(before.root))
    try:
        with serving_lake.serving(lake, keyed=True) as url, serving_lake.client(url) as http:
            for _ in range(2):
                answer = http.get("/v1/gold", headers={"authorization": f"Bearer {key}"})
                assert (answer.status_code, answer.json()["who"]) == (503, "operator")
            assert http.get("/v1/health").status_code == 200
    finally:
        object.__setattr__(lake.local, "files", before)


def test_a_server_beyond_loopback_by_command(shop: Path) -> None:
    with command(shop, "keys", "create", "x", "--who", "Ada") as one:
        text = one.said().out.strip()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for args, closed in ((("--host", "0.0.0.0"), True), (("--keys",), True), ((), False)):  # noqa: S104 - it demands keys
        with (
            command(shop, "serve", "--port", str(port), *args) as server,
            serving_lake.client(f"http://127.0.0.1:{port}") as http,
        ):
            end = time.monotonic() + 60
            while True:
                assert server.poll() is None, server.said().err
                assert time.monotonic() < end
                try:
                    http.get("/v1/health")
                    break
                except httpx.ConnectError:
                    time.sleep(0.05)
            assert http.get("/").status_code == (401 if closed else 200)
            assert http.get("/", headers={"authorization": basic("me", text)}).status_code == 200
            assert http.get("/", headers={"authorization": basic("me", text), "host": "x.example"}).status_code == (
                200 if "--host" in args else 421
            )
            os.kill(server.pid, 15)
            assert server.said().code == 0
