"""Creators, plans and routing rules from a file: all of it or nothing, and safe to load twice.

A row that says what is already there is counted as "already there"; a row that contradicts it is
refused, because what was agreed is never rewritten by a file.
"""

from checkout.loading.rows import (
    CHECKOUT_COLUMNS,
    CREATOR_COLUMNS,
    PLAN_COLUMNS,
    RULE_COLUMNS,
    Fault,
    R,
    RowsRefused,
    read_all,
    read_creator,
    read_plan,
    read_rule,
)
from checkout.loading.tables import Loaded, load_creators, load_plans, load_routing_rules

__all__ = [
    "CHECKOUT_COLUMNS",
    "CREATOR_COLUMNS",
    "PLAN_COLUMNS",
    "RULE_COLUMNS",
    "Fault",
    "Loaded",
    "R",
    "RowsRefused",
    "load_creators",
    "load_plans",
    "load_routing_rules",
    "read_all",
    "read_creator",
    "read_plan",
    "read_rule",
]
