"""What a representative types: reads the posted form, checks it in Turkish, and makes the form.

A draft is a JSON object, whose values may still be incomplete or wrong:

    {"services": ["sftp", "web"], "addresses": ["192.0.2.7", ""],
     "contact": {"name": "…", "email": "…", "phones": ["…", ""]},
     "users": [{"name": "ayse", "person": "Ayşe Yılmaz"}], "contact_user": "ayse",
     "keys": [{"label": "mirror-1", "line": "ssh-ed25519 AAAAC3…"}],
     "approver": "Zeynep Onay", "date": "2023-05-02"}

Three things are never kept, not even in a draft: a T.C. kimlik no, a private key, and control
characters. A field with one of them is emptied, and the text is neither stored nor logged.
"""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date
from typing import Any

from starlette.datastructures import FormData, UploadFile

from config.fault import Faults
from config.party import Party
from config.schema import static_address
from config.turkish import to_ascii
from keys.access_requests import form
from keys.access_requests.form import MAX_KEYS, SERVICE, SERVICE_USER, SERVICES, SFTP, WEB
from keys.credentials.publickey import parse_public_key
from keys.credentials.ring import CredentialKind, Ring
from keys.credentials.users import MAX_WEB_USERS, Role, State, Users, name_fault

Fields = dict[str, Any]
Problems = dict[str, str]
ADDRESSES = PHONES = 2
_MAX_TEXT, _MAX_LINE = 200, 2000
_PRIVATE = ("PRIVATE KEY", "PuTTY-User-Key-File", "Private-Lines", "b3BlbnNzaC1rZXktdjE")
_BEGIN, _END = "---- BEGIN SSH2 PUBLIC KEY ----", "---- END SSH2 PUBLIC KEY ----"
KIMLIK = "T.C. kimlik no buraya yazılmaz; alan boşaltıldı."
PRIVATE_KEY = (
    "Bu bir özel anahtar. Saklanmadı; yine de artık gizli sayılmaz: yeni bir anahtar üretip açık "
    "olanını (.pub dosyası) gönderin."
)
_CONTROL = "Düz, tek satırlık metin yazın; alan boşaltıldı."
_LONG = f"En çok {_MAX_TEXT} karakter yazılabilir; alan boşaltıldı."


def in_force(party: Party, users: Users, held: Ring) -> Fields:
    """Return a draft that asks for what is in force, to begin a change with."""
    present = [u for u in users.users if u.state is not State.PASSIVE]
    web = [u for u in present if u.role is not Role.SERVICE]
    keys = [c for c in held.credentials if c.kind is CredentialKind.PUBLIC_KEY]
    has = {
        SFTP: bool(held.credentials),
        WEB: bool(web) and not party.invited,
        SERVICE: len(present) > len(web),
    }
    phones = [text.strip() for text in party.contact.phone.split(",")][:PHONES]
    contact = {"name": party.contact.name, "email": party.contact.email}
    return {
        "services": [service for service in SERVICES if has[service]],
        "addresses": _filled(map(str, party.static_ips), ADDRESSES),
        "contact": {**contact, "phones": _filled(phones, PHONES)},
        "users": [{"name": u.name, "person": ""} for u in web],
        "contact_user": next((u.name for u in web if u.role is Role.REPRESENTATIVE), ""),
        "keys": [{"label": c.label, "line": c.secret} for c in keys],
        "approver": "",
        "date": "",
    }


async def posted(sent: FormData, old: Mapping[str, Any]) -> tuple[Fields, Problems]:
    """Return the draft in a posted form, and what was wrong with it and is not kept.

    The public keys of the draft before, `old`, stay unless the form says to remove them.
    """
    problems: Problems = {}

    def text(name: str) -> str:
        found = sent.get(name)
        cleaned, wrong = _clean(found if isinstance(found, str) else "")
        if wrong:
            problems[name] = wrong
        return cleaned

    rows = range(1, MAX_WEB_USERS + 1)
    users = [{"name": text(f"kullanici-{n}"), "person": text(f"kisi-{n}")} for n in rows]
    marked = sent.get("irtibat")
    chosen = [u["name"] for n, u in zip(rows, users, strict=True) if marked == str(n)]
    removed = {str(value) for value in sent.getlist("anahtar-kaldir")}
    kept = [key for n, key in enumerate(old.get("keys", [])) if str(n) not in removed]
    keys, wrong = await _new_keys(sent, kept)
    if wrong:
        problems["anahtar-yeni"] = wrong
    return {
        "services": [service for service in SERVICES if service in sent.getlist("hizmet")],
        "addresses": [text(f"adres-{n}") for n in range(1, ADDRESSES + 1)],
        "contact": {
            "name": text("irtibat-ad"),
            "email": text("irtibat-eposta"),
            "phones": [text(f"irtibat-tel-{n}") for n in range(1, PHONES + 1)],
        },
        "users": [user for user in users if user["name"] or user["person"]],
        "contact_user": chosen[0] if chosen else "",
        "keys": keys,
        "approver": text("onaylayan"),
        "date": text("tarih"),
    }, problems


