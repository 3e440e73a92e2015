"""The tables' catalog on AWS: PyIceberg's over Glue, a namespace a database of the lake's own, commits resolved by the head."""

import json
from typing import Any

from pyiceberg.catalog.glue import GlueCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchNamespaceError
from pyiceberg.table import CommitTableResponse, Table

from assay.errors import AssayError, CommitUnknown, LakeBusy
from assay.lake import io
from assay.ports import Files
from assay.targets.aws import NAMESPACES
from assay.targets.aws.clients import Clients, errors

_LOCATION = "metadata_location"


class LakeCatalog(GlueCatalog):
    """See `pyiceberg.catalog.Catalog`: `silver.prices` is table `prices` of the Glue database `<prefix>silver`.

    What AWS says comes as the error of who must act. A commit whose answer was lost, or which Glue refused after it had taken
    it (botocore asks again), is looked for in the table's head and in what the head followed.
    """

    def __init__(self, clients: Clients, prefix: str, files: Files, base: str) -> None:
        super().__init__("lake", clients("glue"), **io.properties(files, base), **{"glue.skip-archive": "true"})
        self._prefix, self._base = prefix, base

    def identifier_to_database(self, identifier: Any, err: Any = ValueError) -> str:  # type: ignore[override]  # it depends on the lake here
        """The Glue database of a namespace, or of a table's."""
        return self._prefix + super().identifier_to_database(identifier, err)

    def identifier_to_database_and_table(self, identifier: Any, err: Any = ValueError) -> tuple[str, str]:  # type: ignore[override]
        """The Glue database and table of `namespace.table`."""
        namespace, table = super().identifier_to_database_and_table(identifier, err)
        return self._prefix + namespace, table

    def load_table(self, identifier: Any) -> Table:
        with errors("glue", _spoken(identifier)):
            return super().load_table(identifier)

    def create_table(
        self, identifier: Any, schema: Any, location: str | None = None, *args: Any, **named: Any
    ) -> Table:
        namespace, table = super().identifier_to_database_and_table(identifier)
        where = location or f"{self._base}warehouse/{namespace}/{table}"
        with errors("glue", _spoken(identifier)):
            return super().create_table(identifier, schema, where, *args, **named)

    def drop_table(self, identifier: Any) -> None:
        with errors("glue", _spoken(identifier)):
            super().drop_table(identifier)

    def create_namespace_if_not_exists(self, namespace: Any, properties: Any = None) -> None:
        if self._there(namespace if isinstance(namespace, str) else namespace[0]):  # who may not make one need not
            return
        with errors("glue", self.identifier_to_database(namespace)):
            super().create_namespace_if_not_exists(namespace, properties or {})

    def list_tables(self, namespace: Any) -> list[Any]:
        with errors("glue", self.identifier_to_database(namespace)):
            try:
                found = super().list_tables(namespace)
            except NoSuchNamespaceError:
                return []
        return [(database.removeprefix(self._prefix), table) for database, table in found]

    def list_namespaces(self, namespace: Any = ()) -> list[Any]:  # noqa: ARG002 - PyIceberg's signature
        """The lake's own namespaces, and no other database of the account."""
        return [(one,) for one in NAMESPACES if self._there(one)]

    def _there(self, namespace: str) -> bool:
        name = self._prefix + namespace
        with errors("glue", name):
            try:
                self.glue.get_database(Name=name)
            except self.glue.exceptions.EntityNotFoundException:
                return False
        return True

    def commit_table(self, table: Table, requirements: Any, updates: Any) -> CommitTableResponse:
        with errors("glue", _spoken(table.name())):
            return super().commit_table(table, requirements, updates)

    def close(self) -> None:
        """Nothing is held open here: the clients are the target's."""

    def _convert_glue_to_iceberg(self, glue_table: Any) -> Table:
        table = super()._convert_glue_to_iceberg(glue_table)
        table._identifier = (glue_table["DatabaseName"].removeprefix(self._prefix), glue_table["Name"])  # noqa: SLF001 - there is no other way to name it
        return table

    def _is_s3tables_database(self, database_name: str) -> bool:  # noqa: ARG002 - asked for at each commit, a call of its own
        return False

    def _update_glue_table(self, database_name: str, table_name: str, table_input: Any, version_id: str) -> None:
        what = f"{database_name}.{table_name}"
        ours = table_input["Parameters"][_LOCATION]
        try:
            with errors("glue", what):
                super()._update_glue_table(database_name, table_name, table_input, version_id)
        except (CommitFailedException, AssayError) as error:
            try:
                with errors("glue", what):
                    taken = self._is_in(database_name, table_name, ours)
            except AssayError as unseen:
                raise CommitUnknown(
                    f"{what} was committed, and what came of it cannot be seen ({unseen}); look whether it is in"
                ) from error
            if taken:
                return
            if isinstance(error, LakeBusy):
                raise CommitUnknown(
                    f"glue failed while {what} was committed ({error}); look whether it is in"
                ) from error
            raise

    def _is_in(self, database_name: str, table_name: str, ours: str) -> bool:
        """Whether the table's head is the metadata that was to be committed, or follows it."""
        head = self._get_glue_table(database_name, table_name).get("Parameters", {}).get(_LOCATION, "")
        if head == ours:
            return True
        with self._load_file_io(location=head).new_input(head).open() as file:
            told = json.loads(file.read())
        return any(one["metadata-file"] == ours for one in told.get("metadata-log", ()))


def _spoken(identifier: Any) -> str:
    return identifier if isinstance(identifier, str) else ".".join(identifier)
