"""Makes Spark's packages importable where tests run: `.venvs/spark` has the same Python and the same pins as `.venv`."""

import atexit
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

PACKAGES = ("pyspark", "py4j")


@cache
def there() -> Path | None:
    """The directory of Spark's own environment that holds its packages; None if there is none, or no Java."""
    if shutil.which("java") is None:
        return None
    roots = (Path(__file__).parents[1], Path(sys.prefix).parent)
    found = (
        root / ".venvs/spark/lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        for root in roots
    )
    return next((one for one in found if (one / PACKAGES[0]).is_dir()), None)


@cache
def importable() -> bool:
    """Whether pyspark can be imported from now on: of the other environment these packages alone are found, nothing else."""
    where = there()
    if where is None:
        return False
    only = Path(tempfile.mkdtemp(prefix="sparks-"))
    atexit.register(shutil.rmtree, only, ignore_errors=True)
    for package in PACKAGES:
        (only / package).symlink_to(where / package)
    sys.path.append(str(only))
    house = [str(Path(__file__).parents[1] / "src"), str(Path(__file__).parents[1]), str(only)]
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    os.environ["PYTHONPATH"] = os.pathsep.join([*house, *filter(None, [os.environ.get("PYTHONPATH")])])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import pyspark.sql  # noqa: F401
    return True


WITH_SPARK = pytest.mark.skipif(there() is None, reason="scripts/extras makes .venvs/spark and installs Java")
NEEDED = [
    pytest.mark.slow,
    # Spark's own sockets to its JVM are closed when they are forgotten.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    WITH_SPARK,
]


def needed(test: Callable[..., None]) -> Callable[..., None]:
    """A test that needs Spark."""
    for mark in NEEDED:
        test = mark(test)
    return test


@cache
def started() -> None:
    """One Spark for a whole process of tests: small, and quick to plan."""
    assert importable()
    from pyspark.sql import SparkSession

    said = {
        "spark.master": "local[2]", "spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1", "spark.driver.memory": "1g",
        "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.sql.shuffle.partitions": "1", "spark.log.level": "OFF",
        "spark.default.parallelism": "1", "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote",
        # Half the CPU of a fold of some rows is making and compiling Java for it; the matrix has both ways, glue_job the product's.
        "spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    }  # fmt: skip
    builder = SparkSession.builder
    for name, value in said.items():
        builder = builder.config(name, value)
    atexit.register(builder.getOrCreate().stop)
