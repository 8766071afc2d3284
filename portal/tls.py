"""The TLS of portal and staff site: versions, ciphers, and a certificate that can be replaced.

TLS 1.2 and 1.3, only with forward secrecy and authenticated encryption, as Mozilla's intermediate
profile asks. A new certificate is loaded into the context that is in use: connections that are open
do not notice, and new ones get it.
"""

import ssl
from collections.abc import Iterator

from config.fault import Fault, Faults
from config.settings import WebSettings


def tls_context(portal: WebSettings) -> ssl.SSLContext | None:
    """Return the context for new connections, None if a balancer does TLS; Faults if it is bad."""
    if portal.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, portal)
    return context


def load_certificate(context: ssl.SSLContext, portal: WebSettings) -> None:
    """Load the files into the context, which running connections do not notice."""
    if portal.certificate is None or portal.key is None:
        return
    try:
        # A context of its own first: a bad pair must not leave half of it in the one in use.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(portal.certificate, portal.key)
        context.load_cert_chain(portal.certificate, portal.key)
    except (OSError, ssl.SSLError) as error:
        wrong = f"cannot be used with its key ({error}): name a PEM certificate and its key"
        raise Faults([Fault(str(portal.certificate), "", wrong)]) from None


def check_certificate(portal: WebSettings) -> None:
    """Raise Faults if the certificate cannot be used with its key."""
    if portal.certificate is not None:
        load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), portal)


def certificate_faults(portal: WebSettings) -> Iterator[Fault]:
    """Yield what is wrong with the certificate and its key."""
    try:
        tls_context(portal)
    except Faults as error:
        yield from error.faults
    if portal.key is not None and portal.key.exists() and portal.key.stat().st_mode & 0o077:
        wrong = f"other users may read it: chmod 600 {portal.key}"
        yield Fault(str(portal.key), "", wrong)
