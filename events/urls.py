"""The events API's addresses, below /api/v1/."""

from django.urls import path

from events import views

urlpatterns = [
    path("events", views.EventsView.as_view(), name="events"),
    path("events/<uuid:uid>", views.EventView.as_view(), name="event"),
    path("events/<uuid:uid>/original", views.OriginalView.as_view(), name="original"),
    path("events/<uuid:uid>/trace", views.TraceView.as_view(), name="trace"),
]
