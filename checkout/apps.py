"""The application that takes money and records it."""

from django.apps import AppConfig
from django.conf import settings

from checkout.failpoints import enable_from_environment


class CheckoutConfig(AppConfig):
    name = "checkout"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Settings have refused FAILPOINTS in production."""
        enable_from_environment(settings.FAILPOINTS)
