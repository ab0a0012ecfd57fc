"""What datasets tell those above them."""

from django.dispatch import Signal

# With `version_id`: an import is over, whatever came of it, or goes on elsewhere.
import_ended = Signal()
