"""What a lake needs to be there on AWS, made in the doubles of `assay cloudsim`; on AWS itself it is infrastructure's to make."""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from botocore import exceptions

from assay.errors import SettingsError
from assay.settings import Settings
from assay.targets.aws import NAMESPACES, database, of, table
from assay.targets.aws.clients import Clients, code_of, errors

_THERE = {"BucketAlreadyOwnedByYou", "ResourceInUseException", "AlreadyExistsException", "ResourceExistsException"}


def make(settings: Settings, secrets: Mapping[str, str]) -> None:
    """Bucket, table, databases and secrets of the lake's environment; what is there stays, a secret gets the new text.

    SettingsError unless the services are doubles: nothing of AWS itself is made here.
    """
    aws = of(settings)
    if not aws.emulated:
        raise SettingsError(
            "only the doubles of `assay cloudsim` are prepared by assay; on AWS, infrastructure as code makes what a lake needs"
        )
    clients = Clients(aws)
    with closing(clients), errors("cloudsim", f"what the lake {aws.prefix} needs"):
        where = {} if aws.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": aws.region}}
        _unless_there(clients("s3").create_bucket, Bucket=aws.bucket, **where)
        ledger(clients("dynamodb"), table(aws, settings.env))
        for one in NAMESPACES:
            name = database(aws, settings.env, one)
            _unless_there(clients("glue").create_database, DatabaseInput={"Name": name})
        for name, text in secrets.items():
            full = f"{aws.prefix}/{settings.env}/{name}"
            if not _unless_there(clients("secretsmanager").create_secret, Name=full, SecretString=text):
                clients("secretsmanager").put_secret_value(SecretId=full, SecretString=text)


def ledger(dynamodb: Any, name: str) -> None:
    """The empty table of a ledger."""
    keys = (("pk", "HASH"), ("sk", "RANGE"))
    made = _unless_there(
        dynamodb.create_table, TableName=name, BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key, _ in keys],
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys],
    )  # fmt: skip
    if made:
        dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        expires = {"Enabled": True, "AttributeName": "expires"}
        dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=expires)


def _unless_there(create: Any, **what: Any) -> bool:
    """Whether it was made now."""
    try:
        create(**what)
    except exceptions.ClientError as error:
        if code_of(error) not in _THERE:
            raise
        return False
    return True
