"""The one address of the hand-rolled service."""

from django.urls import path

from benchmarks.chain.app.views import EventsView

urlpatterns = [path("api/v1/events", EventsView.as_view())]
