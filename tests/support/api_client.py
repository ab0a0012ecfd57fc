"""Asks /v1 as a program of a member would."""

from typing import Any

from django.test import Client

from finetune_site.team.models import Member
from finetune_site.team.services import create_api_key


class ApiClient:
    def __init__(self, member: Member) -> None:
        self.client = Client()
        self.headers = {"authorization": f"Bearer {create_api_key(member=member)}"}

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(f"/v1{path}", query, headers=self.headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.client.post(
            f"/v1{path}",
            body or {},
            content_type="application/json",
            headers={**self.headers, **headers},
        )

    def delete(self, path: str) -> Any:
        return self.client.delete(f"/v1{path}", headers=self.headers)
