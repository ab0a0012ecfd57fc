"""Runs the web process: uvicorn on the socket that `up` opened."""

import os
import socket
import tempfile

import uvicorn
from django.conf import settings

from finetune_site.common import lifeline
from finetune_site.common.env import env_bool
from finetune_site.processes.patient_http import (
    PatientProtocol,
    raise_descriptor_limit,
)

LISTEN_VARIABLE = "FINETUNE_LISTEN_FD"
# A live page keeps its stream open. Without a limit the process could not end as long
# as somebody looks at the page.
SHUTDOWN_SECONDS = 2


def main() -> None:
    lifeline.hold()
    raise_descriptor_limit()
    listener = socket.socket(fileno=int(os.environ.pop(LISTEN_VARIABLE)))
    os.set_inheritable(listener.fileno(), False)
    # Django's own copy of a body goes where its files go, not to a small /tmp.
    tempfile.tempdir = str(settings.FILE_UPLOAD_TEMP_DIR)
    config = uvicorn.Config(
        "finetune_site.asgi:application",
        http=PatientProtocol,
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        # Only behind a proxy: a browser could otherwise choose its own address.
        proxy_headers=env_bool("HTTPS"),
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
