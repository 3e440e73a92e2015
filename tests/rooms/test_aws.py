"""What AWS may answer: what passes is tried again, what is in is found, and each other error says who must act; nothing is lost."""

import hashlib
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from assay import clock
from assay.errors import AssayError, CommitUnknown, LakeBusy, LakeDamaged, SettingsError
from assay.lake import tables
from assay.ports import Fact
from assay.settings import Settings
from assay.targets.aws import clients, database, objects, s3, table
from assay.targets.aws.clients import Clients
from assay.targets.aws.dynamodb import DynamoLedger
from assay.targets.aws.glue import LakeCatalog
from assay.targets.aws.s3 import S3Files
from assay.targets.aws.secretsmanager import AwsSecrets
from tests import clouds
from tests.faulty import JSON_ERROR, S3_ERROR, Faulty
from tests.making import EVERY_TYPE

pytestmark = pytest.mark.slow
EFFECT = "tables.data"


@dataclass
class Ways:
    """A lake in the doubles, behind a way to each service that fails as told."""

    settings: Settings
    clients: Clients
    s3: Faulty
    dynamodb: Faulty
    glue: Faulty
    secretsmanager: Faulty

    @property
    def files(self) -> S3Files:
        aws = self.clients.aws
        return S3Files(self.clients, aws.bucket, objects(aws, "dev"), self.settings.root, aws.account)

    @property
    def ledger(self) -> DynamoLedger:
        return DynamoLedger(self.clients, table(self.clients.aws, "dev"))

    @property
    def catalog(self) -> LakeCatalog:
        return LakeCatalog(self.clients, database(self.clients.aws, "dev", ""), self.files, self.files.base)


@pytest.fixture
def ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ways]:
    monkeypatch.setattr(clients, "TRIES", 2)
    monkeypatch.setattr(s3, "PAUSE", 0.001)
    made = clouds.settings(tmp_path)
    assert made.aws
    with ExitStack() as stack:
        to = {
            one: stack.enter_context(Faulty(made.aws.endpoints[one]).running())
            for one in ("s3", "dynamodb", "glue", "secretsmanager")
        }
        aws = replace(made.aws, endpoints={**made.aws.endpoints, **{name: one.url for name, one in to.items()}})
        found = Ways(replace(made, aws=aws), Clients(aws), **to)
        yield found
        found.clients.close()


PASSING: list[dict[str, Any]] = [
    {"status": 503, "body": S3_ERROR.format("SlowDown")},
    {"status": 500, "body": S3_ERROR.format("InternalError"), "done": True},
    {"status": 0},
    {"status": 0, "done": True},
    {"status": 409, "body": S3_ERROR.format("ConditionalRequestConflict")},
    {
        "status": 412,
        "body": S3_ERROR.format("PreconditionFailed"),
        "done": True,
    },  # a repeated request, answered for the second
]


@pytest.mark.parametrize("times", [1, 5])
def test_a_put_is_in_once_whatever_it_is_answered(ways: Ways, times: int) -> None:
    files = ways.files
    for n, how in enumerate(PASSING):
        ways.s3.fails(rf"PUT .*{n}\.x", times=times, **how)
        assert files.put_new(f"a/{n}.x", b"mine", EFFECT), how
        ways.s3.told.clear()
        assert files.read(f"a/{n}.x") == b"mine"
        ways.s3.fails(rf"PUT .*{n}\.x", times=times, **how)
        assert not files.put_new(f"a/{n}.x", b"other", EFFECT), how
        ways.s3.told.clear()
    for how in ({"status": 503}, {"cut": True}, {"status": 0}):
        ways.s3.fails("GET", **how)
        assert files.read("a/0.x") == b"mine"
        ways.s3.fails("GET", **how)
        assert files.local("a/1.x", hashlib.sha256(b"mine").hexdigest()).read_bytes() == b"mine"
    assert files.exists("a/0.x")
    assert [*files.names("a/")] == [f"a/{n}.x" for n in range(len(PASSING))]


