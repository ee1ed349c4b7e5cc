"""Who may ask, what they already asked, and what processors told us."""

import hashlib
import secrets
from datetime import datetime
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

from django.db import models
from django.db.models import Q


class Account(models.Model):
    """A platform that uses the service; creators, keys and idempotency belong to one."""

    id = models.UUIDField(primary_key=True, editable=False)
    name = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def derive_id(*, name: str) -> UUID:
        """The same account gets the same id in a restored database, and so do its creators (R51)."""
        return uuid5(NAMESPACE_URL, f"checkout:account:{name}")


class ApiKey(models.Model):
    """A key of an account: the prefix finds it, only the secret's SHA-256 is stored."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="api_keys")
    prefix = models.CharField(max_length=16, unique=True)
    secret_sha256 = models.CharField(max_length=64)
    label = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "API key"

    PREFIX_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"

    def __str__(self) -> str:
        return self.prefix

    @staticmethod
    def issue(*, account: Account, label: str, now: datetime) -> str:
        """Store a new key and return it, the only time that anybody sees its secret (256 bits)."""
        prefix = "".join(secrets.choice(ApiKey.PREFIX_ALPHABET) for _ in range(12))
        secret = secrets.token_urlsafe(32)
        ApiKey.objects.create(
            account=account,
            prefix=prefix,
            secret_sha256=hashlib.sha256(secret.encode()).hexdigest(),
            label=label,
            created_at=now,
        )
        return f"ck_{prefix}_{secret}"


class IdempotencyRecord(models.Model):
    """The answer to a POST, kept 30 days and returned byte for byte to its repetition (R49).

    It is inserted in the request's own transaction: a second request with the key waits on this
    row's unique index until the first commits, and rolls back with it.
    """

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    key = models.CharField(max_length=255)
    request_sha256 = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(null=True)
    body = models.TextField(blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "key"], name="idempotency_once"),
        ]
        indexes = [models.Index(fields=["created_at"], name="idempotency_created")]

    def __str__(self) -> str:
        return self.key


class WebhookDelivery(models.Model):
    """A processor's webhook, stored and answered first, confirmed by query and applied after."""

    processor = models.CharField(max_length=40)
    event_id = models.CharField(max_length=128)
    reference = models.UUIDField(null=True, blank=True)
    kind = models.CharField(max_length=60, blank=True)
    body = models.TextField()
    received_at = models.DateTimeField()
    applied_at = models.DateTimeField(null=True, blank=True)
    tries = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)
    note = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        verbose_name_plural = "webhook deliveries"
        constraints = [
            models.UniqueConstraint(fields=["processor", "event_id"], name="webhook_once"),
        ]
        indexes = [
            models.Index(
                fields=["next_try_at"],
                condition=Q(applied_at__isnull=True),
                name="webhook_unapplied",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.processor} {self.event_id}"
