# The token endpoint of Django OAuth Toolkit over HTTP, for the tests.
"""
    python django_oauth_toolkit.py <port> <grace seconds> <reuse protection: on or off>

Refresh tokens rotate. During the grace period a spent refresh token returns the tokens that replaced it. After that it is
rejected; with reuse protection, all tokens of its grant are revoked too.

    GET  /health    200 when the server is ready
    POST /seed      a new grant: {"access_token", "refresh_token", "client_id", "client_secret"}
    POST /o/token/  the real token endpoint
"""

import os
import sys
import threading
import uuid
from datetime import timedelta

import django
from django.conf import settings

PORT, GRACE_SECONDS, REUSE_PROTECTION = int(sys.argv[1]), int(sys.argv[2]), {"on": True, "off": False}[sys.argv[3]]
CLIENT_ID, CLIENT_SECRET = "toolkit", "unseen-s3cr+t/=& %:x"

settings.configure(
    DEBUG=False,
    ALLOWED_HOSTS=["127.0.0.1"],
    SECRET_KEY="only for tests on loopback, where nobody logs in by hand",
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[f"{__name__}.one_at_a_time"],
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "file:grants?mode=memory&cache=shared"}},
    USE_TZ=True,
    OAUTH2_PROVIDER={
        "ACCESS_TOKEN_EXPIRE_SECONDS": 60,
        "ROTATE_REFRESH_TOKEN": True,
        "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": GRACE_SECONDS,
        "REFRESH_TOKEN_REUSE_PROTECTION": REUSE_PROTECTION,
    },
)
django.setup()

from django.contrib.auth import get_user_model  # noqa: E402: models need the settings above
from django.core.management import call_command  # noqa: E402
from django.core.servers.basehttp import run  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db.models.signals import post_save  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import timezone  # noqa: E402
from django.views.decorators.http import require_GET, require_POST  # noqa: E402
from oauth2_provider.models import AccessToken, Application, RefreshToken  # noqa: E402
from oauth2_provider.views import TokenView  # noqa: E402


def one_at_a_time(get_response):
    """Middleware: handles one request at a time, because SQLite has no row locks. Each connection still has its own thread."""
    lock = threading.Lock()

    def respond(request):
        with lock:
            return get_response(request)

    return respond


@require_GET
def health(_request):
    return JsonResponse({"status": "ready"})


@require_POST
def seed(_request):
    application = Application.objects.get(client_id=CLIENT_ID)
    access = AccessToken.objects.create(
        user=application.user,
        application=application,
        token=uuid.uuid4().hex,
        expires=timezone.now() + timedelta(seconds=60),
        scope="read write",
    )
    refresh = RefreshToken.objects.create(
        user=application.user, application=application, token=uuid.uuid4().hex, access_token=access, token_family=uuid.uuid4()
    )
    return JsonResponse(
        {
            "access_token": access.token,
            "refresh_token": refresh.token,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
        }
    )


def issued(instance, **_):
    """Appends every issued token to a file. tests/check-no-secrets searches all output for these tokens."""
    if log := os.environ.get("PEER_ISSUED"):
        with open(log, "a") as log:
            log.write(f"{instance.token}\n")


for model in (AccessToken, RefreshToken):
    post_save.connect(issued, sender=model)

urlpatterns = [path("health", health), path("seed", seed), path("o/token/", TokenView.as_view())]

if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    Application.objects.create(
        user=get_user_model().objects.create_user("alice"),
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        # Hashing would take a third of a second in each request, and no test needs it.
        hash_client_secret=False,
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
        redirect_uris="https://client.example/callback",
    )
    # A client that gets tokens for itself (RFC 6749 section 4.4).
    Application.objects.create(
        client_id="machine",
        client_secret=CLIENT_SECRET,
        hash_client_secret=False,
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_CLIENT_CREDENTIALS,
    )
    run("127.0.0.1", PORT, get_wsgi_application(), threading=True)
