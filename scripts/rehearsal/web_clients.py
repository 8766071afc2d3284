"""The web side of a rehearsal's site: a certificate, users, and what their clients need.

`clients/<party>/web.json` has, for each party with a login,

    {"site": "https://127.0.0.1:8443", "ca": "/…/clients/ca.pem", "secim_id": 1234,
     "users": [{"name": "parti-a.web-1", "password": "…"}, …],
     "service": {"name": "parti-a.servis", "password": "…"},
     "new_user": {"name": "parti-a.yeni", "password": "…"},
     "representative": {"site": "https://127.0.0.1:8443/sipport/", "name": "parti-a.temsilci",
                        "password": "…", "totp": "JBSWY3DP…"}}

The users and the representative have chosen their passwords and accepted the terms. `totp` is the
secret of the representative's second factor in base32 (RFC 6238, SHA-1, six digits, 30 seconds).
The first login of `new_user` is still to come. The key of the certificate authority is not kept.
"""

import ipaddress
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyotp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from config import load
from config.site import CLIENTS, TLS
from keys import files
from keys.credentials import ring, user_changes
from keys.credentials.ring import Credential
from keys.credentials.users import Role, Users, login_name
from portal.data.numbers.ids import election_number
from portal.party.sipport.entrance import ROOT
from scripts.access.credentials import new_password
from scripts.access.user.user_change import Edit, UserChange
from scripts.rehearsal.rehearsal_site import ADDRESS
from scripts.shared import change, console

_WHY = "rehearsal"
CERTIFICATE, PRIVATE_KEY, AUTHORITY = TLS / "portal.crt", TLS / "portal.key", CLIENTS / "ca.pem"
_DAYS = 365
_WEB_USERS = ("web-1", "web-2")
_SERVICE, _NEW, _REPRESENTATIVE = "servis", "yeni", "temsilci"


def kit_file(site: Path, party: str) -> Path:
    """Return the file with a party's users and their passwords."""
    return site / CLIENTS / party / "web.json"


def portal_toml(port: int) -> str:
    """Return the table of site.toml for a portal at that port."""
    return (
        f'\n[portal]\nlisten = "{ADDRESS}:{port}"\ncertificate = "{CERTIFICATE}"\n'
        f'key = "{PRIVATE_KEY}"\naddress = "https://{ADDRESS}:{port}"\nrequests = true\n'
    )


def make_certificate(site: Path) -> None:
    """Make a certificate for this machine, and the authority that signs it."""
    (site / TLS).mkdir(mode=0o700, parents=True, exist_ok=True)
    (site / CLIENTS).mkdir(exist_ok=True)
    authority = ec.generate_private_key(ec.SECP256R1())
    name = _common_name("SSPS prova CA")
    root = (
        _builder(name, name, authority.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(authority, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    addresses = [x509.IPAddress(ipaddress.ip_address(ADDRESS)), x509.DNSName("localhost")]
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    leaf = (
        _builder(_common_name("SSPS prova"), name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer, critical=False)
        .sign(authority, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    files.replace(site / PRIVATE_KEY, private)
    pem = serialization.Encoding.PEM
    files.replace(site / CERTIFICATE, leaf.public_bytes(pem))
    files.replace(site / AUTHORITY, root.public_bytes(pem), 0o644)


def write_web_clients(site: Path, port: int) -> None:
    """Make the users of every party, and write its web.json."""
    settings = load.load(site)
    for party in settings.parties:
        if not party.mirrors:
            continue
        names = (*_WEB_USERS, _SERVICE, _NEW, _REPRESENTATIVE)
        passwords = {name: new_password() for name in names}
        secret = pyotp.random_base32()
        _add_users(site, party.id, passwords, secret)
        users = {
            name: {"name": login_name(party.id, name), "password": password}
            for name, password in passwords.items()
        }
        content = {
            "site": f"https://{ADDRESS}:{port}",
            "ca": str((site / AUTHORITY).absolute()),
            "secim_id": election_number(settings.election.id),
            "users": [users[name] for name in _WEB_USERS],
            "service": users[_SERVICE],
            "new_user": users[_NEW],
            "representative": {
                "site": f"https://{ADDRESS}:{port}{ROOT}/",
                **users[_REPRESENTATIVE],
                "totp": secret,
            },
        }
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        file = kit_file(site, party.id)
        file.parent.mkdir(exist_ok=True)
        files.replace(file, text.encode())


def _add_users(site: Path, party: str, passwords: dict[str, str], secret: str) -> None:
    now = console.utc_now()

    def chosen(name: str) -> Credential:
        secret = ring.hash_password(passwords[name])
        by = login_name(party, name)
        return ring.chosen_password_credential(secret, label="", not_before=now, added_by=by)

    def edit(old: Users) -> Edit:
        new = old
        for name in (*_WEB_USERS, _REPRESENTATIVE):
            role = Role.REPRESENTATIVE if name == _REPRESENTATIVE else Role.WEB
            new = user_changes.add(new, name, role, chosen(name))
            new = user_changes.accept_terms(new, name, now)
        new = user_changes.set_totp(new, _REPRESENTATIVE, secret)
        new = user_changes.add(new, _SERVICE, Role.SERVICE, chosen(_SERVICE))
        initial = ring.password_credential(
            passwords[_NEW],
            label="",
            not_before=now,
            not_after=None,
            added_by=console.operator(),
        )
        return Edit(user_changes.add(new, _NEW, Role.WEB, initial))

    change.apply(site, UserChange(site, "user add", party, _WHY, edit), quiet=True)


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
