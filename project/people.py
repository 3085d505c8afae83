"""The admin of users and groups, which only superusers see."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Exists, Model, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.decorators import action, display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from project import two_factor
from project.admin import Remembered, confirm, done, only
from project.roles import Role

for model in (User, Group, StaticDevice, TOTPDevice):  # the last two have their page, and would show secrets here
    admin.site.unregister(model)


class OnlySuperusers(Remembered):
    """Who may change people can become anything, so no permission is enough."""

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.is_superuser)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_view_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_view_permission(request)


@admin.register(User)
class UserAdmin(OnlySuperusers, DjangoUserAdmin):  # type: ignore[type-arg]  # not generic at run time
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "in_groups", "is_staff", "is_superuser", "second_factor", "last_login")
    readonly_fields = ("last_login", "date_joined")
    # Permissions are given to groups, and groups to people: so it can be said who may what.
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("What they may do", {"fields": ("is_active", "is_staff", "groups", "is_superuser")}),
        ("Who they are", {"fields": ("first_name", "last_name", "email", "last_login", "date_joined")}),
    )
    add_fieldsets = (
        (None, {"fields": ("username", "usable_password", "password1", "password2")}),
        ("What they may do", {"fields": ("is_staff", "groups", "is_superuser")}),
    )
    filter_horizontal = ()
    actions_detail = ("forget_second_factor",)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"is_staff": True, **super().get_changeform_initial_data(request)}  # the others cannot log in

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        return super().formfield_for_manytomany(
            db_field, request, **{**kwargs, "widget": UnfoldAdminCheckboxSelectMultipleWidget}
        )

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        device = TOTPDevice.objects.filter(user=OuterRef("pk"), confirmed=True)
        users: QuerySet[User] = super().get_queryset(request).prefetch_related("groups")
        return users.annotate(has_second_factor=Exists(device))

    @display(description="groups", label=True)
    def in_groups(self, user: User) -> list[str]:
        return [group.name for group in user.groups.all()]

    @admin.display(description="second factor", boolean=True)
    def second_factor(self, user: Any) -> bool:
        return bool(user.has_second_factor)

    @action(
        description="Turn off the second factor",
        icon="phonelink_erase",
        permissions=["change"],
        dialog=confirm(
            "Turn off this person's second factor?",
            "For somebody who lost the phone and the recovery codes: the password is enough then. Be sure who asks.",
            "Turn it off",
        ),
    )
    def forget_second_factor(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        user = only(self, request, object_id).get()
        two_factor.forget(user)
        self.log_change(request, user, "Turned off the second factor.")
        self.message_user(request, f"{user} logs in with the password alone.")
        return done(request, reverse("admin:auth_user_change", args=[user.pk]))

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        """Only what changes something."""
        user = self.get_object(request, unquote(str(object_id)))
        has_one = user is not None and two_factor.device_of(user) is not None
        return super().get_actions_detail(request, object_id) if has_one else []


@admin.register(Group)
class GroupAdmin(OnlySuperusers, DjangoGroupAdmin):
    """A role's group is what project/roles.py says, after every `migrate` anew, so it is only shown."""

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return super().has_change_permission(request, obj) and not _is_role(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return super().has_delete_permission(request, obj) and not _is_role(obj)


def _is_role(group: Model | None) -> bool:
    return isinstance(group, Group) and group.name in Role.values
