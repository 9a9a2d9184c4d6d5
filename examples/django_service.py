"""A Django service in one file, whose home page lives on without its recommendations.

    pip install 'resilient-guards[cli,httpx]' django gunicorn
    export RESILIENT_STORE=sqlite:////tmp/shop.db     # where flags are flipped
    export RECS_URL=http://127.0.0.1:9000             # the dependency; GET /picks/7 is a JSON list,
                                                      # GET /stock/heat a JSON number
    gunicorn --chdir examples --workers 2 --threads 8 --bind :8000 django_service:application

What to try:

    curl localhost:8000/home/7                        # the top 100, while nobody is at port 9000
    curl localhost:8000/metrics | grep recs           # the counts of both workers
    curl localhost:8000/ready
    resilient flags off recs --reason "a try"         # elsewhere, with the same RESILIENT_STORE
    resilient policies force-open stock --reason "a try"
    curl -i localhost:8000/stock/heat                 # 503, with Retry-After
"""

from __future__ import annotations

import json
import os

import httpx
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from resilient import (
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    flag,
    health,
    kill_switch,
    load_settings,
    metrics,
    timeout,
)

IMPACT = "The home page shows the top 100 instead of personal picks."
RECS = flag("recs", owner="team-recs", impact=IMPACT)


def top_100(user: int) -> list[str]:
    """Answer what everybody likes."""
    return ["the top 100"]


# In a project of more than one file the policies stand in a module of their own.
recs = Policy(
    "recs", kill_switch(RECS, answer=top_100), fallback(top_100), circuit_breaker(), bulkhead(20),
    timeout(0.3, sync="thread"), owner="team-recs", tier=3, impact=IMPACT,
)  # fmt: skip
stock = Policy(
    "stock", circuit_breaker(), bulkhead(20), timeout(0.5, sync="thread"), owner="team-stock"
)
load_settings()  # options from the file RESILIENT_SETTINGS, and from the environment
shop = httpx.Client(base_url=os.environ.get("RECS_URL", "http://127.0.0.1:9000"))


@recs
def picks(user: int) -> list[str]:
    """Ask for what a user will like. The function that talks is guarded, not the view."""
    return list(shop.get(f"/picks/{user}").raise_for_status().json())


@stock
def in_stock(movie: str) -> int:
    """Ask how many there are."""
    return int(shop.get(f"/stock/{movie}").raise_for_status().json())


def home(request: HttpRequest, user: int) -> JsonResponse:
    return JsonResponse({"picks": picks(user)})


def left(request: HttpRequest, movie: str) -> JsonResponse:
    return JsonResponse(in_stock(movie), safe=False)


def ready(request: HttpRequest) -> HttpResponse:
    report = health.report()  # it asks no dependency
    return HttpResponse(json.dumps(report), status=200 if report["ready"] else 503)


urlpatterns = [path("home/<int:user>", home), path("stock/<str:movie>", left), path("ready", ready)]
settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    MIDDLEWARE=["resilient.integrations.django.Middleware"],  # first: deadlines; 503 and 504
    RESILIENT_AT_MOST=10.0,
    RESILIENT_AT_LEAST=0.05,
)
django, shown = get_wsgi_application(), metrics.wsgi_app()


def application(environ, start_response):
    """Serve /metrics beside Django, without its middleware."""
    serve = shown if environ["PATH_INFO"] == "/metrics" else django
    return serve(environ, start_response)
