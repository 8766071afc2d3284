"""A party: who receives, what it may see, and from which addresses."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address

from config.scope import Scope

Address = IPv4Address | IPv6Address
MAX_ADDRESSES = 2  # Genelge md. 4/b-2: one or two static addresses


class PartyKind(StrEnum):
    """The kind of a recipient: a political party, a candidate or an independent."""

    PARTY = "party"
    CANDIDATE = "candidate"
    INDEPENDENT = "independent"


@dataclass(frozen=True, slots=True)
class Contact:
    """The person whom the operator calls if there is a problem."""

    name: str = ""
    email: str = ""
    phone: str = ""


@dataclass(frozen=True, slots=True)
class Party:
    """One recipient. Its `id` is its user name, its folder in trees/ and the name of its ring.

    A suspended party keeps its tree but has no access. `rate_mbit`, in megabits a second, limits
    all its sessions together, and replaces the site's limit. With `totp_required` its users of the
    web site need a second factor. An `invited` party has no addresses yet: only its representative
    can log in, to send the request form.
    """

    id: str
    name: str
    kind: PartyKind
    scope: Scope
    static_ips: tuple[Address, ...]
    contact: Contact
    suspended: bool = False
    rate_mbit: float | None = None
    totp_required: bool = False
    invited: bool = False

    @property
    def mirrors(self) -> bool:
        """Whether it has a tree and may log in: an independent gets an export instead (md. 3/c)."""
        return self.has_users and not self.invited

    @property
    def has_users(self) -> bool:
        """Whether it may have users of the web site; an invited party has its representative."""
        return self.kind is not PartyKind.INDEPENDENT

    def registered(self, address: Address) -> bool:
        """Say whether the party has registered `address`."""
        return address in self.static_ips


def parse_address(text: str) -> Address:
    """Parse a peer's address as the kernel gives it; an IPv4-mapped IPv6 address becomes IPv4."""
    found = ip_address(text.partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found
