"""`assay-cloudsim up`: what it starts answers on 127.0.0.1 alone, and ends with it, however it ended."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

from tests import clouds
from tests.clouds import Cloud

pytestmark = pytest.mark.slow


def family(pid: int) -> set[int]:
    """The processes below one."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        below.setdefault(parent, []).append(int(stat.parent.name))
    found, ahead = set(), [pid]
    while ahead:
        found.add(one := ahead.pop())
        ahead += below.get(one, [])
    return found


def listening(pids: set[int]) -> set[str]:
    """The addresses that processes listen on, as /proc/net says them."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(str(link.readlink()))
            except OSError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            cells = row.split()
            if cells[3] == "0A" and f"socket:[{cells[9]}]" in inodes:
                found.add(cells[1])
    return found


def wait_gone(pids: set[int]) -> set[int]:
    """Those that are still there after a while."""
    until = time.monotonic() + 15
    left = pids
    while left and time.monotonic() < until:
        left = {pid for pid in left if Path(f"/proc/{pid}/cmdline").exists() and _alive(pid)}
        time.sleep(0.05)
    return left


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_every_service_answers_boto3(cloud: Cloud) -> None:
    told = json.loads((cloud.directory / "endpoints.json").read_text())
    assert told == {"account": cloud.account, "region": cloud.region, "endpoints": cloud.endpoints}
    assert (cloud.directory / "endpoints.json").stat().st_mode & 0o777 == 0o600
    assert cloud.client("sts").get_caller_identity()["Account"] == cloud.account
    cloud.client("s3").create_bucket(Bucket="answers", CreateBucketConfiguration={"LocationConstraint": cloud.region})
    queue = cloud.client("sqs").create_queue(QueueName="answers")["QueueUrl"]
    cloud.client("sqs").send_message(QueueUrl=queue, MessageBody="one")
    assert cloud.client("sqs").receive_message(QueueUrl=queue)["Messages"][0]["Body"] == "one"
    for service, operation in {
        "dynamodb": "list_tables",
        "secretsmanager": "list_secrets",
        "lambda": "list_functions",
        "apigatewayv2": "get_apis",
        "logs": "describe_log_groups",
        "iam": "list_roles",
        "kms": "list_keys",
        "glue": "get_databases",
    }.items():
        getattr(cloud.client(service), operation)()


def test_nothing_listens_beyond_this_machine(cloud: Cloud) -> None:
    ours = listening(family(cloud.process.pid))
    ports = {int(url.rpartition(":")[2]) for url in cloud.endpoints.values()}
    assert {int(one.partition(":")[2], 16) for one in ours} == ports
    assert {one.partition(":")[0] for one in ours} == {"0100007F"}  # 127.0.0.1


FUNCTION = """
import boto3, os
def answer(event, context):
    names = [one["Name"] for one in boto3.client("glue").get_databases()["DatabaseList"]]
    return {"statusCode": 200, "body": f"{'of-lambda' in names} {'A_SECRET' in os.environ}"}
