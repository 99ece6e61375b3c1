"""Whether the server behind a tracking URI answers, and how long a request to it may take.

The limits of MLflow itself (120 s a request, seven retries with growing pauses) would hold up a
stage for many minutes. The limits here apply unless the user has set others.
"""

import os
import socket
import sys
from threading import Thread
from urllib.parse import urlsplit

PROBE_SECONDS = 5.0  # name look-up, connection and answer together
_QUIET_SECONDS = 1.0  # a wait longer than this is announced
LIMITS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",  # a server may ask for hours
}
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


class NoAnswer(ConnectionError):
    """The server does not answer in time."""


def limit_requests() -> None:
    """Give MLflow's client short limits; call this before it makes its first request."""
    for name, value in LIMITS.items():
        os.environ.setdefault(name, value)


def probe(uri: str, seconds: float = PROBE_SECONDS) -> None:
    """Ask the server of a tracking URI for a sign of life; NoAnswer if none comes in `seconds`.

    Any answer over HTTP counts; of a database server only the connection is tried. A file has no
    server.
    """
    parts = urlsplit(uri)
    scheme = parts.scheme.partition("+")[0]
    if scheme not in ("http", "https", *_PORTS) or not parts.hostname:
        return
    where = f"{scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
    failure: list[BaseException] = []

    def ask() -> None:
        try:
            if scheme in _PORTS:
                address = (parts.hostname, parts.port or _PORTS[scheme])
                socket.create_connection(address, timeout=seconds).close()
            else:
                _get(uri.rstrip("/") + "/health", seconds)
        except Exception as error:  # whatever it is, the caller gets it
            failure.append(error)

    asking = Thread(target=ask, daemon=True)  # a look-up of a name knows no time limit
    asking.start()
    asking.join(min(_QUIET_SECONDS, seconds))
    if asking.is_alive():
        print(
            f"noisyvos: waiting up to {seconds:.0f} s for the MLflow server {where}",
            file=sys.stderr,
            flush=True,
        )
        asking.join(max(0.0, seconds - _QUIET_SECONDS))
    if asking.is_alive():
        raise NoAnswer(f"the server {where} did not answer within {seconds:.0f} s")
    if failure:
        raise NoAnswer(f"the server {where} cannot be reached: {type(failure[0]).__name__}")


def _get(url: str, seconds: float) -> None:
    import requests

    insecure = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1")
    given = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH")
    requests.get(
        url, timeout=seconds, stream=True, allow_redirects=False, verify=given or not insecure
    ).close()
