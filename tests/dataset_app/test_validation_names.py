import pytest

from datasets.models import DatasetVersion
from datasets.validation_names import first_for_training, validation_of
from tests.support.factories import make_dataset

pytestmark = pytest.mark.django_db
VERSIONS = DatasetVersion.objects.order_by("-pk")


def test_validation_data_is_not_trained_on():
    jokes = make_dataset("Jokes")
    make_dataset("Jokes, Validation")
    assert first_for_training(VERSIONS.all()) == jokes


def test_validation_data_is_trained_on_for_want_of_another():
    paired = make_dataset("Jokes, validation")
    assert first_for_training(VERSIONS.all()) == paired


@pytest.mark.parametrize(
    "name", ["Jokes, validation", "jokes Validation", "Jokes-validation"]
)
def test_a_dataset_is_found_by_the_name_of_its_training_data(name):
    paired = make_dataset(name)
    assert validation_of(make_dataset("Jokes"), VERSIONS.all()) == paired


def test_other_names_are_no_pair():
    make_dataset("Riddles, validation")
    make_dataset("Jokesvalidation")
    assert validation_of(make_dataset("Jokes"), VERSIONS.all()) is None
