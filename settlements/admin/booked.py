"""What a file or a payout moved in the books, in words that lead to its entry."""

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from settlements.models import BOOKED, Booking, Payout, StatementImport


def in_the_books(what: Payout | StatementImport) -> SafeString | str:
    """Each account with its USD, a debit positive; what was gathered or landed is booked in seconds."""
    booking: Booking | None = getattr(what, "booking", None)
    if booking is None:
        return "not yet"
    if booking.entry_id is None:
        return "nothing moved"
    amounts = {account: getattr(booking, account.value) for account in BOOKED}
    return format_html(
        '<a href="{}">{}</a>',
        reverse("admin:checkout_ledgerentry_change", args=[booking.entry_id]),
        " · ".join(f"{name.label.lower()} {usd:+,.2f}" for name, usd in amounts.items() if usd),
    )
