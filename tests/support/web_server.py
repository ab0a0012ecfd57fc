"""The site under uvicorn in a thread: a WSGI server never streams."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

from finetune_site.asgi import application

# Always the same, so that the browser knows its files again. It is chosen at first use.
_address = ("127.0.0.1", 0)


@contextmanager
def serve() -> Iterator[str]:
    """Yields the site's address.

    It needs a test with `transaction=True`: the thread reads the rows.
    """
    global _address
    # It listens now, so that whoever comes before the server is up waits.
    listener = socket.create_server(_address)
    _address = listener.getsockname()
    config = uvicorn.Config(
        ASGIStaticFilesHandler(application), lifespan="off", log_level="error"
    )
    web = uvicorn.Server(config)
    thread = threading.Thread(target=web.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{_address[1]}"
    finally:
        web.should_exit = web.force_exit = True
        thread.join(10)
        listener.close()
