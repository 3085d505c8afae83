"""The addresses of deliveries below /api/v1/. The list's is in workflows/urls.py."""

from django.urls import path

from notifications import views

urlpatterns = [
    path("deliveries/recover", views.RecoverView.as_view(), name="recover_deliveries"),
    path("deliveries/recoveries/<int:number>", views.RecoveryView.as_view(), name="recovery"),
    path("deliveries/<uuid:uid>", views.DeliveryView.as_view(), name="delivery"),
    path("deliveries/<uuid:uid>/retry", views.RetryView.as_view(), name="retry_delivery"),
]
