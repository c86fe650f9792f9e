"""Serving the page until a signal ends it."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from starvsr.errors import OutputError, UsageError
from starvsr.media.scratch import scratch_folder
from starvsr.ui.access import LOCAL, Guard, Roots
from starvsr.ui.jobs import Queue
from starvsr.zoo.folder import weights_folder

KEPT = "queue.json"
"""In the weights folder: the jobs of the page that were not finished."""
_CLOSING_S, _PATIENCE_S = 1, 10
_MOST_PORT = 65535


def serve(
    roots: Sequence[Path], start: Path, host: str | None, port: int, announce: Callable[[str], None]
) -> None:
    """Serve the page until an exception, such as that of a signal, ends it; the running job is stopped then.

    roots: what the page may read and write. start: where it begins, inside. host: an address of this machine to be
    reached by from others, with a token; None is this machine alone. port: 0 for any. announce: receives the address.
    Raises UsageError without Gradio, and StarvsrError.
    """
    allowed = Roots(roots)
    begin = allowed.inside(start)
    # What is set for other pages must not open this one, and nothing is sent to anybody.
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    place = allowed.folders[0]
    with closing(_listening(host or LOCAL[0], port)) as listener:
        own = place if os.access(place, os.W_OK) else None
        kept = Queue(weights_folder() / KEPT, holds=allowed.holds)
        with scratch_folder(own) as scratch, kept as queue:
            os.environ["GRADIO_TEMP_DIR"] = str(scratch / "gradio")
            app = _app(allowed, begin, queue, scratch)
            token = secrets.token_urlsafe(24) if host else ""
            hosts = [host.lower()] if host else LOCAL
            _run(
                Guard(app, hosts, scratch, token),
                listener,
                lambda: announce(_address(listener, host, token)),
            )


def _listening(host: str, port: int) -> socket.socket:
    if not 0 <= port <= _MOST_PORT:
        raise UsageError(f"--port {port} is not allowed: give 0 (any) to {_MOST_PORT}")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OutputError(
            f"port {port} of {host} cannot be used ({error}): give another --port, or 0 for any"
        ) from error


def _address(listener: socket.socket, host: str | None, token: str) -> str:
    name = host or LOCAL[0]
    if name in ("0.0.0.0", "::"):
        name = socket.gethostname()
    name = f"[{name}]" if ":" in name else name
    query = f"?token={token}" if token else ""
    return f"http://{name}:{listener.getsockname()[1]}/{query}"


def _app(roots: Roots, start: Path, queue: Queue, scratch: Path) -> object:
    try:
        import gradio as gr
        from fastapi import FastAPI, HTTPException
        from fastapi.responses import FileResponse
        from gradio import processing_utils
    except ImportError as error:
        raise UsageError("the page needs Gradio: pip install 'starvsr[ui]'") from error
    from starvsr.ui.access import MOST_UPLOAD_BYTES
    from starvsr.ui.desk import Desk
    from starvsr.ui.markup import CSS
    from starvsr.ui.page import build

    desk = Desk(roots, queue, scratch)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    def shown(name: str) -> FileResponse:
        path = desk.file_at(name)
        if path is None or not path.is_file():
            raise HTTPException(404)
        return FileResponse(path)

    app.add_api_route("/shown/{name}", shown, methods=["GET", "HEAD"])

    page = build(desk, start)
    # A mounted page counts as not launched, and then Gradio takes any file of this machine for one that was dropped.
    page.has_launched = True
    processing_utils.async_ssrf_protected_download = _refuse_address
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    mounted: object = gr.mount_gradio_app(
        app,
        page,
        path="/",
        footer_links=[],
        run_history=False,
        max_file_size=MOST_UPLOAD_BYTES,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        theme=gr.themes.Default(**fonts),
        css=CSS,
    )
    return mounted


async def _refuse_address(url: str, **_: object) -> str:
    """In place of what Gradio does with the address of a file: it would fetch it."""
    raise UsageError(f"{url} is not fetched: download it first")


def _run(app: Guard, listener: socket.socket, announce: Callable[[], None]) -> None:
    """Serve in a thread of its own, since signals are raised in this one."""
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=_CLOSING_S
    )
    server, ended = uvicorn.Server(config), threading.Event()

    def work() -> None:
        try:
            server.run(sockets=[listener])
        finally:
            ended.set()

    threading.Thread(target=work, daemon=True).start()
    try:
        # Not by joining the thread: Python 3.11 takes a thread for ended whose join a signal has interrupted.
        while not server.started and not ended.wait(0.05):
            pass
        announce()
        while not ended.wait(1.0):
            pass
    finally:
        server.should_exit = True
        ended.wait(_PATIENCE_S)