def test_a_large_object_goes_up_in_parts_and_only_if_it_is_not_there(
    ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "WHOLE", 1 << 20)
    monkeypatch.setattr(s3, "PIECE", 5 << 20)
    files = ways.files
    data = bytes(range(256)) * 4096 * 11  # 11 MiB: three parts
    for by_path, how in ((True, {}), (False, {"status": 500, "body": S3_ERROR.format("InternalError"), "done": True})):
        name = f"large/{by_path}.x"
        given: bytes | Path = data
        if by_path:
            given = files.scratch()
            given.write_bytes(data)
        if how:
            ways.s3.fails(r"POST .*uploadId", times=2, **how)
        assert files.put_new(name, given, EFFECT)
        assert files.put_new(name, data, EFFECT)
        assert not files.put_new(name, data + b"x", EFFECT)
        assert not files.put_new(name, data[:-1] + b"x", EFFECT)
        assert files.read(name, 5 << 20, (5 << 20) + 4) == data[:4]
        assert Path(files.url(name)).read_bytes() == data
    left = ways.clients("s3").list_multipart_uploads(Bucket="lake").get("Uploads", [])
    assert not [one for one in left if one["Key"].startswith(files.prefix)]


REFUSED: list[tuple[str, str, type[AssayError], str]] = [
    ("ExpiredToken", "400", SettingsError, "must sign in again"),
    ("InvalidAccessKeyId", "403", SettingsError, "must sign in again"),
    ("AccessDenied", "403", SettingsError, r"AWS denies s3:\w+ on .*must allow it"),
    ("NoSuchBucket", "404", SettingsError, "there is no bucket"),
    ("PermanentRedirect", "400", SettingsError, r"another region .*\[aws\] region"),
    ("KMS.DisabledException", "400", SettingsError, "who owns the KMS key"),
    ("SlowDown", "503", LakeBusy, "run it again"),
]


@pytest.mark.parametrize(("code", "status", "error", "says"), REFUSED)
def test_each_refusal_of_s3_says_who_must_act_and_changes_nothing(
    ways: Ways, code: str, status: str, error: type[AssayError], says: str
) -> None:
    files = ways.files
    acts: list[Callable[[], object]] = [
        lambda: files.put_new("a/b.x", b"x", EFFECT),
        lambda: files.read("a/b.x"),
        lambda: [*files.names("a/")],
        lambda: files.delete("a/b.x"),
        lambda: files.url("a/b.x"),
    ]
    for act in acts:
        ways.s3.fails("", status=int(status), body=S3_ERROR.format(code), times=99)
        with pytest.raises(error, match=says) as told:
            act()
        assert "emulated" not in str(told.value)
        ways.s3.told.clear()
    assert not files.exists("a/b.x")
    assert [*ways.settings.root.glob("copies/*")] == []


def test_a_bucket_that_is_missing_is_no_missing_object(ways: Ways) -> None:
    files, sent = replace(ways.files, bucket="none-of-that-name"), ways.clients.calls
    for _ in range(2):
        with pytest.raises(SettingsError, match=r"there is no bucket none-of-that-name: .aws. bucket"):
            files.exists("a/b.x")
    sent.clear()
    files = ways.files
    assert [files.exists(f"a/{n}.x") for n in range(3)] == [False] * 3
    assert (sent["s3:HeadObject"], sent["s3:HeadBucket"]) == (3, 1)
    ways.s3.fails("HEAD /[^/]*$", status=403)
    with pytest.raises(SettingsError, match="AWS denies s3:HeadBucket"):
        ways.files.exists("a/b.x")


