"""The figures of the live page, and what they are made from."""

import json
import re
from importlib.resources import files

import pytest
from django.conf import settings
from django.urls import reverse

from jobs.charts import figures
from jobs.history import curves
from jobs.models import Event, Job
from tests.support import factories

pytestmark = pytest.mark.django_db


def add_steps(job: Job, losses: list[float], **data: float) -> None:
    Event.objects.bulk_create(
        Event(
            job=job,
            seq=step,
            time="2026-11-22T12:00Z",
            type="step",
            step=step,
            data={"loss": loss, "learned_loss": loss, "lr": 0.001, **data},
        )
        for step, loss in enumerate(losses, start=1)
    )
    job.step = job.last_seq = len(losses)
    job.save()


def add_validation(job: Job, losses: dict[int, float]) -> None:
    for step, loss in losses.items():
        job.last_seq += 1
        job.events.create(
            seq=job.last_seq,
            time="2026-11-22T12:00Z",
            type="validation",
            step=step,
            data={"loss": loss},
        )
    job.save()


@pytest.fixture
def job() -> Job:
    job = factories.make_job(status="running", total_steps=10)
    add_steps(job, [3.0, 2.5, 2.25])
    return job


def figure_of(job: Job, series: str = "loss") -> dict:
    figure = figures.build_figure(job, curves.read_curves(job), series)
    return json.loads(figure.to_json())


def trace(figure: dict, name: str) -> dict:
    return next(trace for trace in figure["data"] if trace["name"] == name)


def test_train_loss_is_drawn_by_step(job):
    drawn = trace(figure_of(job), "Train loss")
    assert (drawn["x"], drawn["y"]) == ([1, 2, 3], [3.0, 2.5, 2.25])


def test_best_validation_is_marked(job):
    add_validation(job, {0: 3.1, 1: 2.6, 2: 2.8})
    figure = figure_of(job)
    assert trace(figure, "Best")["x"] == [1]
    assert "best 2.60" in [note["text"] for note in figure["layout"]["annotations"]]


def test_snapshots_are_diamonds_on_the_axis(job):
    factories.make_snapshot(job, 2)
    drawn = trace(figure_of(job), "Snapshot")
    assert (drawn["x"], drawn["y"], drawn["yaxis"]) == ([2], [0], "y2")


def test_learned_loss_is_drawn_only_where_it_differs(job):
    names = [trace["name"] for trace in figure_of(job)["data"]]
    assert "Learned loss" not in names
    add = job.events.get(seq=3)
    add.data["learned_loss"] = 4.0
    add.save()
    assert trace(figure_of(job), "Learned loss")["y"][-1] == 4.0


def test_future_is_a_band_while_the_job_runs(job):
    [band, _] = figure_of(job)["layout"]["shapes"]
    assert (band["x0"], band["x1"], band["name"]) == (3, 10, "--sunk")
    job.status = Job.Status.SUCCEEDED
    assert "shapes" not in figure_of(job)["layout"]


def test_no_colour_but_transparent_is_written(job):
    text = json.dumps(figure_of(job))
    assert "#" not in text
    assert text.count("rgb") == text.count("rgba(0,0,0,0)")


def test_other_series(job):
    assert trace(figure_of(job, "lr"), "Learning rate")["y"] == [0.001] * 3


def test_losses_that_are_not_finite_are_left_out(job):
    add_steps(factories.make_job(), [])
    event = job.events.get(seq=2)
    event.data["loss"] = None
    event.save()
    assert trace(figure_of(job), "Train loss")["x"] == [1, 3]


def test_points_are_thinned_and_the_ends_kept(job, monkeypatch):
    long = factories.make_job(status="running", total_steps=100)
    add_steps(long, [float(step) for step in range(1, 101)])
    points = curves.read_points(long, ("loss",), max_points=10)["loss"]
    assert len(points) <= 12
    assert (points[0].step, points[-1].step) == (1, 100)


def test_description_names_first_last_and_best(job):
    add_validation(job, {0: 3.1, 2: 2.6, 3: 2.8})
    text = figures.describe(curves.read_curves(job), "loss")
    assert "3.00 at step 1 and is 2.25 at step 3" in text
    assert "lowest, 2.60, at step 2" in text


def test_figure_view_answers_json_and_then_not_modified(client, member, job):
    client.force_login(member)
    url = reverse("job-figure", args=[job.pk])
    first = client.get(url)
    assert first.json()["seq"] == 3
    again = client.get(url, headers={"If-None-Match": first["ETag"]})
    assert again.status_code == 304


def test_plotly_still_looks_for_the_id_that_keeps_its_map_styles_away():
    script = files("plotly").joinpath("package_data/plotly.min.js").read_text()
    template = (settings.BASE_DIR / "templates/jobs/job.html").read_text()
    [name] = re.findall(r'<meta id="(\w+)">', template)
    assert f'getElementById("{name}")' in script


def test_chart_without_steps_says_so():
    figure = figure_of(factories.make_job(total_steps=10))
    [note] = figure["layout"]["annotations"]
    assert note["text"] == "The first step appears here"
    assert "shapes" not in figure["layout"]


@pytest.mark.parametrize(
    ("series", "said"),
    [
        ("lr", "Learning rate was 0.001 at step 1 and is 0.0001 at step 2."),
        ("speed", "Speed in tokens per second was 900 at step 1 and is 1,200 at step"),
    ],
)
def test_each_series_is_described_by_its_own_numbers(series, said):
    job = factories.make_job(status="running", total_steps=10)
    add_steps(job, [3.0, 2.5], tokens_per_second=900.0)
    last = job.events.get(step=2)
    last.data |= {"lr": 0.0001, "tokens_per_second": 1200.0}
    last.save()
    assert figures.describe(curves.read_curves(job), series).startswith(said)
