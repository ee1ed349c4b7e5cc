"""What a file or a payout moved in the books, in words that lead to its entries."""

from django.db.models import QuerySet
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from settlements.models import BOOKED, Booking


def in_the_books(bookings: QuerySet[Booking]) -> SafeString | str:
    """Each entry by its accounts with their USD, a debit positive; what is known is booked in seconds."""
    found = list(bookings.order_by("pk"))
    moved = [booking for booking in found if booking.entry_id]
    if not moved:
        return "nothing moved" if found else "not yet"
    return format_html_join(
        "; ",
        '<a href="{}">{}</a>',
        (
            (reverse("admin:checkout_ledgerentry_change", args=[b.entry_id]), _words(b))
            for b in moved
        ),
    )


def _words(booking: Booking) -> str:
    amounts = {account: getattr(booking, account.value) for account in BOOKED}
    return " · ".join(f"{name.label.lower()} {usd:+,.2f}" for name, usd in amounts.items() if usd)
