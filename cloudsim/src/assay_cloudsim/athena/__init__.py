"""A double of Amazon Athena engine v3 that executes, on DuckDB, over Glue and S3 of other doubles: see cloudsim/athena.md."""

from assay_cloudsim.athena.wire import serve

__all__ = ["serve"]
