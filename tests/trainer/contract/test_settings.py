"""The table of a job's settings: whatever has settings has all of them."""

import dataclasses

import pytest

from jobs.api.job_request import JobRequest
from jobs.api.job_shape import JobShape
from jobs.cli.arguments import train_parser
from jobs.cli.creation import job_body
from jobs.models import Job
from jobs.new_job.form import JobForm
from jobs.trainer.contract.settings import SETTINGS, SUGGESTED, JobSettings
from jobs.trainer.contract.spec import Spec

NUMBERS = [one for one in SETTINGS.values() if not one.choices]
by_name = pytest.mark.parametrize("one", SETTINGS.values(), ids=lambda one: one.name)


@by_name
def test_a_jobs_row_has_a_column_with_the_settings_default(one):
    assert Job._meta.get_field(one.name).default == one.default


@by_name
def test_the_spec_has_it(one):
    assert one.name in {field.name for field in dataclasses.fields(Spec)}


@by_name
def test_the_form_shows_it_once(one, db):
    shown = [field.bound.name for part in JobForm().settings.values() for field in part]
    assert shown.count(one.name) == 1


@by_name
def test_clients_may_give_it_and_are_told_it(one):
    assert one.api_name in JobRequest.model_fields
    told = JobShape.model_json_schema()
    objects = [told, *told["$defs"].values()]
    assert any(one.api_name in part["properties"] for part in objects)


@pytest.mark.parametrize("one", [one for one in NUMBERS if one.flags], ids=str)
def test_its_flag_becomes_the_apis_field(one):
    args = train_parser().parse(["-t", "x", one.flags[0], str(one.low)])
    assert job_body(args, "file-x", None)[one.api_name] == one.low


@pytest.mark.parametrize("one", NUMBERS, ids=lambda one: one.name)
def test_its_limits_are_its_own(one):
    step = 1 if one.is_whole else 0.0001
    allowed = [one.allows(one.low), one.allows(one.high)]
    assert (allowed, one.allows(one.low - step)) == ([True, True], False)
    assert not one.allows(one.high + step)


@pytest.mark.parametrize("odd", [True, "3", None, float("nan"), float("inf"), [3]])
@by_name
def test_what_is_no_value_is_not_allowed(one, odd):
    assert not one.allows(odd)


def test_every_default_is_allowed():
    values = dataclasses.asdict(JobSettings())
    assert [
        name for name, one in SETTINGS.items() if not one.allows(values[name])
    ] == []


def test_settings_are_suggested_in_the_order_of_the_table():
    assert list(SUGGESTED) == [name for name in SETTINGS if name in SUGGESTED]
