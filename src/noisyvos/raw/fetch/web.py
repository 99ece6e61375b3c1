"""Requests to a server, and whether a refusal is final or worth another attempt."""

import email.utils
import http.client
import ssl
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from noisyvos import __version__
from noisyvos.errors import UserError
from noisyvos.io.files import check_regular

SCHEMES = ("http", "https", "file")
_BUSY = {
    408: "took too long",
    425: "is not ready",
    429: "has too many requests to serve",
    503: "is not available for the moment",
}
_REFUSED = {
    401: "wants a login (401)",
    403: "refuses access (403)",
    404: "does not have this file (404)",
    410: "no longer has this file (410)",
}


class Interrupted(Exception):
    """A transfer broke off for a passing reason; the server asks to wait `after` seconds."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class PastTheEnd(Interrupted):
    """The server says that there is nothing from the asked-for byte on (416)."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects between http and https only: never to local files or other protocols."""

    def redirect_request(
        self, request: Any, file: Any, code: int, message: str, headers: Any, target: str
    ) -> Any:
        if urlsplit(target).scheme not in ("http", "https"):
            raise urllib.error.HTTPError(request.full_url, code, message, headers, file)
        return super().redirect_request(request, file, code, message, headers, target)


_OPENER = urllib.request.build_opener(_Redirects())


def ask(url: str, headers: dict[str, str], timeout: float) -> Any:
    """Send a GET request and return the open answer, a context manager.

    Raises UserError if a refusal is final, else Interrupted.
    `timeout` is how long in seconds the server may stay silent.
    """
    if urlsplit(url).scheme not in SCHEMES:
        raise UserError(f"{url}: only http, https and file addresses can be fetched.")
    if urlsplit(url).scheme == "file":
        try:
            check_regular(urllib.request.url2pathname(urlsplit(url).path))
        except (OSError, ValueError) as error:
            raise UserError(f"{url}: this file cannot be read ({error})") from None
    always = {"User-Agent": f"noisyvos/{__version__}", "Accept-Encoding": "identity"}
    try:
        return _OPENER.open(urllib.request.Request(url, headers=always | headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        raise _refusal(url, error) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise UserError(
                f"{url}: the certificate of the server is not valid "
                f"({error.reason.verify_message})."
            ) from None
        if url.startswith("file:"):
            raise UserError(f"{url}: this file cannot be read ({_words(error.reason)}).") from None
        raise Interrupted(f"the server cannot be reached ({error.reason})") from None
    except (OSError, http.client.HTTPException) as error:
        raise Interrupted(f"the server cannot be reached ({_words(error)})") from None


def broken(error: Exception) -> Interrupted:
    """Return the interruption that a failure to read on stands for."""
    return Interrupted(f"the connection broke ({_words(error)})")


def _words(error: BaseException | str) -> str:
    said = getattr(error, "strerror", None)
    return said if isinstance(said, str) else str(error) or type(error).__name__


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    code = error.code
    if code == 416:
        return PastTheEnd("the server has no more of this file (416)")
    if code in _BUSY or code >= 500:
        after = _retry_after(error.headers.get("Retry-After"))
        wish = f" and asks to wait {after:.0f} s" if after else ""
        return Interrupted(f"the server {_BUSY.get(code, 'failed')} ({code}){wish}", after)
    if 300 <= code < 400:
        return UserError(
            f"{url}: the server redirects in a circle, "
            f"or to something that is not a web address ({code})."
        )
    return UserError(
        f"{url}: the server {_REFUSED.get(code, f'refuses the request ({code})')}. "
        "Check the address in sources.yaml."
    )


def _retry_after(value: str | None) -> float:
    """Return the seconds of a Retry-After header, which holds seconds or a date; 0 without one."""
    if not value:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0
