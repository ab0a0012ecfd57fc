from django.urls import path

from finetune_site.team.views import audit, keys, members, sign_in

urlpatterns = [
    path("sign-in/", sign_in.sign_in, name="sign-in"),
    path("sign-in/<str:token>/", sign_in.sign_in_link, name="sign-in-link"),
    # The terminal prints it so, because a slash at the end is easily lost.
    path("sign-in/<str:token>", sign_in.sign_in_link),
    path("sign-out/", sign_in.sign_out, name="sign-out"),
    path("team/", members.team, name="team"),
    path("team/members/", members.team_member_add, name="team-member-add"),
    path(
        "team/members/<int:pk>/role/", members.team_member_role, name="team-member-role"
    ),
    path(
        "team/members/<int:pk>/active/",
        members.team_member_active,
        name="team-member-active",
    ),
    path(
        "team/members/<int:pk>/link/", members.team_member_link, name="team-member-link"
    ),
    path("team/password/", members.team_password, name="team-password"),
    path("team/keys/", keys.team_key_add, name="team-key-add"),
    path("team/keys/<int:pk>/revoke/", keys.team_key_revoke, name="team-key-revoke"),
    path("team/audit/", audit.team_audit, name="team-audit"),
]
