"""Opens the site's socket, and knows the names by which browsers may ask for it."""

import ipaddress
import json
import os
import socket
from pathlib import Path

import psutil

from finetune_site.common.env import env_int
from finetune_site.common.errors import UserError

LOOPBACK = ["127.0.0.1", "localhost", "[::1]"]
BACKLOG = 512
LAST_PORT = 65535
EVERYBODY = {"*", "0.0.0.0/0", "::/0"}


def listen(host: str, port: int) -> socket.socket:
    """Opens the listening socket. `up` keeps it, so that visitors wait, and are not
    refused, while the web process starts again. Raises UserError.
    """
    if not 0 <= port <= LAST_PORT:
        raise UserError(
            f"There is no port {port}. Choose one from 1 to {LAST_PORT}: --port 8000, "
            "or PORT=8000 in the environment."
        )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror:
        raise UserError(
            f"No address is known by the name {host}. Give --host an address of this "
            "machine, for example 127.0.0.1 or 0.0.0.0."
        ) from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        another = port + 1 if port < LAST_PORT else port - 1
        raise UserError(
            f"Cannot listen on {host}, port {port}: {os.strerror(error.errno or 0)}. "
            f"Another program may use it. Choose another port: --port {another}"
        ) from None
    return listener


def allowed_hosts(host: str) -> list[str]:
    """Returns the names by which browsers may ask a site that listens on `host`."""
    if host in {"0.0.0.0", "::", ""}:  # noqa: S104 - compared, not bound
        return LOOPBACK + _names_of_this_machine()
    return LOOPBACK + [name for name in [_in_url(host)] if name not in LOOPBACK]


def _names_of_this_machine() -> list[str]:
    names = {socket.gethostname().lower(), socket.getfqdn().lower()}
    for addresses in psutil.net_if_addrs().values():
        for entry in addresses:
            if entry.family in {socket.AF_INET, socket.AF_INET6}:
                names.add(_in_url(entry.address.split("%")[0]))
    return sorted(name for name in names if name and name not in LOOPBACK)


def _in_url(host: str) -> str:
    try:
        is_long = ipaddress.ip_address(host).version == 6
    except ValueError:
        return host.lower()
    return f"[{host}]" if is_long else host


def check_proxies() -> None:
    """Raises UserError if everybody is trusted to say which address they come from.

    A guesser of passwords would then choose another address for every guess.
    """
    trusted = os.environ.get("FORWARDED_ALLOW_IPS", "").split(",")
    if any(part.strip() in EVERYBODY for part in trusted):
        raise UserError(
            "FORWARDED_ALLOW_IPS trusts every address to be a proxy. Set it to the "
            "address of yours, for example 10.0.0.2, or leave it out: then a proxy on "
            "this machine is trusted."
        )


def site_url(host: str, port: int) -> str:
    """Returns an address that works in a browser on this machine."""
    if host in {"0.0.0.0", "::", ""}:  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return f"http://{_in_url(host)}:{port}"


def remember_url(data_dir: Path, url: str) -> None:
    """Writes the address down for commands that print links while the site runs."""
    (data_dir / "run" / "address.json").write_text(json.dumps({"url": url}))


def known_url(data_dir: Path) -> str:
    """Returns SITE_URL if an admin has set it, else the address of the last `up`."""
    if os.environ.get("SITE_URL"):
        return os.environ["SITE_URL"].rstrip("/")
    try:
        return str(json.loads((data_dir / "run" / "address.json").read_text())["url"])
    except (OSError, ValueError, KeyError):
        return site_url("127.0.0.1", env_int("PORT", 8000))
