"""The application is served to this machine until somebody stops it."""

import errno
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from facelib.server.album import ServedAlbum

ADDRESS = "127.0.0.1"


@contextmanager
def local_port(port: int) -> Iterator[socket.socket]:
    """Context manager: a socket that listens at a port of this machine, and to this machine alone.

    Args:
        port: 0: any that is free.

    Raises:
        OSError: the port is in use, or may not be used.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as opened:
        if os.name != "nt":  # where it would let two programs share a port
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind((ADDRESS, port))
            opened.listen(64)
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise OSError(f"port {port} {reason}: give another --port, or none for a free one") from None
        yield opened


def check_packages() -> None:
    """Raise ImportError where the packages of the extra `serve` are missing."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise ImportError("--serve needs Starlette and uvicorn: pip install 'facelib-hourglass[serve]'") from None


class Server:
    """Serves an album at an open socket.

    address: with the token, for a browser.
    """

    def __init__(self, album: ServedAlbum, opened: socket.socket):
        import uvicorn

        from facelib.server.app import make_app

        port, token = opened.getsockname()[1], secrets.token_urlsafe(24)
        self.address, self._socket = f"http://{ADDRESS}:{port}/{token}/", opened
        config = uvicorn.Config(
            make_app(album, token, port),
            log_config=None,
            access_log=False,  # addresses hold the token
            server_header=False,
            lifespan="off",
            loop="asyncio",
            http="h11",
            ws="none",
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        """Serve until the process is interrupted, which ends this without an error."""
        try:
            self._server.run(sockets=[self._socket])
        except KeyboardInterrupt:
            return

    def stop(self) -> None:
        """End `run`, from another thread."""
        self._server.should_exit = True
