"""The ledger on AWS: one DynamoDB table, written by conditions, read by key and in pages."""

import random
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec
from botocore import exceptions

from assay import clock
from assay.errors import LakeBusy, LakeDamaged
from assay.ports import FACTS, Fact, bodies
from assay.targets.aws.clients import Clients, code_of, errors

TRIES, PAUSE = 12, 0.02  # of transactions that met others: seconds before the second try, doubled up to 1 s
FORGOTTEN = timedelta(days=1)  # after which DynamoDB may take away a lease that is over
LEASE = "lease#"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEWER = "attribute_not_exists(pk) OR #version < :version"
_FREE = "attribute_not_exists(pk) OR #owner = :owner OR #until <= :now"
Item = dict[str, dict[str, str]]
Key = tuple[str, str]


class DynamoLedger:
    """See `assay.ports.Ledger`, in a table with partition key `pk` and sort key `sk`, both texts.

    A fact is an item `<kind>#<dataset>`, `<id>`; a lease is one of `lease#`. Reads are consistent, so it lacks nothing. A write
    of several is one transaction of at most 100 items (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html).
    """

    def __init__(self, clients: Clients, table: str) -> None:
        self._clients, self._table = clients, table

    def record(self, facts: Iterable[Fact]) -> list[Fact]:
        puts = {}
        for fact, body in bodies(facts):
            item: Item = {
                "pk": {"S": f"{fact.kind}#{fact.dataset}"}, "sk": {"S": fact.id}, "at": {"S": fact.at.isoformat()},
                "version": {"N": str(fact.version)}, "body": {"S": body},
            }  # fmt: skip
            puts[f"{fact.kind}#{fact.dataset}", fact.id] = {
                "Item": item, "ConditionExpression": _NEWER, "ExpressionAttributeNames": {"#version": "version"},
                "ExpressionAttributeValues": {":version": item["version"]}, "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }  # fmt: skip
        out = []
        for (pk, sk), item in self._write(puts, "Put").items():
            kind, _, dataset = pk.partition("#")
            if there := self._fact(item) if item else self.newest(kind, dataset, sk):
                out.append(there)
        return out

    def newest(self, kind: str, dataset: str, id: str | None = None) -> Fact | None:  # noqa: A002 - the field's name
        pk = f"{kind}#{dataset}"
        if id is None:
            with errors("dynamodb", self._table):
                page = self._query(pk, ScanIndexForward=False, Limit=1)
            found = page["Items"][0] if page["Items"] else None
        else:
            if not id:
                return None
            with errors("dynamodb", self._table):
                key = {"pk": {"S": pk}, "sk": {"S": id}}
                found = self._db.get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")
        return self._fact(found) if found else None

    def since(self, kind: str, dataset: str, after: str = "") -> Iterator[Fact]:
        pk, start = f"{kind}#{dataset}", dict[str, Any]()
        while True:
            with errors("dynamodb", self._table):
                page = self._query(pk, after, **start)
            yield from map(self._fact, page["Items"])
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def claim(self, name: str, owner: str, until: datetime) -> bool:
        return bool(self.claims([name], owner, until))

    def claims(self, names: Collection[str], owner: str, until: datetime) -> set[str]:
        now, end = clock.now(), _micros(until)
        condition = {
            "ConditionExpression": _FREE, "ExpressionAttributeNames": {"#owner": "owner", "#until": "until"},
            "ExpressionAttributeValues": {":owner": {"S": owner}, ":now": {"N": str(_micros(now))}},
        }  # fmt: skip
        mine: set[str] = set()
        wanted = sorted(names)
        for first in range(0, len(wanted), FACTS):
            some = wanted[first : first + FACTS]
            if until <= now:
                ends = {(LEASE, n): {"Key": {"pk": {"S": LEASE}, "sk": {"S": n}}, **condition} for n in some}
                lost = self._write(ends, "Delete")
            else:
                over = str(int((until + FORGOTTEN).timestamp()))
                puts = {
                    (LEASE, n): {
                        "Item": {
                            "pk": {"S": LEASE}, "sk": {"S": n}, "owner": {"S": owner}, "until": {"N": str(end)}, "expires": {"N": over},
                        },
                        **condition,
                    }
                    for n in some
                }  # fmt: skip
                lost = self._write(puts, "Put")
            mine.update(n for n in some if (LEASE, n) not in lost)
        return mine

    def close(self) -> None:
        """Nothing is held open here: the clients are the target's."""

    @property
    def _db(self) -> Any:
        return self._clients("dynamodb")

    def _query(self, pk: str, after: str = "", **more: Any) -> Any:
        where, values = "pk = :pk", {":pk": {"S": pk}}
        if after:
            where, values = "pk = :pk AND sk > :after", {":pk": {"S": pk}, ":after": {"S": after}}
        return self._db.query(
            TableName=self._table,
            KeyConditionExpression=where,
            ExpressionAttributeValues=values,
            ConsistentRead=True,
            **more,
        )

    def _write(self, acts: Mapping[Key, Mapping[str, Any]], what: str) -> dict[Key, Item]:
        """Do all acts whose conditions hold, in one transaction; of the others the keys, and the item if the act wants it."""
        left, refused = dict(acts), dict[Key, Item]()
        for attempt in range(TRIES):
            if not left:
                return refused
            keys = list(left)
            try:
                self._write_all(left, what)
            except exceptions.ClientError as error:
                lost = self._lost(error, keys)
                refused |= lost
                left = {key: act for key, act in left.items() if key not in lost}
                if not lost:  # another transaction holds one of the items
                    time.sleep(min(1.0, PAUSE * 2**attempt) * random.uniform(0.5, 1))  # noqa: S311 - no secret
            else:
                return refused
        raise LakeBusy(
            f"table {self._table} is written by many at once, and did not take this after {TRIES} tries; run it again"
        )

    def _write_all(self, acts: Mapping[Key, Mapping[str, Any]], what: str) -> None:
        with errors("dynamodb", self._table):
            if len(acts) == 1:
                call = self._db.put_item if what == "Put" else self._db.delete_item
                call(TableName=self._table, **next(iter(acts.values())))
            else:
                self._db.transact_write_items(
                    TransactItems=[{what: {"TableName": self._table, **act}} for act in acts.values()]
                )

    def _lost(self, error: exceptions.ClientError, keys: list[Key]) -> dict[Key, Item]:
        """Whose condition did not hold; nobody's where it met another transaction."""
        code, said = code_of(error), cast("Any", error.response)
        if code == "ConditionalCheckFailedException":
            return dict.fromkeys(keys, said.get("Item", {}))  # of one act
        if code == "TransactionConflictException":
            return {}
        if code != "TransactionCanceledException":
            raise error
        reasons = said.get("CancellationReasons", [])
        lost = {
            key: why.get("Item", {})
            for key, why in zip(keys, reasons, strict=False)
            if why.get("Code") == "ConditionalCheckFailed"
        }
        passing = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
        if not lost and not passing & {why.get("Code") for why in reasons}:
            raise error
        return lost

    def _fact(self, item: Item) -> Fact:
        try:
            kind, _, dataset = item["pk"]["S"].partition("#")
            at = datetime.fromisoformat(item["at"]["S"])
            return Fact(
                kind, dataset, item["sk"]["S"], at, msgspec.json.decode(item["body"]["S"]), int(item["version"]["N"])
            )
        except (KeyError, ValueError, msgspec.DecodeError) as error:
            raise LakeDamaged(
                f"table {self._table} is not a ledger (an item of it cannot be read: {type(error).__name__}); make an empty one: it is "
                "an index and is rebuilt from the lake"
            ) from error


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