def _clean(text: str) -> tuple[str, str]:
    """Return a text as it is kept, and what was wrong with it: then it is empty."""
    text = text.strip()
    if any(mark in text for mark in _PRIVATE):
        return "", PRIVATE_KEY
    if form.holds_kimlik(text):
        # An address such as 95.189.134.134 may look like one.
        with suppress(ValueError):
            return str(static_address(text)), ""
        return "", KIMLIK
    if not text.isprintable():
        return "", _CONTROL
    return (text, "") if len(text) <= _MAX_TEXT else ("", _LONG)


async def _new_keys(sent: FormData, kept: list[dict[str, str]]) -> tuple[list[Any], str]:
    """Return the keys with those that were pasted or uploaded, and what is wrong with these."""
    texts = [str(sent.get("anahtar-yeni") or "")]
    for upload in sent.getlist("anahtar-dosya"):
        if isinstance(upload, UploadFile) and upload.filename:
            try:
                texts.append((await upload.read()).decode("utf-8-sig"))
            except UnicodeDecodeError:
                return kept, "Dosya bir açık anahtar değil: .pub dosyasını seçin."
    if any(mark in text for text in texts for mark in _PRIVATE):
        return kept, PRIVATE_KEY
    keys, wrong = list(kept), ""
    for text in texts:
        for block in key_texts(text.replace("\r\n", "\n").split("\n")):
            try:
                line, comment = parse_public_key(block)
            except ValueError as error:
                wrong = _key_problem(str(error))
                continue
            label, refused = _clean(comment)
            if refused:
                wrong = f"Anahtarın açıklaması: {refused}"
                label = ""
            if not any(key["line"] == line for key in keys):
                keys.append({"label": label, "line": line})
    if len(keys) > MAX_KEYS:
        return keys[:MAX_KEYS], f"En çok {MAX_KEYS} anahtar kaydedilebilir."
    return keys, wrong


def key_texts(lines: Iterable[str]) -> Iterator[str]:
    """Yield the text of each public key: a line that is not blank, or the lines of an SSH2 file.

    If the last line of an SSH2 file is missing, each of its lines counts by itself.
    """
    file: list[str] = []
    for line in lines:
        if file or line.lstrip().startswith(_BEGIN):
            file.append(line)
            if line.rstrip().endswith(_END):
                yield "\n".join(file)
                file = []
        elif line.strip():
            yield line
    yield from filter(str.strip, file)


def _key_problem(error: str) -> str:
    """Say in Turkish what parse_public_key has found; never what the text was."""
    if "too weak" in error or "bits" in error:
        return "Bu anahtar türü zayıf: ed25519 anahtarı üretin (ssh-keygen -t ed25519)."
    if "not a key type" in error:
        return "Bu anahtar türü kullanılamaz: ed25519 anahtarı üretin (ssh-keygen -t ed25519)."
    return (
        "Bir satır açık anahtar değil. Her satıra bir anahtar gelir: ssh-ed25519 AAAA… açıklama; "
        "ya da dosyanın tamamı (SSH2 PUBLIC KEY)."
    )


def problems_of(fields: Mapping[str, Any]) -> Problems:
    """Return what is missing or wrong in a draft that is to be sent, one text for each field."""
    found: Problems = {}
    for name, text in _problems(fields):
        found.setdefault(name, text)
    return found


