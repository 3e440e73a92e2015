"""AWS: objects in S3, tables in Glue, the ledger in DynamoDB, secrets in Secrets Manager; DuckDB refines on this machine's disk."""

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from assay.errors import SettingsError
from assay.lake.files import SCRATCH
from assay.ports import Engine, Launcher, Ledger, Limits, Platforms
from assay.settings import Aws, Settings, size
from assay.targets import Target

if TYPE_CHECKING:  # what it imports takes a second that `status` of a local lake need not pay
    from pyiceberg.catalog import Catalog


NAMESPACES = ("silver", "gold")
_ENV = re.compile(r"(?=.{1,30}$)[a-z0-9]+(-[a-z0-9]+)*")


def open_target(settings: Settings) -> Target:
    """Open a lake whose data lies on AWS; SettingsError where `[aws]` or boto3 is missing.

    Nothing is made there: bucket, table and databases are whoever's provisions the lake.
    """
    aws = of(settings)
    try:
        from assay.targets.aws.clients import Clients
        from assay.targets.aws.dynamodb import DynamoLedger
        from assay.targets.aws.emf import Emf
        from assay.targets.aws.emf import asked as wants_metrics
        from assay.targets.aws.s3 import S3Files
        from assay.targets.aws.secretsmanager import AwsSecrets
    except ModuleNotFoundError as error:
        if error.name not in ("boto3", "botocore"):
            raise
        raise SettingsError("the target aws needs boto3: install assay[aws]") from error
    clients = Clients(aws)
    disk = settings.data.with_name(f"{settings.env}.aws")
    files = S3Files(clients, aws.bucket, objects(aws, settings.env), disk, aws.account, size(aws.copies))
    limits = Limits(settings.memory, settings.threads, disk / SCRATCH)

    def catalog() -> "Catalog":
        from assay.targets.aws.glue import LakeCatalog

        return LakeCatalog(clients, database(aws, settings.env, ""), files, files.base)

    def ledger() -> Ledger:
        return DynamoLedger(clients, table(aws, settings.env))

    def engine() -> Engine:
        from assay.engines.duckdb import DuckDBEngine

        return DuckDBEngine(limits)

    def launcher() -> Launcher:
        from assay.targets.aws.ecs import EcsLauncher

        return EcsLauncher(clients, settings.env)

    def platforms() -> Platforms:
        from assay.targets.aws.athena import Athena

        return Athena(clients, settings.env, files, files.base)

    secrets = AwsSecrets(clients, f"{aws.prefix}/{settings.env}/")
    found = Target(
        "aws", settings, files, secrets, limits, catalog, ledger, engine, close_clients=clients.close, open_launcher=launcher,
        open_platforms=platforms if aws.workgroup else None,
    )  # fmt: skip
    return replace(found, measure=Emf(clients, aws, settings.env)) if wants_metrics() else found


def of(settings: Settings) -> Aws:
    """`[aws]` of the lake's settings; SettingsError where there is none."""
    if settings.aws is None:
        raise SettingsError(f"{settings.root / 'assay.toml'}: [aws] is missing: it says region, account and bucket")
    if not _ENV.fullmatch(settings.env):
        raise SettingsError(
            f"environment {settings.env!r}: on aws, small letters, digits and single - only, 30 at most: databases, table and keys are named by it"
        )
    return settings.aws


def objects(aws: Aws, env: str) -> str:
    """What the keys of the lake's objects begin with."""
    return f"{aws.prefix}/{env}/"


def database(aws: Aws, env: str, namespace: str) -> str:
    """The Glue database of a namespace, `silver` or `gold`."""
    # Two underscores, which no part has: else another prefix and environment could give the same name.
    return f"{aws.prefix}__{env.replace('-', '_')}__{namespace}"


def table(aws: Aws, env: str) -> str:
    """The DynamoDB table of the ledger."""
    return f"{aws.prefix}-{env}"
