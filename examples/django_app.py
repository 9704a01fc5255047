"""The fleet behind Django, in one file: ``FLEET_URL=redis://… python django_app.py runserver``.

``curl -F photo=@me.jpg http://127.0.0.1:8000/detect`` gives the fleet's result as JSON.
"""

import functools
import os
import sys

import django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_POST

from producer import CallerError, Client, FleetError
from producer.client import DEFAULT_URL

settings.configure(
    DEBUG=False,
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    # With a page that people log in to, keep Django's usual middleware.
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", "only-for-this-example"),
    DATA_UPLOAD_MAX_MEMORY_SIZE=32 * 1024 * 1024,
)
django.setup()


@functools.cache
def client() -> Client:
    """Give this process's client; it is thread-safe, and works on in a server's forked children."""
    return Client(os.environ.get("FLEET_URL", DEFAULT_URL), when_full="refuse")


@require_POST
def detect(request: HttpRequest) -> JsonResponse:
    """Detect on the uploaded photo."""
    photo = request.FILES.get("photo")
    if photo is None:
        return JsonResponse({"code": "invalid_request", "message": "Send a file named photo."}, status=400)
    try:
        result = client().detect(photo.read(), deadline_s=30)
    except FleetError as error:
        return JsonResponse(error.to_json(), status=422 if isinstance(error, CallerError) else 503)
    return JsonResponse(result.to_json())


urlpatterns = [path("detect", detect)]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
