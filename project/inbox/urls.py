"""Where the inbox answers, under `inbox/`; project/urls.py includes it only with settings.INBOX."""

from django.urls import path

from project.inbox import views

app_name = "inbox"
urlpatterns = [
    path("", views.page, name="page"),
    path("messages", views.messages, name="messages"),
    path("mail", views.mail, name="mail"),
    path("slack", views.slack, name="slack"),
]
