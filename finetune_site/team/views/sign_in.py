"""Signs members in and out."""

import time
from http import HTTPStatus

from django.contrib.auth import login, logout
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from finetune_site.team.forms import SignInForm
from finetune_site.team.services import (
    consume_sign_in_link,
    is_usable_sign_in_link,
    record,
)

# So long after a sign-in link was used, it stands for the old password.
FRESH_SECONDS = 600
LINK_USED_AT = "link_used_at"
METHODS = ["GET", "HEAD", "POST"]
BACKEND = "django.contrib.auth.backends.ModelBackend"


class SignIn(LoginView):
    template_name = "sign_in.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        member = form.get_user()
        record(member=member, action="sign_in.password", subject=str(member))
        return super().form_valid(form)

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        context = self.get_context_data(form=form)
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        return self.render_to_response(context, status=status)


sign_in = login_not_required(require_http_methods(METHODS)(SignIn.as_view()))


@require_http_methods(METHODS)
@login_not_required
@never_cache
def sign_in_link(request: HttpRequest, token: str) -> HttpResponse:
    """Signs a member in after a click. To open the link does not use it up, because
    mail programs and chats open it too.
    """
    if request.method != "POST":
        if is_usable_sign_in_link(token=token):
            return render(request, "sign_in_link.html")
        return _gone(request)
    member = consume_sign_in_link(token=token)
    if member is None:
        return _gone(request)
    login(request, member, backend=BACKEND)
    request.session[LINK_USED_AT] = time.time()
    return redirect("home")


def came_by_link_lately(request: HttpRequest) -> bool:
    """Returns whether this session has just begun with a sign-in link."""
    used_at = float(request.session.get(LINK_USED_AT, 0))
    return time.time() - used_at < FRESH_SECONDS


def _gone(request: HttpRequest) -> HttpResponse:
    status = HTTPStatus.GONE
    return render(request, "sign_in_link_gone.html", status=status)


@require_POST
@login_not_required
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("sign-in")
