"""Every address the service answers."""

from django.contrib import admin
from django.urls import include, path

from checkout.exporter import CHECKOUT, metrics_of
from settlements.exporter import SETTLEMENTS
from settlements.urls import api_urlpatterns

# Refusals outside any view: problem+json under /v1/, Django's own pages elsewhere.
handler400 = "checkout.http.answer_400"
handler404 = "checkout.http.answer_404"
handler500 = "checkout.http.answer_500"

urlpatterns = [
    # Before the admin's own addresses: settlements hangs the proof below a charge of checkout.
    path("admin/", include("settlements.urls")),
    path("admin/", admin.site.urls),
    path("metrics", metrics_of(CHECKOUT, SETTLEMENTS), name="metrics"),
    path("", include("checkout.urls")),
    path("", include(api_urlpatterns)),
]
