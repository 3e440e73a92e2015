"""The plan's steps as Prefect flows: order, fan-out, retries, concurrency. The ledger alone says what is done.

Nothing else imports Prefect, and nothing here is imported by the rest: `pip install 'assay[prefect]'`.
"""
