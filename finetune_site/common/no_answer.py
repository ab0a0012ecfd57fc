"""Says why another server did not answer."""

import requests
import urllib3

from finetune_site.common.outbound import SlowAnswerError


def why_no_answer(error: OSError) -> str:
    """Returns the reason in a few words, which show nothing of the request.

    `error` is what `requests` raised, or an error of the connection itself.
    """
    if isinstance(error, SlowAnswerError):
        return str(error)
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not one that this machine trusts"
    if isinstance(error, requests.ConnectTimeout):
        return "no connection came about in time"
    if isinstance(error, requests.Timeout):
        return "it took too long"
    cause = _cause(error)
    if isinstance(cause, urllib3.exceptions.NameResolutionError):
        return "there is no host of that name"
    if isinstance(cause, urllib3.exceptions.NewConnectionError):
        words = getattr(cause.__cause__, "strerror", None)
        return (words or "no connection came about").lower()
    return "the connection broke off"


def is_broken_off(error: OSError) -> bool:
    """Returns whether the connection came about, and ended before the answer."""
    return isinstance(_cause(error), urllib3.exceptions.ProtocolError)


def _cause(error: OSError) -> object:
    """Returns urllib3's own error, which is the last one where it tried repeatedly."""
    first = error.args[0] if error.args else None
    return getattr(first, "reason", first)