def test_dynamodb_that_throttles_or_conflicts_is_asked_again_and_else_says_who_must_act(ways: Ways) -> None:
    ledger = ways.ledger
    facts = [Fact("k", "d", str(n), clock.now()) for n in range(3)]
    conflict = '{"__type": "TransactionCanceledException", "message": "as told", "CancellationReasons": [{"Code": "TransactionConflict"}, {"Code": "None"}, {"Code": "None"}]}'
    ways.dynamodb.fails("TransactWriteItems", status=400, body=conflict, times=2)
    ways.dynamodb.fails("TransactWriteItems", status=400, body=JSON_ERROR.format("ThrottlingException"))
    ledger.record(facts)
    ways.dynamodb.fails("TransactWriteItems", done=True)  # it is in, and the answer is lost
    ledger.record([*facts, Fact("k", "d", "3", clock.now())])
    assert [one.id for one in ledger.since("k", "d")] == ["0", "1", "2", "3"]
    ways.dynamodb.fails("PutItem", done=True)
    assert ledger.claim("lease", "me", clock.now().replace(year=2999))
    assert not ledger.claim("lease", "you", clock.now().replace(year=2999))
    for code, error, says in (
        ("ProvisionedThroughputExceededException", LakeBusy, "run it again"),
        ("AccessDeniedException", SettingsError, r"denies dynamodb:\w+ on"),
        ("ExpiredTokenException", SettingsError, "sign in again"),
        ("ResourceNotFoundException", SettingsError, "there is no table"),
    ):
        for act in (
            lambda: ledger.newest("k", "d", "0"),
            lambda: [*ledger.since("k", "d")],
            lambda: ledger.record(facts[:1]),
        ):
            ways.dynamodb.fails("", status=400, body=JSON_ERROR.format(code), times=99)
            with pytest.raises(error, match=says):
                act()
            ways.dynamodb.told.clear()


def _commit(catalog: LakeCatalog, name: str) -> tables.Snapshot:
    made = tables.load(catalog, "silver.things")
    assert made
    return tables.commit(made, ways_files(catalog), tables.evidence.Change(), {"who": name}, as_effect="refine.current")


def ways_files(catalog: LakeCatalog) -> S3Files:
    return catalog.properties["assay.files"][0]


def test_a_commit_whose_answer_is_lost_is_found_in_the_head(ways: Ways) -> None:
    catalog = ways.catalog
    catalog.create_namespace_if_not_exists("silver")
    tables.ensure(catalog, "silver.things", {"id": ("VARCHAR", "")})
    stale = JSON_ERROR.format("ConcurrentModificationException")
    for n, how in enumerate(
        (
            {"done": True},
            {"done": True, "status": 500, "body": JSON_ERROR.format("InternalServiceException")},
            {"done": True, "status": 400, "body": stale},
        )
    ):
        ways.glue.fails("UpdateTable", **how)
        _commit(catalog, str(n))
    found = tables.load(catalog, "silver.things")
    assert found
    assert [one.summary.additional_properties["who"] for one in tables.snapshots(found) if one.summary] == [
        "0",
        "1",
        "2",
    ]
    ways.glue.fails("UpdateTable", status=400, body=stale)
    with pytest.raises(LakeBusy, match="nothing of this is in"):
        _commit(catalog, "lost")
    ways.glue.fails("UpdateTable", status=500, body=JSON_ERROR.format("InternalServiceException"), times=9)
    with pytest.raises(CommitUnknown, match="look whether it is in"):
        _commit(catalog, "unknown")
    ways.glue.told.clear()
    ways.glue.fails("UpdateTable", status=400, body=stale)
    ways.glue.fails("GetTable", status=500, body=JSON_ERROR.format("InternalServiceException"), times=9)
    with pytest.raises(LakeBusy):  # the table cannot be loaded either
        _commit(catalog, "unseen")
    ways.glue.told.clear()
    ways.glue.fails("GetTable", status=400, body=JSON_ERROR.format("AccessDeniedException"), times=9)
    with pytest.raises(SettingsError, match=r"denies glue:GetTable on silver\.things"):
        tables.load(catalog, "silver.things")
    ways.glue.told.clear()
    assert len(tables.snapshots(tables.load(catalog, "silver.things"))) == 3


