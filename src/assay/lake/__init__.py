"""The zones: durable files, bronze with manifests, silver as Iceberg, gold as releases."""
