"""Addresses of settlements: the API's, and pages that stand at addresses of checkout's admin."""

from django.contrib import admin
from django.urls import URLPattern, path

from settlements.admin.cash import cash
from settlements.admin.doubt import in_doubt
from settlements.admin.home import home
from settlements.admin.matching import match_by_hand
from settlements.admin.month import month
from settlements.admin.proof import proof
from settlements.api import SettlementScheduleOf

urlpatterns: list[URLPattern] = [
    path("", admin.site.admin_view(home), name="finance_home"),
    path("month/", admin.site.admin_view(month), name="month"),
    path("cash/", admin.site.admin_view(cash), name="cash"),
    path("match/", admin.site.admin_view(match_by_hand), name="match_by_hand"),
    path("in-doubt/", admin.site.admin_view(in_doubt), name="in_doubt"),
    path(
        "checkout/charge/<uuid:charge_id>/proof/",
        admin.site.admin_view(proof),
        name="charge_proof",
    ),
]
api_urlpatterns: list[URLPattern] = [
    path(
        "v1/creators/<uuid:creator_id>/settlement-schedule",
        SettlementScheduleOf.as_view(),
        name="settlement_schedule",
    ),
]