def test_four_who_commit_to_one_table_lose_no_commit_that_was_acknowledged(tmp_path: Path) -> None:
    made = clouds.settings(tmp_path)
    assert made.aws

    def opened(who: int) -> LakeCatalog:
        found = Clients(made.aws)
        files = S3Files(found, "lake", objects(made.aws, "dev"), tmp_path / str(who), made.aws.account)
        return LakeCatalog(found, database(made.aws, "dev", ""), files, files.base)

    tables.ensure(opened(9), "silver.things", {"id": ("VARCHAR", "")})
    start = threading.Barrier(4)

    def work(who: int) -> list[str]:
        catalog, said = opened(who), []
        start.wait(60)
        for n in range(5):
            while True:
                try:
                    _commit(catalog, f"{who}.{n}")
                except LakeBusy:
                    continue
                said.append(f"{who}.{n}")
                break
        return said

    with ThreadPoolExecutor(4) as pool:
        said = [one for each in pool.map(work, range(4)) for one in each]
    found = tables.load(opened(9), "silver.things")
    assert found
    assert sorted(one.summary.additional_properties["who"] for one in tables.snapshots(found) if one.summary) == sorted(
        said
    )


def test_a_secret_that_is_rotated_is_taken_up_and_a_missing_one_named(
    ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.targets.aws.secretsmanager.FRESH", 0.0)
    secrets = AwsSecrets(ways.clients, f"{ways.clients.aws.prefix}/dev/")
    with pytest.raises(SettingsError, match=r"dev/KEY is missing: put it into Secrets Manager in ca-central-1"):
        secrets.get("KEY")
    at = {"SecretId": f"{ways.clients.aws.prefix}/dev/KEY"}
    ways.clients("secretsmanager").create_secret(Name=at["SecretId"], SecretString="first")
    assert secrets.get("KEY") == "first"
    ways.clients("secretsmanager").put_secret_value(**at, SecretString="second")
    assert secrets.get("KEY") == "second"
    assert secrets.ensure("mine") == AwsSecrets(ways.clients, f"{ways.clients.aws.prefix}/dev/").ensure("mine")
    assert len(secrets.ensure("mine")) == 32
    ways.secretsmanager.fails("GetSecretValue", status=400, body=JSON_ERROR.format("AccessDeniedException"))
    with pytest.raises(SettingsError, match=r"denies secretsmanager:GetSecretValue on .*KEY") as told:
        secrets.get("KEY")
    assert "second" not in str(told.value)


def test_copies_are_bounded_but_for_those_just_used(ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    files = replace(ways.files, copies=50_000)
    for n in range(9):
        files.put_new(f"a/{n}.x", bytes([n]) * 10_000, EFFECT)
        files.url(f"a/{n}.x")
    kept = ways.settings.root / "copies"
    assert len([*kept.iterdir()]) == 9
    monkeypatch.setattr(s3, "RECENT", 0.0)
    files.url("a/0.x")
    for n in (0, 8):
        (kept / Path(files.url(f"a/{n}.x")).name).write_bytes(b"")
    for one in kept.iterdir():
        one.unlink()
    for n in range(9):
        files.url(f"a/{n}.x")
    assert sum(one.stat().st_size for one in kept.iterdir()) <= 60_000


def test_a_copy_that_rotted_or_was_cut_short_is_fetched_again(ways: Ways) -> None:
    data = b"rows" * 99
    name = f"bronze/x/dt=1/a-0-{hashlib.sha256(data).hexdigest()[:16]}.ndjson.gz"
    ways.files.put_new(name, data, EFFECT)
    copy = Path(ways.files.url(name))
    for bad in (b"", b"other" * 99):
        copy.write_bytes(bad)
        assert Path(ways.files.url(name)).read_bytes() == data
    ways.clients("s3").put_object(Bucket="lake", Key=ways.files.prefix + name, Body=b"x")
    copy.unlink()
    with pytest.raises(LakeDamaged, match="does not have the bytes"):
        ways.files.url(name)


def test_an_upload_that_was_ended_by_a_try_whose_answer_was_lost_is_in(
    ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "WHOLE", 1000)
    ways.s3.fails(r"POST .*uploadId", status=404, body=S3_ERROR.format("NoSuchUpload"), done=True)
    assert ways.files.put_new("a/b.x", b"x" * 2000, EFFECT)
    assert ways.files.read("a/b.x") == b"x" * 2000


def test_what_was_damaged_and_is_restored_is_read_anew(ways: Ways) -> None:
    files, at = ways.files, {"Bucket": "lake", "Key": ways.files.prefix + "releases/1.json"}
    files.put_new("releases/1.json", b"good", EFFECT)
    for body in (b"bad", b"good"):
        ways.clients("s3").put_object(Body=body, **at)
        assert files.read("releases/1.json") == body


def test_a_service_that_cannot_be_reached_is_busy_and_no_damage(ways: Ways) -> None:
    nowhere = "http://127.0.0.1:9"
    aws = replace(ways.clients.aws, endpoints=dict.fromkeys(ways.clients.aws.endpoints, nowhere))
    gone = Ways(replace(ways.settings, aws=aws), Clients(aws), ways.s3, ways.dynamodb, ways.glue, ways.secretsmanager)
    for act in (
        lambda: gone.files.exists("a"),
        lambda: [*gone.files.names("")],
        lambda: gone.files.put_new("a", b"x", EFFECT),
        lambda: gone.ledger.newest("k", "d", "a"),
        lambda: tables.load(gone.catalog, "silver.things"),
        lambda: AwsSecrets(gone.clients, "x/").get("KEY"),
        lambda: clouds.provision.make(gone.settings, {}),
    ):
        with pytest.raises(LakeBusy, match="run it again"):
            act()


def test_a_single_write_that_meets_a_transaction_is_tried_again(ways: Ways) -> None:
    ways.dynamodb.fails("PutItem", status=400, body=JSON_ERROR.format("TransactionConflictException"), times=3)
    assert ways.ledger.claim("lease", "me", clock.now().replace(year=2999))
    assert ways.dynamodb.asked["PutItem"] == 4


def test_no_other_database_of_the_account_is_the_lakes(ways: Ways) -> None:
    catalog = ways.catalog
    for name in (f"{ways.clients.aws.prefix}__dev__reports", f"{ways.clients.aws.prefix}__dev-2__silver"):
        ways.clients("glue").create_database(DatabaseInput={"Name": name})
    assert catalog.list_namespaces() == [("silver",), ("gold",)]
    names = [("a", "b-c"), ("a_b", "c"), ("a", "b")]
    made = {database(replace(ways.clients.aws, prefix=prefix), env, "silver") for prefix, env in names}
    assert len(made) == len(names)


def test_doubles_are_not_shown_a_persons_credentials(ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "PERSON")
    found = Clients(ways.clients.aws)("s3")._request_signer._credentials.get_frozen_credentials()
    assert "PERSON" not in tuple(found)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(SettingsError, match="mend the profile"):
        Clients(replace(ways.clients.aws, emulated=False))


def test_files_travel_to_another_process_without_their_connections(ways: Ways) -> None:
    ways.files.put_new("a/b.x", b"x", EFFECT)
    again = pickle.loads(pickle.dumps(ways.files))  # noqa: S301 - our own
    assert again.read("a/b.x") == b"x"
    ways.clients("s3").put_object(Bucket="lake", Key=ways.files.prefix + "a/b.x", Body=b"y")
    with pytest.raises(LakeDamaged, match="does not have the bytes"):
        again.local("a/b.x", hashlib.sha256(b"x").hexdigest())


def test_a_lake_without_aws_or_with_a_wrong_one_is_told(tmp_path: Path, assay: Callable[..., Any]) -> None:
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts/things.yaml").write_text(EVERY_TYPE)
    (tmp_path / "assay.toml").write_text(
        '[lake]\nname = "x"\n[source.fmp]\nbase_url = "http://127.0.0.1:1"\norigin = "sandbox"\nallow_private = true\n'
    )
    said = assay("--lake", tmp_path, "--target", "aws", "status")
    assert (said.code, "[aws] is missing" in said.err) == (2, True)
    for line, why in (
        ('region = "ca"', "must be a region such as"),
        ('region = "ca-central-1"', "aws.account is missing"),
        ('region = "ca-central-1"\naccount = "1"\nbucket = "b-c"', "12 digits"),
        ('region = "ca-central-1"\naccount = "123456789012"\nbucket = "B"', "small letters"),
    ):
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other/assay.toml").write_text(f"[lake]\n[aws]\n{line}\n")
        said = assay("--lake", tmp_path / "other", "--target", "aws", "status")
        assert said.code == 2
        assert why in said.err
