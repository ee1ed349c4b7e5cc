"""Pages of settlements that stand at addresses of checkout's admin."""

from django.contrib import admin
from django.urls import URLPattern, path

from settlements.admin import proof

urlpatterns: list[URLPattern] = [
    path(
        "checkout/charge/<uuid:charge_id>/proof/",
        admin.site.admin_view(proof),
        name="charge_proof",
    ),
]
