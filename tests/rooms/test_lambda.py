"""The API as a Lambda function behind API Gateway, in doubles of both that run its zip and speak HTTP."""

import hashlib
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from assay import clock
from assay.lake import keys, release
from tests import clouds
from tests.making import make_on_aws
from tests.rooms import serving_lake
from tests.rooms.serving_lake import Lake, Table

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
FCT = "/v1/gold/fct_price"
HEAVY = {"aiohttp", "dbt", "pandas", "prefect", "pyarrow", "pyiceberg", "sqlalchemy", "uvicorn"}
RUNTIME = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six.py", "urllib3")
"""boto3 and what it needs, which Lambda's runtimes bring along."""
OF_THE_WAY = {"content-length", "date", "server", "connection", "transfer-encoding", "apigw-requestid"}
TABLES = (*serving_lake.TABLES, Table("wide", "SELECT n, repeat('ü', 1000) AS note FROM range(4000) AS of(n)", ("n",)))
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


LOOKS = 2.3
"""Seconds after which a key that was made or revoked is known."""


@dataclass
class Api:
    """A lake in the doubles, the function made of its zip, and the API in front of it."""

    lake: Lake
    cloud: clouds.Cloud
    package: Path
    prefix: str
    environment: dict[str, str]
    shown: dict[str, str] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)

    def function(self, name: str, entry: str = "handler") -> str:
        """Create a function of the zip; its ARN."""
        data = self.package.read_bytes()
        self.cloud.client("s3").put_object(Bucket="lake", Key=f"{self.prefix}.zip", Body=data)
        told = self.cloud.client("lambda", read_timeout=120).create_function(
            FunctionName=f"{self.prefix}-{name}", Runtime=f"python{VERSION}", Handler=f"assay.aws_lambda.{entry}",
            Role="arn:aws:iam::123456789012:role/assay", Code={"S3Bucket": "lake", "S3Key": f"{self.prefix}.zip"},
            Timeout=30, MemorySize=1024, Environment={"Variables": self.environment},
        )  # fmt: skip
        self.made[name] = told["FunctionArn"]
        return self.made[name]

    def gateway(self, arn: str, authorizer: str = "") -> httpx.Client:
        """An HTTP API that passes everything to a function, on a client of its own."""
        client = self.cloud.client("apigatewayv2")
        api = client.create_api(Name=self.prefix, ProtocolType="HTTP")["ApiId"]
        integration = client.create_integration(
            ApiId=api, IntegrationType="AWS_PROXY", IntegrationUri=arn, PayloadFormatVersion="2.0"
        )["IntegrationId"]
        route: dict[str, Any] = {"ApiId": api, "RouteKey": "$default", "Target": f"integrations/{integration}"}
        if authorizer:
            where = f"arn:aws:apigateway:{self.cloud.region}:lambda:path/2015-03-31/functions/{authorizer}/invocations"
            made = client.create_authorizer(
                ApiId=api, Name="keys", AuthorizerType="REQUEST", AuthorizerUri=where, EnableSimpleResponses=True,
                AuthorizerPayloadFormatVersion="2.0", AuthorizerResultTtlInSeconds=0,
                IdentitySource=["$request.header.Authorization"],
            )  # fmt: skip
            route |= {"AuthorizationType": "CUSTOM", "AuthorizerId": made["AuthorizerId"]}
        client.create_route(**route)
        client.create_stage(ApiId=api, StageName="$default", AutoDeploy=True)
        at = self.cloud.endpoints["apigatewayv2"]
        host = f"{api}.execute-api.localhost:{at.rpartition(':')[2]}"
        return httpx.Client(base_url=at, timeout=120, headers={"host": host})

    def invoke(self, name: str, event: dict[str, Any]) -> dict[str, Any]:
        """What a function answers an event."""
        said = self.cloud.client("lambda", read_timeout=120).invoke(
            FunctionName=self.made[name], Payload=json.dumps(event)
        )
        return {"error": said.get("FunctionError"), **json.loads(said["Payload"].read())}

    def key(self, name: str = "ci", **named: Any) -> tuple[str, dict[str, str]]:
        """A new key: its id, and the header that shows it."""
        known, text = keys.create(self.lake.local.files, name, who="Ada", **named)
        return known.id, {"authorization": f"Bearer {text}"}

    def logged(self) -> str:
        """All that the functions and the doubles wrote into logs."""
        client, said = self.cloud.client("logs"), ""
        for name in self.made:
            for page in client.get_paginator("filter_log_events").paginate(
                logGroupName=f"/aws/lambda/{self.prefix}-{name}"
            ):
                said += "".join(one["message"] for one in page["events"])
        return said + "".join(one.read_text(errors="replace") for one in (self.cloud.directory / "logs").iterdir())


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A lake whose records are all good, with release 1, and the zip that `scripts/lambda` makes for it."""
    root, cloud = tmp_path_factory.mktemp("lambda"), clouds.shared()
    lake = serving_lake.empty(root / "local")
    lake.local.close()
    lake.local = make_on_aws(root / "aws")
    for number, symbol in enumerate(serving_lake.SYMBOLS):
        lake.land("price_eod", symbol, [serving_lake.price(symbol, *one) for one in serving_lake.days(number)])
    lake.refine()
    lake.release(1, TABLES)
    prefix = lake.local.files.prefix.split("/")[0]  # type: ignore[attr-defined]
    (root / "lake").mkdir()
    (root / "lake" / "assay.toml").write_text(
        f'[lake]\nname = "Test lake"\n[aws]\nregion = "{cloud.region}"\naccount = "{cloud.account}"\nbucket = "lake"\nprefix = "{prefix}"\n'
    )
    cloud.client("secretsmanager").create_secret(Name=f"{prefix}/dev/cursor", SecretBinary=b"k" * 32)
    environment = {"ASSAY_ENV": "dev", "ASSAY_CLOUDSIM": str(cloud.directory / "endpoints.json")}
    made = Api(lake, cloud, zipped(root / "lake", root / "lambda.zip"), prefix, environment)
    made.shown = made.key()[1]
    yield made
    lake.close()


def zipped(lake: Path, output: Path) -> Path:
    """The zip of a lake, of packages that were fetched before."""
    lock = hashlib.sha256((ROOT / "requirements/lambda.txt").read_bytes()).hexdigest()[:16]
    if not (ROOT / "dist/lambda" / f"{VERSION}-{lock}").is_dir():
        pytest.fail("the packages of the Lambda function are not there: run scripts/extras lambda")
    command = [ROOT / "scripts/lambda", lake, "--python", VERSION, "--output", output]
    subprocess.run(command, check=True, timeout=300, stdout=subprocess.DEVNULL)
    return output


@pytest.fixture(scope="module")
def served(api: Api) -> Iterator[httpx.Client]:
    with api.gateway(api.function("api")) as client:
        yield client


def matters(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """Status, body, and the headers that a server says of its answer."""
    return answer.status_code, answer.content, {n: v for n, v in answer.headers.items() if n not in OF_THE_WAY}


# ------------------------------------------------------------------ the zip


def test_the_zip_is_the_same_again_and_fits_into_a_function(api: Api, tmp_path: Path) -> None:
    again = zipped(api.package.with_name("lake"), tmp_path / "again.zip")
    assert again.read_bytes() == api.package.read_bytes()
    with zipfile.ZipFile(api.package) as found:
        names = [one.filename for one in found.infolist()]
        assert sum(one.file_size for one in found.infolist()) < 250e6
    assert names == sorted(names)
    assert {"lake/assay.toml", "assay/aws_lambda.py", "assay/serve/console/templates/locked.html"} <= set(names)
    assert not {one.partition("/")[0] for one in names} & {*HEAVY, *RUNTIME}


ONCE = """
import json, sys
sys.path[:0] = sys.argv[1:3]
from assay import aws_lambda
told = aws_lambda.handler(json.load(sys.stdin), None)
refused = aws_lambda.authorizer({"headers": {}}, None)
print(json.dumps([told, refused, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def test_the_handler_needs_nothing_but_its_zip_and_boto3(api: Api, tmp_path: Path) -> None:
    runtime, code = tmp_path / "runtime", tmp_path / "code"
    runtime.mkdir()
    there = Path(boto3.__file__).parents[1]
    for name in RUNTIME:
        (runtime / name).symlink_to(there / name)
    with zipfile.ZipFile(api.package) as found:
        found.extractall(code)
    shown = api.shown
    environment = {
        **api.environment, "LAMBDA_TASK_ROOT": str(code), "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512", "TMPDIR": str(tmp_path),
        "PATH": os.environ["PATH"], "HOME": str(tmp_path),
    }  # fmt: skip
    told = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ONCE, code, runtime], input=json.dumps(event(f"{FCT}", "limit=2", shown)),
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    answer, refused, modules = json.loads(told.stdout)
    assert answer["statusCode"] == 200, answer
    assert len(json.loads(answer["body"])["data"]) == 2
    assert refused == {"isAuthorized": False}
    assert not HEAVY & set(modules)
    assert {"duckdb", "mangum", "boto3"} <= set(modules)
    its = {one.serving_sha256 for one in api.lake.reader().release.gold}
    # of the serving files, and none of silver; /tmp is what is written
    assert {release.file_sha256(one) for one in tmp_path.glob("assay/dev.aws/copies/*")} == its


def event(path: str, query: str = "", headers: dict[str, str] | None = None) -> dict[str, Any]:
    """A request as API Gateway's payload format 2.0 has it."""
    return {
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query,
        "headers": {"host": "id.execute-api.ca-central-1.amazonaws.com", "x-forwarded-proto": "https", **(headers or {})},
        "requestContext": {
            "accountId": "123456789012", "apiId": "id", "domainName": "id.execute-api.ca-central-1.amazonaws.com",
            "http": {"method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test"},
            "requestId": "r", "routeKey": "$default", "stage": "$default", "timeEpoch": 0,
        },
        "isBase64Encoded": False,
    }  # fmt: skip


# ------------------------------------------------------------------ behind API Gateway


def test_what_it_answers_is_what_the_lakes_own_server_answers(api: Api, served: httpx.Client) -> None:
    shown = api.shown
    asked = [
        f"{FCT}?limit=3", f"{FCT}?symbol=BRK.B&select=symbol,date,note,score&limit=500", f"{FCT}?limit=2&format=csv",
        f"{FCT}?symbol=%C3%BC", "/v1/gold/mart_known?limit=2&as_of=2024-03-01T00:00:00Z", "/v1/gold", "/v1/releases/current",
        f"{FCT}?limit=0", f"{FCT}?nope=1", "/v1/gold/nope", "/v1/health", f"/v1/explain/fct_price?symbol=AAA&date={date(2024, 1, 2)}",
    ]  # fmt: skip
    with serving_lake.serving(api.lake, keyed=True) as url, serving_lake.client(url) as near:
        for path in asked:
            assert matters(served.get(path, headers=shown)) == matters(near.get(path, headers=shown)), path
        found = served.get(f"{FCT}?limit=3", headers=shown)
        assert (found.status_code, found.headers["x-assay-newer"]) == (200, "0")
        again = {**shown, "if-none-match": found.headers["etag"]}
        assert served.get(f"{FCT}?limit=3", headers=again).status_code == 304
        pages = {}
        for name, client in (("far", served), ("near", near)):
            path, pages[name] = f"{FCT}?symbol=AAA&limit=50", []
            while path:
                page = client.get(path, headers=shown)
                pages[name].append(page.content)
                path = page.links.get("next", {}).get("url", "")
        assert len(pages["far"]) == 3
        assert pages["far"] == pages["near"]
        forged = served.get(f"{FCT}?symbol=AAA&limit=50&cursor=AAAA", headers=shown)
        assert matters(forged) == matters(near.get(f"{FCT}?symbol=AAA&limit=50&cursor=AAAA", headers=shown))
        assert forged.status_code == 404


def test_gold_alone_is_served_and_only_read(api: Api, served: httpx.Client) -> None:
    shown = api.shown
    answer = served.get("/v1/silver/price_eod", headers=shown)
    assert (answer.status_code, answer.json()["who"]) == (404, "operator")
    assert "`assay serve`" in answer.json()["detail"]
    assert served.get("/v1/silver", headers=shown).json()["data"] == []
    paths = served.get("/openapi.json", headers=shown).json()["paths"]
    assert FCT in paths
    assert not [one for one in paths if one.startswith("/v1/silver/")]
    page = served.get("/", headers=shown)
    assert (page.status_code, page.headers["content-type"]) == (404, "application/problem+json")
    assert served.post(FCT, headers=shown).status_code == 405
    assert served.get(FCT, headers={**shown, "origin": "https://elsewhere.example"}).status_code == 403


def test_who_shows_no_key_is_told_nothing_and_another_only_what_its_key_reads(api: Api, served: httpx.Client) -> None:
    (its, shown), (_, other) = api.key("soon gone"), api.key("splits", datasets=("splits",))
    time.sleep(LOOKS)
    refused = [served.get(FCT), served.get(FCT, headers={"authorization": "Bearer no"}), served.get("/openapi.json")]
    assert [one.status_code for one in refused] == [401] * 3
    assert "assay keys create" in refused[0].json()["detail"]
    assert served.get("/v1/health").json() == {"status": "ok", "release": None}
    answer = served.get(FCT, headers=other)
    assert (answer.status_code, answer.json()["who"]) == (403, "caller")
    assert served.get(FCT, headers=shown).status_code == 200
    keys.revoke(api.lake.local.files, its, who="Ada")
    time.sleep(LOOKS)
    assert served.get(FCT, headers=shown).status_code == 401


def test_an_answer_that_lambda_would_not_pass_on_is_refused_with_what_to_do(api: Api, served: httpx.Client) -> None:
    whole = served.get("/v1/gold/wide?limit=2000", headers=api.shown)
    assert (whole.status_code, len(whole.json()["data"])) == (200, 2000)
    answer = served.get("/v1/gold/wide?limit=4000", headers=api.shown)
    assert (answer.status_code, answer.json()["who"]) == (400, "caller")
    assert "ask for fewer rows" in answer.json()["detail"]


def test_the_authorizer_takes_the_same_keys_and_tells_their_names(api: Api) -> None:
    arn = api.function("authorizer", "authorizer")
    ends = clock.now() + timedelta(seconds=12)
    (its, shown), (_, brief) = api.key("research"), api.key("brief", expires=ends)
    asked = {"type": "REQUEST", "routeArn": "arn:aws:execute-api:x", "identitySource": []}

    def answered(headers: dict[str, str]) -> dict[str, Any]:
        return api.invoke("authorizer", event(FCT, "", headers) | asked | {"identitySource": list(headers.values())})

    good = {"error": None, "isAuthorized": True, "context": {"key": "research"}}
    assert answered(shown) == good
    assert answered(brief)["isAuthorized"]
    assert answered({"Authorization": shown["authorization"]}) == good
    refused = {"error": None, "isAuthorized": False}
    assert answered({}) == answered({"authorization": "Bearer x"}) == answered({"authorization": "Bearer ü"}) == refused
    with api.gateway(api.made["api"], arn) as client:
        assert client.get(FCT, headers=shown).status_code == 200
        assert client.get(FCT).json() == {"message": "Unauthorized"}  # which API Gateway says by itself
        wrong = client.get(FCT, headers={"authorization": "Bearer x"})
        assert (wrong.status_code, wrong.json()) == (403, {"message": "Forbidden"})
        time.sleep(max(0.0, (ends - clock.now()).total_seconds()))
        assert answered(brief) == refused
        keys.revoke(api.lake.local.files, its, who="Ada")
        time.sleep(LOOKS)
        assert answered(shown) == refused
        assert client.get(FCT, headers=shown).status_code == 403


# ------------------------------------------------------------------ releases come, and are damaged


def test_a_newer_release_is_taken_up_and_what_it_cannot_know_it_does_not_say(api: Api, served: httpx.Client) -> None:
    shown = api.shown
    lake = api.lake
    assert served.get("/v1/health", headers=shown).json()["release"] == 1
    serving_lake.correct(lake)
    lake.land("price_eod", "AAA", [serving_lake.price("AAA", date(2023, 12, 29), -5.0, 10)])
    lake.refine()
    lake.release(2, TABLES)
    time.sleep(1.2)
    far = served.get(f"{FCT}?symbol=AAA&limit=10", headers=shown)
    assert far.headers["x-assay-release"] == "2"
    with serving_lake.serving(lake, keyed=True) as url, serving_lake.client(url) as near:
        known = near.get(f"{FCT}?symbol=AAA&limit=10", headers=shown)
    assert far.json()["data"] == known.json()["data"]
    # a record was rejected: which rows it is newer than takes the catalog, which the function has not
    assert (far.headers["x-assay-newer"], known.headers["x-assay-newer"]) == ("unknown", "0")
    assert {name for name, value in far.json().items() if value != known.json()[name]} == {"newer"}


def test_a_serving_file_that_is_not_what_was_written_is_refused(api: Api, served: httpx.Client) -> None:
    shown = api.shown
    before = served.get(f"{FCT}?limit=2", headers=shown).headers["x-assay-release"]
    day, close, volume = serving_lake.days(1)[7]
    api.lake.land("price_eod", "BRK.B", [serving_lake.price("BRK.B", day, close + 3, volume)])
    api.lake.refine()
    made = api.lake.release(int(before) + 1, TABLES)
    files, s3 = api.lake.local.files, api.cloud.client("s3")
    name = made.table("fct_price").serving
    where = {"Bucket": "lake", "Key": f"{files.prefix}{name}"}  # type: ignore[attr-defined]
    data = s3.get_object(**where)["Body"].read()
    s3.put_object(Body=data[:5000] + bytes([data[5000] ^ 1]) + data[5001:], **where)
    time.sleep(1.2)
    assert served.get(f"{FCT}?limit=2", headers=shown).headers["x-assay-release"] == before  # who has one serves it on
    with api.gateway(api.function("cold")) as client:
        answer = client.get(f"{FCT}?limit=2", headers=shown)
        assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
        assert answer.json()["who"] == "operator"
        assert answer.json()["detail"].startswith("what is stored is not what was written; the lake's owner finds")
        assert f"{name} does not have the bytes that were written; restore it from a copy" in api.logged()
        s3.put_object(Body=data, **where)
        time.sleep(1.2)
        assert client.get(f"{FCT}?limit=2", headers=shown).headers["x-assay-release"] == str(made.number)


def test_a_function_that_is_not_configured_says_so_and_no_log_holds_a_key(api: Api) -> None:
    shown = api.shown
    nowhere = replace(api, environment={"ASSAY_CLOUDSIM": api.environment["ASSAY_CLOUDSIM"]})
    with api.gateway(nowhere.function("nowhere")) as client:
        answer = client.get(f"{FCT}?limit=2", headers=shown)
    assert (answer.status_code, answer.json()["who"]) == (500, "operator")
    logged = api.logged()
    assert "ASSAY_ENV is not set" in logged
    assert shown["authorization"].removeprefix("Bearer ")[-43:] not in logged
    assert "assay_" not in logged.replace("assay_cloudsim", "")
