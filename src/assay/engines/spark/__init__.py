"""Types, judges and folds on Spark. Only this package knows pyspark; which Spark it is (one machine's, Glue's, EMR's) is said outside."""

from assay.contract.model import Contract
from assay.contract.tree import tree
from assay.engines.spark import operators
from assay.errors import ContractError, SettingsError
from assay.ports import Engine


def opened() -> Engine:
    """The engine; SettingsError where pyspark is not installed."""
    try:
        from assay.engines.spark.engine import SparkEngine
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("pyspark", "py4j"):
            raise
        raise SettingsError(
            "there is no pyspark here: install assay[spark], and Java 17; or let DuckDB refine it"
        ) from None
    return SparkEngine()


def bind(contract: Contract) -> None:
    """ContractError names each rule that Spark cannot say as DuckDB does, and where it stands; it needs no Spark."""
    wrong = operators.check(tree(contract), {c.name: c.type for c in contract.columns})
    if wrong:
        raise ContractError(*(f"{contract.where(name.rpartition(':')[2])}: rule {name}: {why}" for name, why in wrong))


__all__ = ["bind", "opened"]
