"""The examples do what they say."""

from __future__ import annotations

import pytest
import requests
import responses

from cueapi_tasks import CueTasks, Done, NonRetriableError
from cueapi_tasks.cli.loader import load

from .support import ROOT


@pytest.fixture
def weather() -> CueTasks:
    return load(str(ROOT / "examples" / "weather.py"))


@responses.activate
def test_the_forecast_comes_from_the_weather_api(weather: CueTasks) -> None:
    responses.get("https://api.weather.example/v1/forecast", json={"id": "f1", "summary": "rain"})
    (task,) = weather.tasks
    assert task("Berlin") == Done(result="Berlin: rain", external_id="f1")
    assert responses.calls[0].request.url == "https://api.weather.example/v1/forecast?city=Berlin"


@responses.activate
@pytest.mark.parametrize(("status", "error"), [(404, NonRetriableError), (503, requests.HTTPError)])
def test_only_a_city_that_does_not_exist_is_not_tried_again(
    weather: CueTasks, status: int, error: type[Exception]
) -> None:
    responses.get("https://api.weather.example/v1/forecast", status=status)
    with pytest.raises(error):
        weather.tasks[0]("Atlantis")
