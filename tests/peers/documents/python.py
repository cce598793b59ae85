# The token documents of OAuth libraries for Python. Each library writes and reads its document itself.
"""
    python python.py write LIBRARY    lets the library exchange a refresh token, and prints the document that it then saves
    python python.py read LIBRARY     gives a saved document to the library, and prints what the library makes of it

The input is one JSON object on stdin: tokenEndpoint, clientId, clientSecret, and refreshToken or document. What `read` prints:

    accessToken     the token that the library sends to an API, or returns, without a request to a token endpoint
    refreshToken    the token that the library would exchange next
    valid           the library's own judgement of the access token
    expires         the end of the access token, as the library understands it, in seconds since 1970
"""

import base64
import json
import os
import re
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

SCOPE = "orders.read"


class Api(BaseHTTPRequestHandler):
    """An API that returns the access token of each request. It answers 501 to a POST, so nothing can be refreshed there."""

    def do_GET(self):
        token = self.headers.get("authorization", "").removeprefix("Bearer ").encode()
        self.send_response(200)
        self.send_header("content-length", str(len(token)))
        self.end_headers()
        self.wfile.write(token)

    def log_message(self, *_):
        pass


def start_api() -> str:
    server = HTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/"


class GoogleAuth:
    """Saves what `Credentials.to_json` returns, as Google's quickstarts do."""

    def write(self, api, endpoint, client_id, client_secret, refresh_token):
        from google.auth.transport.requests import AuthorizedSession
        from google.oauth2.credentials import Credentials

        client = {"token_uri": endpoint, "client_id": client_id, "client_secret": client_secret}
        credentials = Credentials(None, refresh_token=refresh_token, **client)
        AuthorizedSession(credentials).get(api).raise_for_status()
        return credentials.to_json()

    def read(self, api, _endpoint, _client_id, _client_secret, document):
        from google.auth.transport.requests import AuthorizedSession
        from google.oauth2.credentials import Credentials

        credentials = Credentials.from_authorized_user_info(json.loads(document))
        # Before the request: it would exchange at Google's own address.
        assert credentials.valid, "not valid"
        sent = AuthorizedSession(credentials).get(api).text
        return sent, credentials.refresh_token, credentials.valid, credentials.expiry.replace(tzinfo=timezone.utc).timestamp()


class RequestsOauthlib:
    """Saves what the `token_updater` of a session gets."""

    def session(self, endpoint, client_id, client_secret, token):
        from requests_oauthlib import OAuth2Session

        # It accepts no other address than https without it.
        os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"
        saved = []
        client = {"client_id": client_id, "client_secret": client_secret}
        settings = {"auto_refresh_url": endpoint, "auto_refresh_kwargs": client, "token_updater": saved.append}
        return OAuth2Session(client_id, token=token, **settings), saved

    def write(self, api, endpoint, client_id, client_secret, refresh_token):
        due = {"access_token": "expired", "token_type": "Bearer", "expires_in": -30, "refresh_token": refresh_token}
        session, saved = self.session(endpoint, client_id, client_secret, due)
        session.get(api).raise_for_status()
        return json.dumps(saved.pop())

    def read(self, api, _endpoint, client_id, client_secret, document):
        session, saved = self.session(api, client_id, client_secret, json.loads(document))
        sent = session.get(api).text
        return sent, session.token["refresh_token"], session.authorized and not saved, session.token["expires_at"]


class Authlib:
    """Saves what the `update_token` of a session gets."""

    def session(self, endpoint, client_id, client_secret, token):
        from authlib.integrations.requests_client import OAuth2Session

        saved = []
        settings = {"token_endpoint": endpoint, "token_endpoint_auth_method": "client_secret_post"}
        update = lambda token, refresh_token=None, access_token=None: saved.append(token)  # noqa: E731
        return OAuth2Session(client_id, client_secret, token=token, update_token=update, **settings), saved

    def write(self, api, endpoint, client_id, client_secret, refresh_token):
        due = {"access_token": "expired", "token_type": "Bearer", "expires_at": 1, "refresh_token": refresh_token}
        session, saved = self.session(endpoint, client_id, client_secret, due)
        session.get(api).raise_for_status()
        return json.dumps(saved.pop())

    def read(self, api, _endpoint, client_id, client_secret, document):
        session, saved = self.session(api, client_id, client_secret, json.loads(document))
        sent = session.get(api).text
        valid = session.token.is_expired() is False and not saved
        return sent, session.token["refresh_token"], valid, session.token["expires_at"]


