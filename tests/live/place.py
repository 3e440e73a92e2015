"""What lies where a lake of AWS writes: `python -m tests.live.place look|clean LAKE ENV` says it as JSON, or takes it away."""

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from assay import settings
from assay.targets import aws
from assay.targets.aws.clients import Clients
from assay.targets.aws.s3 import S3Files


class Place:
    """The objects below the lake's prefix, the tables of its databases, the items of its ledger: nothing else of the account."""

    def __init__(self, root: Path, env: str) -> None:
        self.said = aws.of(settings.read(root, env))
        self.clients = Clients(self.said)
        self.files = S3Files(self.clients, self.said.bucket, aws.objects(self.said, env), root, self.said.account)
        self.ledger = aws.table(self.said, env)
        self.databases = [aws.database(self.said, env, one) for one in aws.NAMESPACES]

    def look(self) -> dict[str, int]:
        return {"objects": len([*self.files.names("")]), "tables": len([*self.tables()]), "items": len([*self.items()])}

    def clean(self) -> None:
        """What was made comes away; bucket, table, databases and secrets stay, as somebody else made them."""
        for database, table in [*self.tables()]:
            self.clients("glue").delete_table(DatabaseName=database, Name=table)
        for name in [*self.files.names("")]:
            self.files.delete(name)
        for key in [*self.items()]:
            self.clients("dynamodb").delete_item(TableName=self.ledger, Key=key)

    def tables(self) -> Any:
        for database in self.databases:
            for page in self.clients("glue").get_paginator("get_tables").paginate(DatabaseName=database):
                yield from ((database, one["Name"]) for one in page["TableList"])

    def items(self) -> Any:
        pages = self.clients("dynamodb").get_paginator("scan")
        for page in pages.paginate(TableName=self.ledger, ProjectionExpression="pk, sk", ConsistentRead=True):
            yield from page["Items"]


def main() -> None:
    what, root, env = sys.argv[1:]
    place = Place(Path(root), env)
    with closing(place.clients):
        if what == "clean":
            place.clean()
        print(json.dumps(place.look()))


if __name__ == "__main__":
    main()
