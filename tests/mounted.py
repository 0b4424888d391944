"""Web apps with a receiver mounted, for the servers of `test_mounts`; each tells at `/` what its tasks ran with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from flask import Flask

from cueapi_tasks import CueTasks

cue = CueTasks("billing")
calls = Path(os.environ["CALLS"])  # one file for every process of a server


@cue.schedule(cron="0 9 * * *")
def report(text: str = "") -> None:
    note(text)


@cue.schedule(cron="0 9 * * *")
async def report_later(text: str = "") -> None:
    note(text)


def note(text: str) -> None:
    with calls.open("a") as lines:
        lines.write(text + "\n")


def count() -> str:
    return calls.read_text()


flask_app = Flask(__name__)
flask_app.get("/")(count)
flask_app.wsgi_app = cue.mount(flask_app.wsgi_app, path="/cueapi")  # type: ignore[method-assign]


fastapi_app = FastAPI()
fastapi_app.get("/", response_class=PlainTextResponse)(count)
fastapi_app.add_middleware(cue.mount_asgi, path="/cueapi")


def view(request: HttpRequest) -> Any:
    return HttpResponse(count())


urlpatterns = [path("", view)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", MIDDLEWARE=[])
django.setup()
django_wsgi = cue.mount(get_wsgi_application(), path="/cueapi")
django_asgi = cue.mount_asgi(get_asgi_application(), path="/cueapi")
