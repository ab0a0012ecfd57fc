"""Examples as the page of examples shows them: a page at a time, long ones cut."""

from dataclasses import dataclass
from itertools import accumulate

from datasets.drafts.draft import Draft
from datasets.models import DatasetVersion
from datasets.stored.files import read_examples
from jobs.trainer.text.examples import Segment

EXAMPLES_PER_PAGE = 25
# A page shows so much of one example; of the rest it says how much there is.
MAX_EXAMPLE_CHARACTERS = 3000
MAX_EXAMPLE_SEGMENTS = 100


@dataclass(frozen=True)
class ShownExample:
    """An example with its draft, cut to what the page of examples shows of it."""

    # Counted from 1.
    number: int
    segments: list[Segment]
    characters_left_out: int


@dataclass(frozen=True)
class ExamplePage:
    """A page of examples; `number`, `first` and `last` count from 1."""

    examples: list[ShownExample]
    number: int
    num_pages: int

    @property
    def first(self) -> int:
        return (self.number - 1) * EXAMPLES_PER_PAGE + 1

    @property
    def last(self) -> int:
        return self.first + len(self.examples) - 1


def page_of_examples(version: DatasetVersion, number: int, draft: Draft) -> ExamplePage:
    """Returns the page of that number, which counts from 1, or else the last page."""
    num_pages = max(1, -(-version.num_examples // EXAMPLES_PER_PAGE))
    number = min(max(1, number), num_pages)
    first = (number - 1) * EXAMPLES_PER_PAGE
    examples = read_examples(version.examples_path, first, EXAMPLES_PER_PAGE)
    return ExamplePage(
        [
            _shown(at, segments, draft)
            for at, segments in enumerate(examples, start=first)
        ],
        number,
        num_pages,
    )


def page_with(example: int) -> int:
    """Returns the number of the page that shows an example. Both count from 1."""
    return (max(1, example) - 1) // EXAMPLES_PER_PAGE + 1


def clip(segments: list[Segment], max_characters: int) -> tuple[list[Segment], int]:
    """Returns the first characters of an example, and how many are left out.

    Every segment stays, even if nothing of its text does.
    """
    ends = list(accumulate(len(text) for text, _ in segments))
    clipped = [
        (text[: max(0, max_characters - end + len(text))], weight)
        for (text, weight), end in zip(segments, ends, strict=True)
    ]
    return clipped, max(0, ends[-1] - max_characters)


def _shown(at: int, segments: list[Segment], draft: Draft) -> ShownExample:
    changed, left_out = clip(draft.apply(at, segments), MAX_EXAMPLE_CHARACTERS)
    left_out += sum(len(text) for text, _ in changed[MAX_EXAMPLE_SEGMENTS:])
    return ShownExample(at + 1, changed[:MAX_EXAMPLE_SEGMENTS], left_out)
