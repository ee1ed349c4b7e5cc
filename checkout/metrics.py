"""The names of every figure, in one place: dashboards and alerts are written against these."""

from typing import Final

# The users' own name: attempts numbered above 1 in their round, ever (R56).
RETRY_COUNT: Final = "checkout_service_retry_count"

DATABASE_UP: Final = "checkout_database_up"
UNREPLICATED: Final = "checkout_unreplicated_commits_total"
RETRIES_RECENT: Final = "checkout_retries_recent"
OUTBOX_DEPTH: Final = "checkout_outbox_depth"
OUTBOX_OLDEST: Final = "checkout_outbox_oldest_age_seconds"
OUTBOX_PARKED: Final = "checkout_outbox_parked"
LAST_POLL: Final = "checkout_worker_last_poll_age_seconds"
HEARTBEAT: Final = "checkout_heartbeat_age_seconds"
CASES_OPEN: Final = "checkout_cases_open"
CASES_USD: Final = "checkout_cases_open_usd"
DEAD_LETTERS: Final = "checkout_dead_letters_open"
DEAD_LETTERS_USD: Final = "checkout_dead_letters_open_usd"
IN_DOUBT: Final = "checkout_charges_in_doubt"
IN_DOUBT_USD: Final = "checkout_charges_in_doubt_usd"
IN_DOUBT_OLDEST: Final = "checkout_charges_in_doubt_oldest_age_seconds"
OLDEST_OWED: Final = "checkout_oldest_owed_without_attempt_seconds"
LANE_PAUSED: Final = "checkout_lane_paused"
HOLDS: Final = "checkout_holds_in_force"

DISCREPANCIES: Final = "checkout_discrepancies_open"
DISCREPANCIES_USD: Final = "checkout_discrepancies_open_usd"
DISCREPANCIES_OLDEST: Final = "checkout_discrepancies_oldest_age_seconds"
RECONCILE_AGE: Final = "checkout_reconcile_age_seconds"
RECONCILE_WAITING: Final = "checkout_reconcile_oldest_mark_age_seconds"
STATEMENT_DAYS: Final = "checkout_statement_days"