class Spotipy:
    """Saves the file of `CacheFileHandler`."""

    def manager(self, endpoint, client_id, client_secret, folder):
        from spotipy.cache_handler import CacheFileHandler
        from spotipy.oauth2 import SpotifyOAuth

        cache = CacheFileHandler(cache_path=Path(folder) / "cache")
        manager = SpotifyOAuth(client_id, client_secret, "https://client.example/callback", scope=SCOPE, cache_handler=cache)
        manager.OAUTH_TOKEN_URL = endpoint
        return manager, Path(cache.cache_path)

    def write(self, _api, endpoint, client_id, client_secret, refresh_token):
        with tempfile.TemporaryDirectory() as folder:
            manager, cache = self.manager(endpoint, client_id, client_secret, folder)
            manager.refresh_access_token(refresh_token)
            return cache.read_text()

    def read(self, api, _endpoint, client_id, client_secret, document):
        with tempfile.TemporaryDirectory() as folder:
            manager, cache = self.manager(api, client_id, client_secret, folder)
            cache.write_text(document)
            token = manager.validate_token(manager.cache_handler.get_cached_token())
            valid = token is not None and not manager.is_token_expired(token)
            returned = manager.get_access_token(as_dict=False, check_cache=True)
            return returned, token["refresh_token"], valid and cache.read_text() == document, token["expires_at"]


class Golang:
    """No library: the JSON of `oauth2.Token` in golang.org/x/oauth2 as its documentation describes it. Go is not installed."""

    ZONE = timezone(timedelta(hours=-3, minutes=-30))
    # RFC 3339 as Go's `time` parses it: no blank, no lower case, no digits left out.
    TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")

    def write(self, _api, endpoint, client_id, client_secret, refresh_token):
        form = urllib.parse.urlencode({"grant_type": "refresh_token", "refresh_token": refresh_token}).encode()
        credentials = ":".join(map(urllib.parse.quote_plus, (client_id, client_secret))).encode()
        headers = {"authorization": f"Basic {base64.b64encode(credentials).decode()}"}
        with urllib.request.urlopen(urllib.request.Request(endpoint, form, headers)) as response:
            issued = json.load(response)
        nanoseconds = time.time_ns() + issued["expires_in"] * 10**9
        local = datetime.fromtimestamp(nanoseconds // 10**9, self.ZONE)
        fraction = f".{nanoseconds % 10**9:09}".rstrip("0").rstrip(".")
        expiry = f"{local:%Y-%m-%dT%H:%M:%S}{fraction}-03:30"
        token = {name: issued[name] for name in ("access_token", "token_type", "refresh_token")}
        # `json.Marshal` writes no blanks.
        return json.dumps(token | {"expiry": expiry, "expires_in": issued["expires_in"]}, separators=(",", ":"))

    def read(self, _api, _endpoint, _client_id, _client_secret, document):
        token = json.loads(document)
        types = {"access_token": str, "token_type": str, "refresh_token": str, "expires_in": int}
        for name, expected in types.items():
            # `json.Unmarshal` fails for a value of another type.
            assert type(token[name]) is expected, f"{name} has the wrong type"
        assert token["token_type"].lower() == "bearer", "not a bearer token"
        seconds, fraction, zone = self.TIME.fullmatch(token["expiry"]).groups()
        expires = datetime.fromisoformat(seconds + zone).timestamp() + float(fraction or 0)
        return token["access_token"], token["refresh_token"], expires - 10 > time.time(), expires


LIBRARIES = {
    "google-auth": GoogleAuth,
    "requests-oauthlib": RequestsOauthlib,
    "authlib": Authlib,
    "spotipy": Spotipy,
    "golang": Golang,
}


def main(command, name):
    library, given = LIBRARIES[name](), json.load(sys.stdin)
    client = start_api(), given["tokenEndpoint"], given["clientId"], given["clientSecret"]
    if command == "write":
        print(library.write(*client, given["refreshToken"]), end="")
        return
    result = library.read(*client, given["document"])
    print(json.dumps(dict(zip(("accessToken", "refreshToken", "valid", "expires"), result))))


if __name__ == "__main__":
    main(*sys.argv[1:])
