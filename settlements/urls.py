"""Pages of settlements that stand at addresses of checkout's admin."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
