"""The events API's addresses, below /api/v1/."""

from django.urls import path

from events import trial_views, views

urlpatterns = [
    path("events", views.EventsView.as_view(), name="events"),
    path("events/<uuid:uid>", views.EventView.as_view(), name="event"),
    path("events/<uuid:uid>/original", views.OriginalView.as_view(), name="original"),
    path("events/<uuid:uid>/trace", views.TraceView.as_view(), name="trace"),
    path("subscriptions/<name:name>/dry-run", trial_views.DryRunView.as_view(), name="dry_run_subscription"),
    path("expressions/check", trial_views.CheckView.as_view(), name="check_expression"),
    path("events/<uuid:uid>/replay", views.ReplayView.as_view(), name="replay"),
]
