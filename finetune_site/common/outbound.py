"""Sends requests to addresses that admins entered: engines and webhooks.

A person who enters an address could make this site ask its own private network, which
others cannot reach. Therefore private addresses are refused unless an admin allows
them. The check is of the IP address that is really connected to, because a name may
lead to another address the next time.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from finetune_site.common.errors import UserError

# Seconds to connect, and to wait for the next bytes.
TIMEOUT = (4.0, 20.0)
# The connection's own limit comes first, because its error message is better.
GRACE_SECONDS = 1.0
PIECE_BYTES = 64 * 1024
PORTS = {"http": 80, "https": 443}
MAX_URL_CHARACTERS = 500

# At these addresses clouds give the keys of a machine to every program on it, so they
# are never engines. Most others of this kind are link-local, and refused as well.
METADATA = {
    # Amazon, Google and Oracle by IPv6.
    ip_address("fd00:ec2::254"),
    ip_address("fd00:ec2::23"),
    ip_address("fd20:ce::254"),
    ip_address("fd00:c1::a9fe:a9fe"),
    # Alibaba, Oracle, and Azure, which also says there what it does to the machine.
    ip_address("100.100.100.200"),
    ip_address("192.0.0.192"),
    ip_address("168.63.129.16"),
}
# Gateways reach IPv4 addresses by these IPv6 addresses, of which they are the last 4
# bytes (RFC 6052), or bytes in the middle that the length of the prefix decides.
GATEWAY = IPv6Network("64:ff9b::/96")
OWN_GATEWAYS = IPv6Network("64:ff9b:1::/48")
TRANSLATED = IPv6Network("::ffff:0:0:0/96")

Address = IPv4Address | IPv6Address


class RefusedAddressError(UserError):
    """An address that this site does not connect to."""


class SlowAnswerError(requests.RequestException):
    """An answer that is too large, or does not end in time."""


def check_url(url: str, *, allow_private: bool) -> None:
    """Raises UserError if this address cannot or must not be asked."""
    parts = urlsplit(sent_url(url))
    if parts.username or parts.password:
        raise UserError(
            "The address holds a user name or a password, which would be shown to "
            "everybody. Leave them out.",
            field="url",
        )
    host = parts.hostname or ""
    port = parts.port or PORTS[parts.scheme]
    try:
        checked_addresses(host, port, allow_private=allow_private)
    except (OSError, UnicodeError):
        raise UserError(
            f"There is no host {host}. Check the address.", field="url"
        ) from None


def sent_url(url: str) -> str:
    """Returns the address as `requests` sends it, which reads odd addresses differently
    from urlsplit. Raises UserError if it cannot be read.
    """
    if len(url) > MAX_URL_CHARACTERS:
        raise UserError(
            f"The address has {len(url):,} characters; {MAX_URL_CHARACTERS} are the "
            "most.",
            field="url",
        )
    unreadable = UserError(
        "This is no address that can be asked. Write one that begins with https:// or "
        "http://.",
        field="url",
    )
    odd = any(letter <= " " or letter in "\\\x7f" for letter in url)
    if odd or not url.lower().startswith(("http://", "https://")):
        raise unreadable
    try:
        sent = requests.Request("GET", url).prepare().url or ""
        host = urlsplit(sent).hostname
    except (requests.RequestException, ValueError):
        raise unreadable from None
    if not host:
        raise unreadable
    return sent


def session(*, allow_private: bool) -> requests.Session:
    """Returns a session that connects to checked addresses only, follows no redirect
    and has time limits. Its calls may raise RefusedAddressError.
    """
    return CheckedSession(allow_private=allow_private)


def read_answer(
    response: requests.Response, *, max_bytes: int, seconds: float
) -> bytes:
    """Returns the body of a request that was sent with `stream=True`.

    Raises RequestException if it is too large or too slow: the time limits of a
    connection hold only between two bytes.
    """
    deadline = time.monotonic() + seconds
    content = bytearray()
    for piece in pieces(response):
        content += piece
        if len(content) > max_bytes:
            raise SlowAnswerError(f"the answer has more than {max_bytes:,} bytes")
        if time.monotonic() > deadline:
            raise SlowAnswerError(f"the answer took longer than {seconds:g} seconds")
    return bytes(content)


def pieces(response: requests.Response) -> Iterator[bytes]:
    """Yields the body as it comes, even if it is only a few bytes at a time."""
    try:
        with response:
            while piece := response.raw.read1(PIECE_BYTES, True):
                yield piece
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(str(error)) from None


class CheckedSession(requests.Session):
    def __init__(self, *, allow_private: bool) -> None:
        super().__init__()
        # A proxy would connect in our place, and .netrc may hold passwords.
        self.trust_env = False
        self.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        self.headers["Accept-Encoding"] = "identity"
        self.mount("https://", CheckedAdapter(allow_private=allow_private))
        self.mount("http://", CheckedAdapter(allow_private=allow_private))

    def request(  # type: ignore[override]
        self, method: str, url: str, **options: Any
    ) -> requests.Response:
        options.setdefault("timeout", TIMEOUT)
        return super().request(method, url, **options)

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class CheckedAdapter(HTTPAdapter):
    def __init__(self, *, allow_private: bool) -> None:
        self.allow_private = allow_private
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = POOLS[self.allow_private]


class PublicHTTPConnection(HTTPConnection):
    allow_private = False

    def _new_conn(self) -> socket.socket:
        """Connects to the addresses that were checked, without asking for the name
        again.
        """
        name = self._dns_host
        port = self.port or self.default_port
        trouble: Exception | None = None
        try:
            found = checked_addresses(name, port, allow_private=self.allow_private)
            for self._dns_host in found:
                try:
                    return super()._new_conn()
                except urllib3.exceptions.HTTPError as error:
                    trouble = error
        except (OSError, UnicodeError) as error:
            unknown = socket.gaierror(str(error))
            raise urllib3.exceptions.NameResolutionError(name, self, unknown) from error
        finally:
            # The name is what a certificate is checked against.
            self._dns_host = name
        raise trouble or urllib3.exceptions.NewConnectionError(self, "no address")

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        """Reads the answer's head. The usual time limit holds only between two bytes,
        so here another one holds for all headers together.
        """
        with cut_after(self.sock, (self.timeout or TIMEOUT[1]) + GRACE_SECONDS):
            return super().getresponse()


@contextmanager
def cut_after(connected: socket.socket, seconds: float) -> Iterator[None]:
    """Raises TimeoutError after so many seconds, even out of a read that never ends."""
    late = threading.Event()

    def cut() -> None:
        late.set()
        # The TLS state is not touched, because the other thread is using it.
        with suppress(OSError):
            socket.socket.shutdown(connected, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        # Headers that were cut off look complete.
        if late.is_set():
            raise TimeoutError(f"the headers took longer than {seconds:g} seconds")


class PublicHTTPSConnection(PublicHTTPConnection, HTTPSConnection):
    pass


class AnyHTTPConnection(PublicHTTPConnection):
    allow_private = True


class AnyHTTPSConnection(PublicHTTPSConnection):
    allow_private = True


class PublicHTTPPool(HTTPConnectionPool):
    ConnectionCls = PublicHTTPConnection


class PublicHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = PublicHTTPSConnection


class AnyHTTPPool(HTTPConnectionPool):
    ConnectionCls = AnyHTTPConnection


class AnyHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = AnyHTTPSConnection


# The key says whether private addresses are allowed.
POOLS: dict[bool, dict[str, type[HTTPConnectionPool]]] = {
    False: {"http": PublicHTTPPool, "https": PublicHTTPSPool},
    True: {"http": AnyHTTPPool, "https": AnyHTTPSPool},
}


def checked_addresses(host: str, port: int, *, allow_private: bool) -> list[str]:
    """Returns the IP addresses of a host, after a check of each: any may be the one
    that answers. The resolver also reads addresses in unusual spelling.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        check_address(ip_address(address), host, allow_private=allow_private)
    return addresses


