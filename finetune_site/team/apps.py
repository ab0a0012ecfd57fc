from django.apps import AppConfig


class TeamConfig(AppConfig):
    name = "finetune_site.team"
    label = "team"
