"""The AWS services that assay uses, on one machine."""
