"""Who asks: API keys, of which only the SHA-256 is stored."""

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from checkout.http.deadline import reading
from checkout.http.problems import CHALLENGE
from checkout.models import ApiKey

_KEY: Final = re.compile(r"Bearer (ck_([0-9a-z]{12})_([A-Za-z0-9_-]{43}))", re.ASCII)


@dataclass(frozen=True)
class Caller:
    """The account behind an API key; what `request.user` is."""

    account_id: UUID
    key_prefix: str
    is_authenticated: bool = True


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer ck_<prefix>_<secret>`; a revoked key is refused from the next call."""

    def authenticate(self, request: Request) -> tuple[Caller, str]:
        """The caller, or AuthenticationFailed: always the same words, whatever was wrong."""
        header = request.META.get("HTTP_AUTHORIZATION", "")
        if not header:
            raise exceptions.NotAuthenticated
        match = _KEY.fullmatch(header)
        if match is None:
            raise exceptions.AuthenticationFailed
        _, prefix, secret = match.groups()
        key = reading(request, lambda: ApiKey.objects.filter(prefix=prefix).first())
        given = hashlib.sha256(secret.encode()).hexdigest()
        # An unknown prefix compares as long as a known one.
        matches = hmac.compare_digest(given, key.secret_sha256 if key else "0" * 64)
        if key is None or not matches or key.revoked_at is not None:
            raise exceptions.AuthenticationFailed
        return Caller(key.account_id, key.prefix), key.prefix

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002  DRF's signature
        return CHALLENGE


def caller(request: Request) -> Caller:
    """Who asks; only for views behind ApiKeyAuthentication."""
    if not isinstance(request.user, Caller):
        raise exceptions.NotAuthenticated
    return request.user
