"""The addresses of runs, steps and records, and of the pages that links in messages open."""

from django.urls import include, path

from workflows import views
from workflows.pages import DecisionPage

api = [
    path("steps/<str:token>/complete", views.CompleteView.as_view(), name="complete_step"),
]
urlpatterns = [
    path("api/v1/", include(api)),
    path("steps/<str:token>", DecisionPage.as_view(), name="decision"),
]
