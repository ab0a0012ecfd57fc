"""Signs members in and out."""

from http import HTTPStatus

from django.contrib.auth import login, logout
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from finetune_site.team.forms import SignInForm
from finetune_site.team.services import consume_sign_in_link, is_usable_sign_in_link

BACKEND = "django.contrib.auth.backends.ModelBackend"


@method_decorator(login_not_required, name="dispatch")
class SignIn(LoginView):
    template_name = "sign_in.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        context = self.get_context_data(form=form)
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        return self.render_to_response(context, status=status)


sign_in = SignIn.as_view()


@require_http_methods(["GET", "HEAD", "POST"])
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
    return redirect("home")


def _gone(request: HttpRequest) -> HttpResponse:
    status = HTTPStatus.GONE
    return render(request, "sign_in_link_gone.html", status=status)


@require_POST
@login_not_required
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("sign-in")
