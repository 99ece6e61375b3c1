"""A web server on loopback that serves made-up files.

Well or with one of the faults that real servers have.
"""

import http.server
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Behaviour:
    """How one address answers; the defaults are a good server."""

    body: bytes = field(repr=False)
    ranges: bool = True
    etag: str = '"v1"'
    breaks_after: int | None = None  # bytes of each answer after which the connection ends
    breaks: int = 10**9  # how many answers break
    resets: bool = False  # end with a reset instead of an orderly close
    claims: int | None = None  # Content-Length of a full answer; None tells the truth
    silent: bool = False  # no Content-Length
    chunked: bool = False  # no Content-Length, but an end that can be told
    refusals: list[tuple[int, dict[str, str]]] = field(
        default_factory=list
    )  # status and headers, before the first good answer
    pause: float = 0.0  # seconds between blocks of `block` bytes
    block: int = 2**14


@dataclass
class Site:
    """The addresses of a running server and what was asked of them."""

    base: str
    pages: dict[str, Behaviour] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    ranges: list[str] = field(default_factory=list)
    sent: int = 0

    def url(self, name: str, body: bytes | None = None, **behaviour: object) -> str:
        """Serve `body` at `name` and return the address.

        Without a body, the address of what is served already.
        """
        if body is not None:
            self.pages[f"/{name}"] = Behaviour(body, **behaviour)  # type: ignore[arg-type]
        return f"{self.base}/{name}"


@contextmanager
def serve(on_block: Callable[[], None] = lambda: None) -> Iterator[Site]:
    """Run a server on a free port of loopback.

    `on_block` is called after every block that was sent.
    """
    site = Site("")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            site.requests[self.path] += 1
            page = site.pages.get(self.path)
            if page is None:
                self.send_error(404)
            elif page.refusals:
                self._refuse(*page.refusals.pop(0))
            else:
                self._answer(page)

        def _refuse(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _answer(self, page: Behaviour) -> None:
            start = self._start(page)
            if start >= len(page.body) > 0:
                self._refuse(416, {"Content-Range": f"bytes */{len(page.body)}"})
                return
            self.send_response(206 if start else 200)
            if page.etag:
                self.send_header("ETag", page.etag)
            claims = page.claims if page.claims is not None else len(page.body)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{claims - 1}/{claims}")
            if page.silent:
                self.close_connection = True
            elif page.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(claims - start))
            self.end_headers()
            self._send(page, page.body[start:])

        def _start(self, page: Behaviour) -> int:
            wanted = self.headers.get("Range")
            if not wanted:
                return 0
            site.ranges.append(wanted)
            same = self.headers.get("If-Range", page.etag) == page.etag
            return int(wanted.removeprefix("bytes=").rstrip("-")) if page.ranges and same else 0

        def _send(self, page: Behaviour, data: bytes) -> None:
            ends = page.breaks_after is not None and page.breaks > 0
            page.breaks -= ends
            data = data[: page.breaks_after] if ends else data
            for position in range(0, len(data), page.block):
                block = data[position : position + page.block]
                self.wfile.write(
                    f"{len(block):x}\r\n".encode() + block + b"\r\n" if page.chunked else block
                )
                site.sent += page.block
                on_block()
                time.sleep(page.pause)
            if page.chunked and not ends:
                self.wfile.write(b"0\r\n\r\n")
            if ends or (page.claims or 0) > len(page.body):
                self.close_connection = True
                if page.resets:
                    self.wfile.flush()
                    self.connection.setsockopt(
                        1, 13, b"\1\0\0\0\0\0\0\0"
                    )  # SO_LINGER 0: closing sends a reset
                    self.connection.close()

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # the client was killed

    server = Server(("127.0.0.1", 0), Handler)
    site.base = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