def check_address(address: Address, host: str, *, allow_private: bool) -> None:
    reached: list[Address] = [*embedded(address)] or [address]
    if any(one in METADATA or is_nobody(one) for one in reached):
        raise RefusedAddressError(
            f"{host} is {address}, which is no address of another server. Check it.",
            field="url",
        )
    if allow_private or all(is_public(one) for one in reached):
        return
    raise RefusedAddressError(
        f"{host} is {address}, an address of a private network. Allow private "
        "addresses if it is meant to be asked.",
        field="url",
    )


def is_nobody(address: Address) -> bool:
    return address.is_unspecified or address.is_multicast or address.is_link_local


def is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address.is_site_local:
        return False
    return address.is_global and not address.is_reserved


def embedded(address: Address) -> list[IPv4Address]:
    """Returns the IPv4 addresses that an IPv6 address leads to."""
    if isinstance(address, IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    last = IPv4Address(address.packed[-4:])
    # This includes the old form ::1.2.3.4, to which some systems still connect.
    in_last_bytes = (GATEWAY, OWN_GATEWAYS, TRANSLATED)
    if any(address in one for one in in_last_bytes) or not any(address.packed[:12]):
        found.append(last)
    if address in OWN_GATEWAYS:
        # By a prefix of 48, 56 or 64 bits. Byte 8 is always zero, and left out.
        rest = address.packed[6:8] + address.packed[9:]
        found += [IPv4Address(rest[at : at + 4]) for at in range(3) if rest[at]]
    return [one for one in found if one is not None]
