"""Every address of Carillon."""

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path, re_path, register_converter
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from project import converters, trying, views
from project.flower_door import to_flower
from project.two_factor_pages import two_factor_page, verify

register_converter(converters.Name, "name")
register_converter(converters.Key, "key")

urlpatterns: list[URLPattern | URLResolver] = [
    path("api/v1/", include("events.urls")),  # the first, for it is looked for most often
    path("hooks/", include("events.hook_urls")),
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("admin/", include("events.pages")),
    path("admin/samples", admin.site.admin_view(trying.sample), name="samples"),
    path("admin/two-factor/", admin.site.admin_view(two_factor_page), name="two_factor"),
    path("admin/two-factor/verify/", verify, name="two_factor_verify"),
    path("admin/flower/", admin.site.admin_view(to_flower), name="flower"),
    path("admin/", admin.site.urls),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    path("", include("workflows.urls")),
    re_path(r"^api/", views.Nowhere.as_view()),
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
    path("metrics", views.metrics, name="metrics"),
]
if settings.INBOX:
    urlpatterns.append(path("inbox/", include("project.inbox.urls")))
