"""The addresses of webhooks, below /hooks/."""

from django.urls import path

from events.views import HookView

urlpatterns = [path("<str:source>", HookView.as_view(), name="hook")]
