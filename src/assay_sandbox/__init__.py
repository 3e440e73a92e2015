"""A stand-in for the vendor: Financial Modeling Prep's HTTP interface over real, public-domain records."""

from assay_sandbox.faults import Fault, FaultPlan
from assay_sandbox.server import Plan, Sandbox, Served

__all__ = ["Fault", "FaultPlan", "Plan", "Sandbox", "Served"]
