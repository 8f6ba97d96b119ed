"""The local web application: the page of an album, its pictures, and the changes that the page asks for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from facelib.render import jpeg
from facelib.server.album import OutdatedError, ServedAlbum
from facelib.server.guard import Guard

PAGE = Path(__file__).parent / "page"
FILES = {"": "index.html", "page.js": "page.js", "page.css": "page.css", "icon.svg": "icon.svg"}


def make_app(album: ServedAlbum, token: str, port: int) -> ASGIApp:
    """The application of an album.

    Args:
        token: first part of the path of all addresses.
        port: that it is reached at, on 127.0.0.1.
    """
    routes = [Route(f"/{name}", _file(PAGE / file)) for name, file in FILES.items()]
    routes += [
        Route("/faces", lambda request: JSONResponse(_faces(album))),
        Route("/people", lambda request: _people(album, request)),
        Route("/suggestions", lambda request: JSONResponse(album.suggestions())),
        Route("/face/{place:int}", lambda request: _face(album, request)),
        Route("/photo/{place:int}", lambda request: _photo(album, request)),
        Route("/change", _change(album), methods=["POST"]),
    ]
    return Guard(Starlette(routes=routes), token, port)


def _file(path: Path) -> Any:
    return lambda request: FileResponse(path)


def _faces(album: ServedAlbum) -> list[list[Any]]:
    """Of each face the name of its photo, its number in that, and its quality issue."""
    return [[Path(face.photo).name, face.number, face.quality_issue] for face in album.faces]


def _people(album: ServedAlbum, request: Request) -> Response:
    """What the page shows; nothing where it has that already."""
    content = album.content()
    mark = _mark(content)
    if request.query_params.get("mark") == mark:
        return Response(status_code=204)
    return JSONResponse(content | {"mark": mark})


def _mark(content: dict[str, Any]) -> str:
    """Changes with the content."""
    return f"{content['version']} {len(content['messages'])} {''.join(content['messages'][-1:])} {content['problem']}"


def _picture_of(album: ServedAlbum, request: Request, name: str) -> Path:
    place = request.path_params["place"]
    if place >= len(album.faces):
        raise HTTPException(404, "there is no such face")
    return getattr(album.faces[place], name)


def _face(album: ServedAlbum, request: Request) -> Response:
    """A thumbnail, made of the aligned face."""
    try:
        with Image.open(_picture_of(album, request, "aligned")) as picture:
            content = jpeg(np.asarray(picture.convert("RGB")))
    except (OSError, ValueError, SyntaxError):  # Pillow raises the last for a damaged PNG
        raise HTTPException(404, "the picture of this face is gone or damaged") from None
    return Response(content, media_type="image/jpeg")


def _photo(album: ServedAlbum, request: Request) -> Response:
    path = _picture_of(album, request, "annotated")
    try:
        return Response(path.read_bytes(), media_type="image/jpeg")
    except OSError:
        raise HTTPException(404, "the picture of this photo is gone") from None


def _change(album: ServedAlbum) -> Any:
    async def change(request: Request) -> Response:
        try:
            asked = json.loads(await request.body())
            if not isinstance(asked, dict):
                raise ValueError("expected an object")
            await run_in_threadpool(album.change, asked)
        except OutdatedError as error:
            return await run_in_threadpool(_refused, album, error, 409)
        except (LookupError, ValueError, RecursionError) as error:
            text = str(error.args[0]) if error.args else "not possible"
            return JSONResponse({"error": text}, 400)
        except OSError as error:
            return JSONResponse({"error": f"{error}; nothing was changed"}, 500)
        return await run_in_threadpool(_refused, album, None, 200)

    return change


def _refused(album: ServedAlbum, error: Exception | None, status: int) -> Response:
    """The album as it is now, with the reason why a change was refused, if it was."""
    content = album.content()
    return JSONResponse(content | {"mark": _mark(content)} | ({"error": str(error)} if error else {}), status)
