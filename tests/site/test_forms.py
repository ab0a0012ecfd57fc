import pytest
from django import forms

from finetune_site.common.errors import UserError
from finetune_site.common.forms import ServiceForm, number_field


class SizeForm(ServiceForm):
    size = number_field("Size", 1, 2000)
    share = number_field("Share", 0, 0.5, field=forms.FloatField, required=False)


@pytest.mark.parametrize("size", ["", "much", "0", "2001", "1.5"])
def test_one_message_tells_all_that_can_be_wrong_with_a_number(size):
    form = SizeForm({"size": size})
    assert form.errors["size"] == [
        "Size is a whole number from 1 to 2,000. Type one of these."
    ]


def test_a_float_field_says_number_and_takes_fractions():
    assert SizeForm({"size": "1", "share": "0.25"}).is_valid()
    errors = SizeForm({"size": "1", "share": "0.6"}).errors["share"]
    assert errors == ["Share is a number from 0 to 0.5. Type one of these."]


def test_an_error_of_a_service_stands_beside_its_field():
    form = SizeForm({"size": "1"})
    form.add_user_error(UserError("Too large for today.", field="size"))
    assert form.errors == {"size": ["Too large for today."]}


@pytest.mark.parametrize("field", [None, "colour"])
def test_an_error_without_a_field_here_stands_above_the_form(field):
    form = SizeForm({"size": "1"})
    form.add_user_error(UserError("Nothing works today.", field=field))
    assert form.non_field_errors() == ["Nothing works today."]
