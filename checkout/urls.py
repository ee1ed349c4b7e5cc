"""The addresses of checkout: API, health and metrics."""

from django.urls import URLPattern, path

from checkout import api, exporter

urlpatterns: list[URLPattern] = [
    path("v1/openapi.json", api.OpenApi.as_view(), name="openapi"),
    path("v1/creators", api.Creators.as_view(), name="creators"),
    path("v1/checkouts", api.Checkouts.as_view(), name="checkouts"),
    path("v1/checkouts/<uuid:checkout_id>", api.Checkout.as_view(), name="checkout"),
    path("v1/charges", api.Charges.as_view(), name="charges"),
    path("v1/webhooks/<slug:processor>", api.Webhooks.as_view(), name="webhooks"),
    path("livez", exporter.livez, name="livez"),
    path("readyz", exporter.readyz, name="readyz"),
]
