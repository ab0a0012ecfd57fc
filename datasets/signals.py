"""What datasets tell the parts of the site that are built on them."""

from django.dispatch import Signal

# Sent with `version_id` when an import is over, whatever came of it, or goes on
# elsewhere.
import_ended = Signal()
