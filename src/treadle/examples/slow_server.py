"""A web server on this machine that takes its time, for the demo."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from treadle import threading

__all__ = ["slow_server"]


class _Slow(BaseHTTPRequestHandler):
    """Answers /N after 0.1 to 0.5 seconds, depending on N."""

    def do_GET(self) -> None:
        number = int(self.path.removeprefix("/") or 0)
        time.sleep(0.1 + 0.1 * (number % 5))
        body = b"a page\n" * (1 + number % 100)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # who asked was killed
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


@contextlib.contextmanager
def slow_server() -> Iterator[str]:
    """Its address, as long as the block lasts."""
    with _Server(("127.0.0.1", 0), _Slow) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
