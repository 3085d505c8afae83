"""The addresses of runs, steps, records and deliveries, and of the pages that links in messages open."""

from django.urls import include, path

from notifications.views import DeliveriesView
from workflows import views
from workflows.origins import caused_by
from workflows.pages import DecisionPage

api = [
    path("deliveries", DeliveriesView.as_view(caused_by=caused_by), name="deliveries"),  # here runs are known
    path("runs", views.RunsView.as_view(), name="runs"),
    path("runs/cancel", views.CancelManyView.as_view(), name="cancel_runs"),
    path("runs/<uuid:uid>", views.RunView.as_view(), name="run"),
    path("runs/<uuid:uid>/cancel", views.CancelView.as_view(), name="cancel_run"),
    path("runs/<uuid:uid>/retry", views.RetryView.as_view(), name="retry_run"),
    path("workflows/<name:name>/runs", views.StartView.as_view(), name="start_run"),
    path("steps/<str:token>/complete", views.CompleteView.as_view(), name="complete_step"),
    path("records/<name:collection>", views.RecordsView.as_view(), name="records"),
    path("records/<name:collection>/<key:key>", views.RecordView.as_view(), name="record"),
]
urlpatterns = [
    path("api/v1/", include(api)),
    path("api/v1/", include("notifications.urls")),
    path("steps/<str:token>", DecisionPage.as_view(), name="decision"),
]
