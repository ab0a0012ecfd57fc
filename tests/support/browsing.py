"""One page of the browser for many tests."""

from urllib.parse import urlsplit

from playwright.sync_api import Error, Page


def leave(page: Page) -> None:
    """Signs out and goes to a quiet page of the same site, so that streams end.

    From any other site the next page would begin in a process of its own, and compile
    the chart library anew, which takes two seconds.
    """
    address = urlsplit(page.url)
    if address.path == "/sign-in/":
        return
    page.context.clear_cookies()
    try:
        page.goto(f"{address.scheme}://{address.netloc}/sign-in/")
    except Error:
        # There is no site, or no longer.
        page.goto("about:blank")
