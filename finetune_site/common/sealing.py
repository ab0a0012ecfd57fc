"""Encrypts secrets of other servers, which are stored in rows and opened for use."""

import base64

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from finetune_site.common.errors import UserError


def seal(secret: str) -> str:
    return _box().encrypt(secret.encode()).decode()


def unseal(sealed: str) -> str:
    """Returns the secret. Raises UserError if the SECRET_KEY that sealed it is gone."""
    try:
        return _box().decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise UserError(
            "A stored key can no longer be read, since the site's SECRET_KEY has "
            "changed. Enter the key again."
        ) from None


def _box() -> MultiFernet:
    """Returns a box that seals with the SECRET_KEY and opens with older ones too."""
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return MultiFernet([Fernet(_derived(str(key))) for key in keys])


def _derived(key: str) -> bytes:
    kdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"finetune sealing 1")
    return base64.urlsafe_b64encode(kdf.derive(key.encode()))
