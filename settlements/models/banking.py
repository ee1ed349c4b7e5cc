"""What our banks' statements say: the credits that payouts are compared with."""

from django.db import models
from django.db.models import Case, F, Q, When

from settlements.calendar import FEDERAL_RESERVE
from settlements.models.statements import ExpectationState, ImportState


class Side(models.TextChoices):
    """Which way money went, in ISO 20022's own words."""

    CREDIT = "CRDT"
    DEBIT = "DBIT"


class BankStatement(models.Model):
    """One account's statement out of a camt.053 file that could be read: accepted, or set aside."""

    # IBAN, or the bank's own number where there is none.
    account = models.CharField(max_length=34)
    # The bank's name of it (Stmt/Id), and its running number where the bank counts.
    statement_id = models.CharField(max_length=35)
    sequence = models.BigIntegerField(null=True, blank=True)
    # Of the message, such as camt.053.001.08.
    version = models.CharField(max_length=20)
    # Days of the bank's own calendar, both included.
    first_day = models.DateField()
    last_day = models.DateField()
    # Booked balances in USD; an overdraft is below zero.
    opening = models.DecimalField(max_digits=14, decimal_places=2)
    closing = models.DecimalField(max_digits=14, decimal_places=2)
    # The booked entries' own sum, credits less debits: opening + this = closing, or it is set aside.
    movement = models.DecimalField(max_digits=14, decimal_places=2)
    entry_count = models.PositiveIntegerField()
    # Entries that are pending or for information only: counted, not stored, in no sum.
    not_booked = models.PositiveIntegerField(default=0)
    file_name = models.CharField(max_length=255)
    sha256 = models.CharField(max_length=64)
    # Of the statements in the file, from 1.
    position = models.PositiveIntegerField()
    state = models.CharField(max_length=11, choices=ImportState.choices)
    reason = models.CharField(max_length=300, blank=True, default="")
    imported_by = models.CharField(max_length=150)
    # Real clock, both.
    imported_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["sha256", "position"], name="bank_file_once"),
            models.UniqueConstraint(
                fields=["account", "statement_id"],
                condition=Q(state="accepted"),
                name="bank_statement_once",
            ),
            models.CheckConstraint(
                condition=Q(last_day__gte=F("first_day")), name="bank_statement_days"
            ),
            models.CheckConstraint(
                condition=Q(
                    state="accepted",
                    accepted_at__isnull=False,
                    reason="",
                    closing=F("opening") + F("movement"),
                )
                | (Q(state="quarantined", accepted_at__isnull=True) & ~Q(reason="")),
                name="bank_statement_state",
            ),
        ]
        indexes = [
            models.Index(fields=["account", "last_day"], name="bank_account_last_day"),
            models.Index(fields=["-imported_at", "-id"], name="bank_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.account} {self.first_day} to {self.last_day}"


class BankEntry(models.Model):
    """One booked entry as the bank wrote it. Two equal entries are two rows (R39); none changes."""

    id = models.BigAutoField(primary_key=True)
    statement = models.ForeignKey(BankStatement, on_delete=models.PROTECT, related_name="entries")
    # Of the entries in the statement, from 1.
    number = models.PositiveIntegerField()
    # Days of the bank's own calendar, both.
    booked_on = models.DateField()
    # When the money counts; a payout's value date is compared with it.
    value_on = models.DateField(null=True, blank=True)
    # USD, never below zero: the side says which way.
    amount = models.DecimalField(max_digits=14, decimal_places=2)
    side = models.CharField(max_length=4, choices=Side.choices)
    # What it adds to the balance: the amount, less than zero for a debit.
    net = models.GeneratedField(
        expression=Case(When(side="CRDT", then=F("amount")), default=-F("amount")),
        output_field=models.DecimalField(max_digits=14, decimal_places=2),
        db_persist=True,
    )
    currency = models.CharField(max_length=3)
    is_reversal = models.BooleanField()
    # The bank's own reference (AcctSvcrRef), and the entry's (NtryRef).
    reference = models.CharField(max_length=128, blank=True, default="")
    entry_reference = models.CharField(max_length=128, blank=True, default="")
    # What the payer called it; empty when a batch holds several, or the bank wrote NOTPROVIDED.
    end_to_end_id = models.CharField(max_length=128, blank=True, default="")
    # ISO's code of the kind of entry, such as PMNT/RCDT/ESCT, or the bank's own.
    code = models.CharField(max_length=128, blank=True, default="")
    counterparty = models.CharField(max_length=140, blank=True, default="")
    # The payer's words and structured references, one a line.
    remittance = models.TextField(blank=True, default="")
    # How many payments the bank booked as this one entry.
    payments = models.PositiveIntegerField(default=1)

    class Meta:
        verbose_name_plural = "bank entries"
        constraints = [
            models.UniqueConstraint(fields=["statement", "number"], name="bank_entry_number_once"),
            models.CheckConstraint(condition=Q(currency="USD"), name="bank_entry_usd"),
            models.CheckConstraint(condition=Q(amount__gte=0), name="bank_entry_amount"),
            models.CheckConstraint(condition=Q(side__in=Side.values), name="bank_entry_side"),
        ]
        indexes = [
            models.Index(
                fields=["end_to_end_id"],
                condition=~Q(end_to_end_id=""),
                name="bank_entry_end_to_end",
            ),
            models.Index(fields=["value_on", "amount"], name="bank_entry_value_amount"),
        ]

    def __str__(self) -> str:
        return self.reference or self.entry_reference or f"entry {self.number}"


class BankTerms(models.Model):
    """Which statements a bank owes us of an account: one for each of its business days, and when.

    Without terms nothing is owed of an account. Terms that change concern the days that come.
    """

    account = models.CharField(max_length=34, unique=True)
    # The first day a statement is owed for.
    from_day = models.DateField()
    calendar = models.CharField(max_length=40, default=FEDERAL_RESERVE)
    time_zone = models.CharField(max_length=64, default="UTC")
    # Due so many business days after its day, at this time of the zone.
    due_days = models.PositiveSmallIntegerField(default=1)
    due_time = models.TimeField()

    class Meta:
        verbose_name_plural = "bank terms"
        constraints = [
            models.CheckConstraint(
                condition=Q(due_days__gte=1, due_days__lte=10) & ~Q(account="") & ~Q(calendar=""),
                name="bank_terms_whole",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account}: a statement a business day"


class BankExpectation(models.Model):
    """A business day of an account that a statement of the bank must cover."""

    account = models.CharField(max_length=34)
    day = models.DateField()
    # Business clock: the statement is late from here on.
    due_at = models.DateTimeField()
    state = models.CharField(
        max_length=11, choices=ExpectationState.choices, default=ExpectationState.EXPECTED
    )
    # The accepted statement, or the newest one set aside.
    statement = models.ForeignKey(
        BankStatement, on_delete=models.PROTECT, null=True, blank=True, related_name="days"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "day"], name="bank_expectation_once"),
            models.CheckConstraint(
                condition=Q(state__in=["expected", "late"], statement__isnull=True)
                | Q(state__in=["arrived", "quarantined"], statement__isnull=False),
                name="bank_expectation_state",
            ),
        ]
        indexes = [
            models.Index(
                fields=["due_at"], condition=~Q(state="arrived"), name="bank_expectation_open"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account} {self.day}"
