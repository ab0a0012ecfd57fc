"""The forms of the team's pages. The services check their values."""

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
        if throttle.is_closed(username, _address(self.request)):
            raise ValidationError(
                "Too many wrong passwords. Wait "
                f"{throttle.WINDOW_MINUTES} minutes, or ask an admin for a sign-in "
                "link."
            )
        try:
            return super().clean()
        except ValidationError:
            throttle.note_failure(username, _address(self.request))
            raise


class MemberForm(ServiceForm):
    username = forms.CharField(max_length=150)
    role = forms.ChoiceField(
        choices=Role.choices, initial=Role.MEMBER, widget=forms.RadioSelect
    )


class KeyForm(forms.Form):
    name = forms.CharField(max_length=80, required=False, label="What it is for")


class PasswordForm(ServiceForm):
    password = forms.CharField(
        label="New password",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )


def _address(request: HttpRequest | None) -> str:
    return str(request.META.get("REMOTE_ADDR", "")) if request else ""
