"""Python's ftplib as people make it work with servers that bind data connections to the session.

Arguments of every script here: explicit or implicit, host, port, certificate file, TLS version
(1.2, 1.3 or any).
"""
import os
import ssl
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../clients/python"))
from by_ftplib import FTPS as Reusing, implicit  # noqa: E402

ReusingImplicit = implicit(Reusing)


def connect(kind=None, encoding="utf-8"):
    """A logged-in client after the arguments of the script."""
    port_kind, host, port, certificate, version = sys.argv[1:6]
    context = ssl.create_default_context(cafile=certificate)
    if version != "any":
        wanted = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
        context.minimum_version = context.maximum_version = wanted
    if kind is None:
        kind = ReusingImplicit if port_kind == "implicit" else Reusing
    ftp = kind(context=context, encoding=encoding, timeout=30)
    ftp.connect(host, int(port))
    # Without secure=False ftplib would send AUTH TLS on its own, which is refused on an
    # implicit port.
    ftp.login("anna", "pass word", secure=port_kind == "explicit")
    ftp.prot_p()
    return ftp
