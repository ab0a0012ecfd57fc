"""The forms of the team's pages. The services check their values."""

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from finetune_site.common.forms import ServiceForm
from finetune_site.team import throttle
from finetune_site.team.models import Role


class SignInForm(AuthenticationForm):
    """Does not even check a password after too many wrong ones."""

    error_messages = {
        "invalid_login": (
            "The username and password do not fit together. Mind upper and lower case "
            "in both."
        ),
        "inactive": "This member is no longer active. Ask an admin of the team.",
    }

    def clean(self) -> dict[str, object]:
        username = self.cleaned_data.get("username", "")
        address = _address(self.request)
        begun = throttle.begin_try(username, address)
        if begun is None:
            raise ValidationError(throttle.TOO_MANY)
        with throttle.turn_to_hash() as may_hash:
            if not may_hash:
                begun.delete()
                raise ValidationError(throttle.BUSY)
            try:
                found = super().clean()
            except ValidationError:
                throttle.note_failure(username, address)
                raise
        begun.delete()
        return found


class MemberForm(ServiceForm):
    username = forms.CharField(
        max_length=150,
        label="Name to sign in with",
        help_text="Letters, digits and . _ - + @, without spaces: ada.king",
    )
    role = forms.ChoiceField(
        choices=Role.choices, initial=Role.MEMBER, widget=forms.RadioSelect
    )


class KeyForm(forms.Form):
    name = forms.CharField(max_length=80, required=False, label="What it is for")


class PasswordForm(ServiceForm):
    """Asks for a new password, and for the old one unless `knows_member`."""

    old = forms.CharField(
        label="Old password",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
        error_messages={
            "required": "Type your old password, or ask an admin for a sign-in link."
        },
    )
    password = forms.CharField(
        label="New password",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def __init__(self, *data: Any, knows_member: bool) -> None:
        super().__init__(*data)
        if knows_member:
            del self.fields["old"]


def _address(request: HttpRequest | None) -> str:
    return str(request.META.get("REMOTE_ADDR", "")) if request else ""
