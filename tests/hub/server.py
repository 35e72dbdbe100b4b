"""As much of the Hub's HTTP API as downloading takes, over a folder, on the loopback address."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


class _Hub(BaseHTTPRequestHandler):
    """`/api/datasets/OWNER/NAME/revision/COMMIT`, `.../tree/COMMIT` and `/datasets/OWNER/NAME/resolve/COMMIT/FILE`."""

    def __init__(self, folder: Path, commit: str, *args: Any):
        self.folder, self.commit = folder, commit
        super().__init__(*args)

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        kind, _, rest = self.path.partition("?")[0].removeprefix("/").partition("/")
        names = sorted(path.name for path in self.folder.iterdir())
        if self.commit not in rest:
            return self.send_error(404)
        if kind == "api" and "/tree/" in rest:
            files = [self.folder / name for name in names]
            self.answer(
                [{"type": "file", "path": own.name, "oid": _etag(own), "size": own.stat().st_size} for own in files]
            )
        elif kind == "api":
            self.answer({"id": "me/outliers", "sha": self.commit, "siblings": [{"rfilename": name} for name in names]})
        elif (name := rest.rpartition("/")[2]) in names:
            self.send(self.folder / name)
        else:
            self.send_error(404)

    def answer(self, content: Any) -> None:
        data = json.dumps(content).encode()
        self.head(data, {"Content-Type": "application/json"})

    def send(self, path: Path) -> None:
        self.head(path.read_bytes(), {"ETag": f'"{_etag(path)}"', "Content-Type": "application/octet-stream"})

    def head(self, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in {**headers, "X-Repo-Commit": self.commit, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@contextmanager
def hub(folder: Path, commit: str) -> Iterator[str]:
    """Serve a folder as one dataset at one commit; gives the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Hub, folder, commit))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