def _problems(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    services, contact = fields["services"], fields["contact"]
    if not services:
        yield "hizmet", "En az bir hizmet seçin."
    addresses = [text for text in fields["addresses"] if text]
    if not addresses:
        yield "adres-1", "En az bir sabit adres yazın (Genelge md. 4/b-2)."
    for number, text in enumerate(fields["addresses"], 1):
        with suppress(ValueError):
            if not text or static_address(text):
                continue
        yield f"adres-{number}", "Tek bir bilgisayarın IPv4 ya da IPv6 adresini yazın."
    if len(set(addresses)) < len(addresses):
        yield "adres-2", "Aynı adres iki kez yazılmış."
    if not contact["name"]:
        yield "irtibat-ad", "İrtibat kişisinin adını yazın."
    if "@" not in contact["email"]:
        yield "irtibat-eposta", "E-posta adresini yazın."
    if not any(contact["phones"]):
        yield "irtibat-tel-1", "En az bir telefon numarası yazın."
    yield from _user_problems(fields)
    if fields["keys"] and SFTP not in services:
        yield "hizmet", "Açık anahtar yazdınız ama SFTP hizmetini seçmediniz."
    if not fields["approver"]:
        yield "onaylayan", "Kâğıdı imzalayacak kişinin adını yazın."
    try:
        date.fromisoformat(fields["date"])
    except ValueError:
        yield "tarih", "Kâğıttaki tarihi yazın."


def _user_problems(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    users, web = fields["users"], WEB in fields["services"]
    names = [user["name"] for user in users]
    for number, name in enumerate(names, 1):
        if not name:
            yield f"kullanici-{number}", "Kullanıcı adını yazın."
        elif name_fault(name):
            hint = re.sub(r"[^a-z0-9]+", "-", to_ascii(name).lower()).strip("-")[:32]
            also = f" Öneri: {hint}" if hint and not name_fault(hint) else ""
            text = "Yalnız küçük ASCII harf, rakam ve tek tire; en çok 32 karakter."
            yield f"kullanici-{number}", text + also
        elif name == SERVICE_USER or names.index(name) < number - 1:
            yield f"kullanici-{number}", "Bu ad alınmış, başka bir ad seçin."
    if web and not users:
        yield "kullanici-1", "Web sitesi için en az bir kullanıcı yazın."
    if users and not web:
        yield "hizmet", "Kullanıcı yazdınız ama web sitesi hizmetini seçmediniz."
    if users and web and fields["contact_user"] not in filter(None, names):
        yield "irtibat", "Kullanıcılardan birini irtibat olarak işaretleyin (Genelge md. 4/b-6)."


def form_of(fields: Mapping[str, Any], party: Party) -> bytes:
    """Return the form of a draft without problems; raise Faults if the reader would refuse it."""
    places = party.scope.places
    data: dict[str, Any] = {
        "id": party.id,
        "party": party.name,
        "kind": str(party.kind),
        "services": list(fields["services"]),
        "static_ips": [str(static_address(text)) for text in fields["addresses"] if text],
        "scope": "all" if places is None else str(party.scope).split(),
        "approver": fields["approver"],
        "date": date.fromisoformat(fields["date"]),
        "contact": {
            "name": fields["contact"]["name"],
            "email": fields["contact"]["email"],
            "phones": [text for text in fields["contact"]["phones"] if text],
        },
    }
    users = [
        {
            "name": user["name"],
            **({"person": user["person"]} if user["person"] else {}),
            **({"contact": True} if user["name"] == fields["contact_user"] else {}),
        }
        for user in fields["users"]
    ]
    keys = [
        {**({"label": key["label"]} if key["label"] else {}), "public_key": key["line"]}
        for key in fields["keys"]
    ]
    if users:
        data["user"] = users
    if keys:
        data["key"] = keys
    return form.format_form(data)


def sent_form(fields: Mapping[str, Any], party: Party) -> tuple[bytes | None, Problems]:
    """Return the form of a draft, or None and what is missing or wrong in it."""
    found = problems_of(fields)
    if found:
        return None, found
    try:
        return form_of(fields, party), {}
    except (Faults, ValueError):
        return None, {"hizmet": "Form gönderilemedi: alanları yeniden denetleyin."}


def decoded(encoded: str) -> bytes:
    """Return the bytes of a public key."""
    return base64.b64decode(encoded)


def _filled(texts: Any, count: int) -> list[str]:
    listed = list(texts)
    return listed + [""] * (count - len(listed))
