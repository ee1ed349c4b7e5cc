"""The discrepancies, to read."""

from django.contrib import admin
from django.db.models import Q
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checkout.desk import ReadOnlyAdmin, as_uuid, badge, by_id, fixed_filter, money
from checkout.models import Charge
from checkout.targets import creators_named
from settlements.admin.proof import proof_link
from settlements.models import Discrepancy

# In the words of the partial index.
StandingFilter = fixed_filter(
    "standing",
    "standing or cleared",
    {
        "yes": ("standing", Q(cleared_at__isnull=True)),
        "no": ("cleared", Q(cleared_at__isnull=False)),
    },
)


@admin.register(Discrepancy)
class DiscrepancyAdmin(ReadOnlyAdmin):
    list_display = (
        "opened_at",
        "kind",
        "code",
        "usd",
        "explanation",
        "charge_proof",
        "shown_state",
    )
    list_display_links = ("opened_at",)
    list_filter = ("kind", StandingFilter)
    list_select_related = ("creator",)
    ordering = ("-opened_at", "-id")
    search_fields = ("id",)
    search_help_text = "The id of a charge or a creator, or a creator's external id"
    total_of = "difference"
    readonly_fields = ("charge_proof",)

    def named(self, term: str) -> Q:
        if as_uuid(term) is None:
            return Q(creator_id__in=creators_named(term))
        return by_id(term, (Charge, "charge_id"), otherwise="creator_id")

    @admin.display(description="USD")
    def usd(self, found: Discrepancy) -> SafeString:
        return format_html('<span class="money">{}</span>', money(found.difference))

    @admin.display(description="proof")
    def charge_proof(self, found: Discrepancy) -> SafeString | str:
        return proof_link(found.charge_id)

    @admin.display(description="state")
    def shown_state(self, found: Discrepancy) -> SafeString:
        return badge("proved", "cleared") if found.cleared_at else badge("discrepant", "standing")
