"""The TLS of portal and staff site: versions, ciphers, and a certificate that can be replaced.

TLS 1.2 and 1.3, only with forward secrecy and authenticated encryption, as Mozilla's intermediate
profile asks. A new certificate is loaded into the context that is in use: connections that are open
do not notice, and new ones get it.
"""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from config.fault import Fault, Faults
from config.settings import WebSettings
from keys.kernel import memory_file


@dataclass(frozen=True, slots=True, repr=False)
class Pair:
    """A certificate with its chain, and its private key, both in PEM."""

    certificate: bytes
    key: bytes


def tls_context(portal: WebSettings) -> ssl.SSLContext | None:
    """Return the context for new connections, None if a balancer does TLS; Faults if it is bad."""
    if portal.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.set_alpn_protocols(["http/1.1"])
    if (pair := read_pair(portal)) is not None:
        load_pair(context, pair)
    return context


def read_pair(portal: WebSettings) -> Pair | None:
    """Return the bytes of certificate and key, None if there are none; Faults if they are bad."""
    if portal.certificate is None or portal.key is None:
        return None
    try:
        pair = Pair(portal.certificate.read_bytes(), portal.key.read_bytes())
        # A context of its own: a bad pair must not leave half of it in the one in use.
        load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair)
    except (OSError, ssl.SSLError) as error:
        wrong = f"cannot be used with its key ({error}): name a PEM certificate and its key"
        raise Faults([Fault(str(portal.certificate), "", wrong)]) from None
    return pair


def load_pair(context: ssl.SSLContext, pair: Pair) -> None:
    """Load certificate and key into the context, which running connections do not notice."""
    # OpenSSL reads them from paths. The process that serves can open neither file any more.
    with memory_file.of(pair.certificate) as certificate, memory_file.of(pair.key) as key:
        context.load_cert_chain(f"/proc/self/fd/{certificate}", f"/proc/self/fd/{key}")


def certificate_faults(portal: WebSettings) -> Iterator[Fault]:
    """Yield what is wrong with the certificate and its key."""
    try:
        tls_context(portal)
    except Faults as error:
        yield from error.faults
    if portal.key is not None and portal.key.exists() and portal.key.stat().st_mode & 0o077:
        wrong = f"other users may read it: chmod 600 {portal.key}"
        yield Fault(str(portal.key), "", wrong)
