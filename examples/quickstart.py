"""A Flask app with two scheduled tasks: `cueapi-tasks dev examples/quickstart.py --now`."""

from __future__ import annotations

from datetime import date

from flask import Flask

from cueapi_tasks import Context, CueTasks, Done

app = Flask(__name__)
cue = CueTasks("quickstart")


@cue.schedule(cron="0 9 * * 1-5", timezone="America/New_York", payload={"region": "eu", "since": "2026-01-01"})
def daily_report(region: str, since: date, ctx: Context) -> Done:
    """Send the sales report each working day at nine."""
    days = (ctx.now.date() - since).days
    return Done(result=f"sent the {region} report over {days} days", external_id=f"report-{ctx.execution_id}")


@cue.schedule(every="15m")
def refresh_rates() -> str:
    """Fetch the exchange rates."""
    return "3 rates refreshed"


@app.get("/")
def index() -> str:
    return "The receiver is at /cueapi."


app.wsgi_app = cue.mount(app.wsgi_app, path="/cueapi")
