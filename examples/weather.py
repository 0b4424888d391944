"""A task that calls somebody else's HTTP API, and tells a failure that may pass from one that will not."""

from __future__ import annotations

import requests

from cueapi_tasks import CueTasks, Done, NonRetriableError

API = "https://api.weather.example/v1/forecast"

cue = CueTasks("weather")


@cue.schedule(cron="0 6 * * *", timezone="Europe/Berlin", payload={"city": "Berlin"})
def fetch_forecast(city: str) -> Done:
    """Fetch today's forecast."""
    answer = requests.get(API, params={"city": city}, timeout=10)
    if answer.status_code == 404:
        raise NonRetriableError(f"{API} knows no {city}")  # another attempt would not help
    answer.raise_for_status()  # raises where another attempt may: CueAPI retries
    forecast = answer.json()
    return Done(result=f"{city}: {forecast['summary']}", external_id=forecast["id"])
