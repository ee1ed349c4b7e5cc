"""What finance was told, which way, and what waits to be told; nothing is sent from here."""

from django.contrib import admin

from checkout.desk import ReadOnlyAdmin, ReadOnlyInline
from settlements.models import Notice, NoticeDelivery


class DeliveryInline(ReadOnlyInline):
    model = NoticeDelivery
    ordering = ("way",)
    fields = ("way", "tries", "next_try_at", "told_at", "why")
    show_change_link = False


@admin.register(Notice)
class NoticeAdmin(ReadOnlyAdmin):
    list_display = ("noticed_at", "kind", "title")
    list_display_links = ("title",)
    list_filter = ("kind",)
    ordering = ("-noticed_at", "-id")
    fields = ("noticed_at", "kind", "title", "text", "figures", "id")
    inlines = (DeliveryInline,)


@admin.register(NoticeDelivery)
class NoticeDeliveryAdmin(ReadOnlyAdmin):
    list_display = ("notice", "way", "tries", "next_try_at", "told_at", "why")
    list_select_related = ("notice",)
    list_filter = (("told_at", admin.EmptyFieldListFilter), "way")
    ordering = ("-id",)
