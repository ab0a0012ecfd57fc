"""Members, their sign-in links and API keys, and the audit trail of their changes."""

from collections.abc import Iterator

from django.contrib.auth.models import AbstractUser
from django.db import models


class Role(models.TextChoices):
    VIEWER = "viewer", "Viewer"
    MEMBER = "member", "Member"
    ADMIN = "admin", "Admin"


class Member(AbstractUser):
    """A person of the team. Viewers look, members also work, admins also manage."""

    role = models.CharField(max_length=10, choices=Role, default=Role.MEMBER)
    # A session belongs to the generation in which it began. A new one ends them all.
    generation = models.PositiveIntegerField(default=0)

    def get_session_auth_hash(self) -> str:
        """Returns what a session must know to be the member's."""
        return f"{super().get_session_auth_hash()}{self.generation or ''}"

    def get_session_auth_fallback_hash(self) -> Iterator[str]:
        """Yields the same for older values of SECRET_KEY."""
        for known in super().get_session_auth_fallback_hash():
            yield f"{known}{self.generation or ''}"

    @property
    def display_name(self) -> str:
        return self.get_full_name() or self.username

    @property
    def initials(self) -> str:
        words = self.display_name.replace(".", " ").replace("_", " ").split()
        return "".join(word[0] for word in words[:2]).upper() or "?"

    @property
    def can_work(self) -> bool:
        return self.role in {Role.MEMBER, Role.ADMIN}

    @property
    def is_team_admin(self) -> bool:
        return self.role == Role.ADMIN


class SignInLink(models.Model):
    """A link that signs its member in once. Only the hash of its token is kept."""

    member = models.ForeignKey(Member, on_delete=models.CASCADE)
    token_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"sign-in link of {self.member}"


class ApiKey(models.Model):
    """A key for /v1. Only its hash is kept; `prefix` tells keys apart on the page."""

    member = models.ForeignKey(Member, on_delete=models.CASCADE)
    name = models.CharField(max_length=80, blank=True)
    prefix = models.CharField(max_length=12)
    key_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.prefix}… of {self.member}"


class AuditEntry(models.Model):
    """One change that somebody made. Rows are added and never changed."""

    at = models.DateTimeField(auto_now_add=True)
    member = models.ForeignKey(Member, null=True, on_delete=models.SET_NULL)
    action = models.CharField(max_length=60)
    subject = models.CharField(max_length=200)
    detail = models.JSONField(default=dict)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"


class PasswordTry(models.Model):
    """A password that was typed lately and not found right; see `throttle`."""

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    # The name as it is compared, and the network that it was typed in.
    name = models.CharField(max_length=150)
    network = models.CharField(max_length=60)

    class Meta:
        indexes = [
            models.Index(fields=["name", "at"]),
            models.Index(fields=["network", "at"]),
        ]

    def __str__(self) -> str:
        return f"a try from {self.network}"


class SentForm(models.Model):
    """A form that a member sent, for which see `one_deed`."""

    member = models.ForeignKey(Member, on_delete=models.CASCADE)
    # The hash of the path and of all that the form held.
    token = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)
    # Sealed. "" while the form is being taken.
    answer = models.TextField(blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["member", "token"], name="sent_form_unique")
        ]
        indexes = [models.Index(fields=["created_at"])]

    def __str__(self) -> str:
        return f"a form of {self.member}"
