"""The addresses of checkout: API, health and metrics."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
