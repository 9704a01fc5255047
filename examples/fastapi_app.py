"""A photo goes in, boxes come out, and a page shows them.

``FLEET_URL=redis://… uvicorn --app-dir examples fastapi_app:app``, then open http://127.0.0.1:8000.
Nothing waits in a thread: many uploads are under way in one event loop. Needs fastapi, uvicorn and python-multipart.
"""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, UploadFile
from fastapi.responses import FileResponse, JSONResponse

from producer import AsyncClient, CallerError, FleetError, JobEnded
from producer.client import DEFAULT_URL

PAGE = Path(__file__).with_name("page.html")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    """Keep one client as long as the application runs; all requests share its connections."""
    # "refuse": when the queue is full, whoever uploads is told so at once.
    async with AsyncClient(os.environ.get("FLEET_URL", DEFAULT_URL), when_full="refuse") as client:
        app.state.client = client
        yield


app = FastAPI(title="Faces on photos", lifespan=lifespan)


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """Give the page."""
    return FileResponse(PAGE)


@app.post("/detect")
async def detect(photo: UploadFile) -> dict[str, Any]:
    """Detect on one photo. The answer is the fleet's own result."""
    client: AsyncClient = app.state.client
    result = await client.detect(await photo.read(), deadline_s=30)
    return result.to_json()


@app.exception_handler(FleetError)
async def failed(_request: Request, error: FleetError) -> JSONResponse:
    """Say whose fault it was: the photo's, time's or the fleet's."""
    status = 422 if isinstance(error, CallerError) else 504 if isinstance(error, JobEnded) else 503
    return JSONResponse(error.to_json(), status)
