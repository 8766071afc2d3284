"""A party: who receives, what it may see, and from which addresses."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address

from config.scope import Scope

Address = IPv4Address | IPv6Address
MAX_ADDRESSES = 2  # Genelge md. 4/b-2: one or two static addresses


class PartyKind(StrEnum):
    """In what capacity it receives."""

    PARTY = "party"
    CANDIDATE = "candidate"
    INDEPENDENT = "independent"


@dataclass(frozen=True, slots=True)
class Contact:
    """Whom the operator telephones."""

    name: str = ""
    email: str = ""
    phone: str = ""


@dataclass(frozen=True, slots=True)
class Party:
    """One recipient; `id` is its user name, its folder in the trees and its key file's name.

    A suspended party keeps its tree and has no access; its rate, in megabits a second, caps all
    its sessions together and goes before the site's.
    """

    id: str
    name: str
    kind: PartyKind
    scope: Scope
    static_ips: tuple[Address, ...]
    contact: Contact
    suspended: bool = False
    rate_mbit: float | None = None

    @property
    def mirrors(self) -> bool:
        """Whether it has a tree and a login: independents get an export instead (md. 3/c)."""
        return self.kind is not PartyKind.INDEPENDENT

    def registered(self, address: Address) -> bool:
        """Say whether `address` is one of the party's own."""
        return address in self.static_ips


def parse_address(text: str) -> Address:
    """Parse a peer's address as the kernel gives it; IPv4 in IPv6's clothes counts as IPv4."""
    found = ip_address(text.partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found
