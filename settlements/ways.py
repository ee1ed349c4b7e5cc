"""The ways on which a notice leaves: mail, and a signed webhook. No transaction is open in here.

What a way raises names a class of error or a status, never an address, a URL or a secret: a Slack
webhook's address is a secret itself.
"""

import hashlib
import hmac
import json
import smtplib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from typing import Final

import httpx
from django.core.mail import EmailMessage, get_connection

from settlements.models import WayName
from settlements.telling import Message, NotTold

SIGNATURE_HEADER: Final = "Checkout-Signature"
WEBHOOK_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Mail:
    """Mail through Django's backend (EMAIL_* settings), one message to all the addresses."""

    to: Sequence[str]
    sender: str
    name: str = WayName.MAIL.value

    def tell(self, message: Message, *, at: datetime) -> None:
        """Send it; its Message-ID is the notice's id at every try. Raises NotTold."""
        host = self.sender.rpartition("@")[2].rstrip("> ") or "checkout"
        mail = EmailMessage(
            subject=message.title,
            body=message.text,
            from_email=self.sender,
            to=list(self.to),
            connection=get_connection(),
            headers={
                "Message-ID": f"<{message.id}@{host}>",
                "Date": format_datetime(at),
                "Auto-Submitted": "auto-generated",
                "X-Notice-Id": str(message.id),
                "X-Notice-Kind": message.kind,
            },
        )
        try:
            mail.send()
        except smtplib.SMTPResponseException as refused:
            raise NotTold(f"{type(refused).__name__} {refused.smtp_code}") from None
        except (smtplib.SMTPException, OSError) as error:
            # Their texts may quote an address or a line of the server's.
            raise NotTold(type(error).__name__) from None


@dataclass(frozen=True)
class Webhook:
    """POST of JSON with a `text`, as Slack's incoming webhooks take it; any 2xx is a yes.

    Signed as the sandbox processor signs: `Checkout-Signature: t=<unix seconds>,v1=<hex>`, where hex is
    HMAC-SHA256 with the secret over `<t>.<raw body>`. `Idempotency-Key` is the notice's id.
    """

    # A secret too.
    url: str = field(repr=False)
    secret: str = field(repr=False)
    seconds: float = WEBHOOK_SECONDS
    name: str = WayName.WEBHOOK.value

    def tell(self, message: Message, *, at: datetime) -> None:
        """Send it once; `seconds` for each step of the call, and the answer's body is not read. Raises NotTold."""
        body = json.dumps(as_json(message), separators=(",", ":")).encode()
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": str(message.id),
            SIGNATURE_HEADER: signature(body, secret=self.secret, at=int(at.timestamp())),
        }
        try:
            with (
                httpx.Client(timeout=self.seconds, trust_env=False) as client,
                client.stream("POST", self.url, content=body, headers=headers) as answer,
            ):
                status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NotTold(type(error).__name__) from None
        if not 200 <= status < 300:
            raise NotTold(f"HTTP {status}")


def as_json(message: Message) -> dict[str, object]:
    """The body: `text` is what a chat shows, the rest is for programs."""
    return {
        "id": str(message.id),
        "kind": message.kind,
        "noticed_at": message.noticed_at.isoformat(),
        "text": f"{message.title}\n{message.text}",
        "figures": dict(message.figures),
    }


def signature(body: bytes, *, secret: str, at: int) -> str:
    """The header's value for `body`, signed at `at` (unix seconds)."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"