"""


def test_a_function_behind_an_api_reaches_the_other_services(cloud: Cloud) -> None:
    cloud.client("glue").create_database(DatabaseInput={"Name": "of-lambda"})
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("handler.py", FUNCTION)
    role = cloud.client("iam").create_role(RoleName="function", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    function = cloud.client("lambda").create_function(
        FunctionName="f",
        Runtime="python3.11",
        Role=role,
        Handler="handler.answer",
        Code={"ZipFile": packed.getvalue()},
        Timeout=30,
    )["FunctionArn"]
    gateway = cloud.client("apigatewayv2")
    api = gateway.create_api(Name="a", ProtocolType="HTTP")["ApiId"]
    integration = gateway.create_integration(
        ApiId=api, IntegrationType="AWS_PROXY", IntegrationUri=function, PayloadFormatVersion="2.0"
    )["IntegrationId"]
    gateway.create_route(ApiId=api, RouteKey="GET /x", Target=f"integrations/{integration}")
    gateway.create_stage(ApiId=api, StageName="$default", AutoDeploy=True)
    asked = urllib.request.Request(
        f"{cloud.endpoints['apigatewayv2']}/x", headers={"Host": f"{api}.execute-api.localhost"}
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        assert answer.read() == b"True False"


def test_a_directory_serves_one_at_a_time(cloud: Cloud) -> None:
    in_use = f"assay-cloudsim: {cloud.directory} is in use: another assay-cloudsim runs there\n"
    assert refused("up", "--directory", cloud.directory) == (1, in_use)
    assert json.loads((cloud.directory / "endpoints.json").read_text())["endpoints"] == cloud.endpoints


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, "stdin"])
def test_nobody_outlives_it(tmp_path: Path, how: signal.Signals | str) -> None:
    with clouds.cloud(tmp_path / "c") as started:
        all_of_it = family(started.process.pid)
        assert len(all_of_it) > 2
        if isinstance(how, str):
            started.process.stdin.close()  # type: ignore[union-attr]
        else:
            started.process.send_signal(how)
        code = started.process.wait(20)
        assert wait_gone(all_of_it) == set()
    assert code == (-signal.SIGKILL if how == signal.SIGKILL else 0)
    assert (tmp_path / "c" / "endpoints.json").exists() == (how == signal.SIGKILL)
    if how == signal.SIGKILL:
        with clouds.cloud(tmp_path / "c") as again:
            assert again.endpoints != started.endpoints


def test_a_part_that_dies_ends_it_with_a_sentence(tmp_path: Path) -> None:
    words, environment = clouds.command("up", "--directory", tmp_path / "c")
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as process:
        assert process.stdout
        assert process.stdout.readline()
        all_of_it = family(process.pid)
        (glue,) = [p for p in all_of_it if b"\0glue\0" in Path(f"/proc/{p}/cmdline").read_bytes()]
        os.kill(glue, signal.SIGKILL)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert said.decode().startswith("assay-cloudsim: glue ended with -9 (see ")
    assert said.count(b"\n") == 1
    assert wait_gone(all_of_it) == set()


def refused(*options: object) -> tuple[int, str]:
    words, environment = clouds.command(*options)
    done = subprocess.run(
        words, check=False, env=environment, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_what_cannot_be_is_said_in_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert refused("up", "--directory", tmp_path / "c", "--port", port) == (
            1,
            f"assay-cloudsim: port {port} cannot be had for ministack: Address already in use; choose another --port\n",
        )
    (tmp_path / "file").touch()
    code, said = refused("up", "--directory", tmp_path / "file")
    assert (code, said) == (1, f"assay-cloudsim: {tmp_path / 'file'} cannot be used: File exists\n")
    here = [sys.executable, "-m", "assay_cloudsim", "up"]  # this environment has no MiniStack
    path = os.environ | {"PYTHONPATH": str(clouds.ROOT / "cloudsim" / "src")}
    done = subprocess.run(here, check=False, capture_output=True, text=True, env=path)
    missing = f"ministack is not installed beside {sys.executable}: pip install assay-cloudsim there"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"assay-cloudsim: {missing}\n")
    code, said = refused("up", "--image", "lake:1=/none-such")
    assert (code, "is not NAME=DIRECTORY with a bin in the directory" in said) == (2, True)
    code, said = refused("up", "--port", "80")
    assert (code, "80 is no port between 1024 and 65000" in said) == (2, True)
    code, said = refused("down")
    assert (code, "invalid choice: 'down'" in said) == (2, True)


def test_assay_starts_it(tmp_path: Path) -> None:
    """`assay cloudsim up` is the same process, wherever the executable is."""
    (tmp_path / "bin").mkdir()
    words, environment = clouds.command("up", "--tethered", "--directory", tmp_path / "c", "--region", "eu-west-1")
    program = tmp_path / "bin" / "assay-cloudsim"
    program.write_text(f'#!/bin/sh\nexec env PYTHONPATH={environment["PYTHONPATH"]} {" ".join(words[:3])} "$@"\n')
    program.chmod(0o755)
    assay = [sys.executable, "-c", "from assay import cli; cli.main()", "cloudsim", *words[3:]]
    missing = subprocess.run(
        assay, check=False, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PATH": ""}
    )
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "assay-cloudsim is not installed: run scripts/extras cloudsim" in missing.stderr
    on_path = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    with subprocess.Popen(assay, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=on_path) as process:
        assert process.stdin
        assert process.stdout
        assert json.loads(process.stdout.readline())["region"] == "eu-west-1"
        process.stdin.close()
        assert process.wait(20) == 0


def test_it_and_assay_are_strangers() -> None:
    def imports(root: Path) -> set[str]:
        found = re.compile(r"^\s*(?:from|import) (\w+)", re.MULTILINE)
        return {name for file in root.rglob("*.py") for name in found.findall(file.read_text())}

    assert {"assay", "assay_sandbox"} & imports(clouds.ROOT / "cloudsim" / "src") == set()
    assert "assay_cloudsim" not in imports(clouds.ROOT / "src")
