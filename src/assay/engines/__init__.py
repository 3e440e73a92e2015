"""Runs an expression tree over bronze files and leaves parquet."""
