"""Tells whether two POSTs carry the same."""

import hashlib
from typing import cast

from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest

HASHED_AT_ONCE_BYTES = 1024 * 1024


def hash_of_body(request: HttpRequest) -> str:
    """Returns a SHA-256 that is the same for the same fields and files of a form,
    whatever boundary the client put between them.
    """
    if request.content_type != "multipart/form-data":
        return hashlib.sha256(request.body).hexdigest()
    hashed = hashlib.sha256(repr(sorted(request.POST.lists())).encode())
    for field, upload in _uploads(request):
        hashed.update(repr((field, upload.name, upload.size)).encode())
        for chunk in upload.chunks(HASHED_AT_ONCE_BYTES):
            hashed.update(chunk)
        upload.seek(0)
    return hashed.hexdigest()


def _uploads(request: HttpRequest) -> list[tuple[str, UploadedFile]]:
    """Returns every uploaded file with the name of its field."""
    lists = cast(list[tuple[str, list[UploadedFile]]], list(request.FILES.lists()))
    return [(field, upload) for field, found in lists for upload in found]
