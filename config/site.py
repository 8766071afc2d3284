"""Every path of a site, relative to the site's folder.

A site is the folder that `--site DIR` or SSPS_SITE names. It holds:

    site.toml  parties.toml           settings, edited by the operator
    registry.csv  ballot.csv          copies of the registry and the ballot that were imported
    results/                          SEÇSİS puts result batches here
    intake/                           scanners put pages here, unless [intake] names other folders
    keys/host/  keys/host/next/       the host keys of the server, and those it will use next
    keys/signing/                     the key that signs feeds, sums and ledger checkpoints
    keys/stamps/stamp_key             the key that seals the digests of served files
    keys/parties/<party>.toml         the ring of a party: its SFTP credentials
    keys/users/<party>.toml           a party's users of the web site and the web service
    keys/operators.toml               the operators of the staff site
    keys/tls/                         certificates of portal and staff site, if they are kept here
    store/ab/cd/<sha256>              the original bytes of every page, written once, never changed
    trees/<party>/                    what that party sees as /; config/layout has the paths in it
    feed/                             change feeds and sums, before they are linked into trees/
    feed/sonuclar/00000042/<scope>/   results for the trees of parties with that scope
    snapshots/00000042/  latest       results, numbered and immutable, and the newest number
    quarantine/                       pages that could not be filed, each with a file of its reason
    ledgers/{transfer,filing,operations}/    the record of downloads, of filing, of changes
    ledgers/results/                  the record of results and snapshots
    ledgers/access/                   the record of the web site and the web service
    ledgers/staff/                    the record of the staff site
    rehearsals/<id>/                  a site of its own for each test day, unless it names a folder
    state/registry.sqlite             the imported registry
    state/catalog.sqlite              what was filed where
    state/accounts.json               counts of coverage that are slow to compute
    state/results.sqlite              every version of every result
    state/results-spool/              batches that were taken from results/ and are not done yet
    state/spool/                      pages that were taken from the intake and are not filed yet
    state/errands/                    requests of operators to the publisher, and its answers
    state/serving.json                which settings and keys the running server uses
    state/sessions.json               who is connected over SFTP now
    state/ended-sessions.json         the sessions that operators have ended
    state/verified.json               when the ledgers were verified last, by whom, with what result
    state/staff-cache/                the index of the ledgers that the staff site searches
    state/publishing.json             what keeps the running publisher from filing
    state/portal.json                 which settings and users the running portal uses
    state/expected-pace.json          when a rehearsal delivers its pages, for the coverage wall
    state/announcements.json          what the operator announces on the entry page of the portal
    state/portal-sessions.sqlite      the sessions of the web site, without their secrets
    state/staff.json                  which settings and operators the running staff site uses
    state/requests/<party>/           the request forms that a party's representative has sent
    state/request-sessions.sqlite     the sessions of the representatives' pages, without secrets
    state/staff-sessions.sqlite       the sessions of the staff site, without their secrets
    state/rotation.json               a rotation of all parties' credentials that is under way
    state/signer.sock                 where the daemons reach the process that signs the ledgers
    state/cosigned/<party>/           checkpoints that the party's witness has cosigned, and its key
    state/signed/<ledger>             the newest checkpoint of a ledger, outside its folder
    state/*.lock                      locks between commands and daemons

Several hosts can run the daemons of one site, on a file system that they share. Each host then has
a name, in SSPS_HOST of the daemons' environment, such as `gw2`. Its daemons have ledgers of their
own, `ledgers/transfer@gw2/`, and the files of running daemons are in a folder of their own:

    state/hosts/gw2/serving.json      and likewise sessions.json, web-sessions.json,
                                      publishing.json, portal.json, staff.json, signer.sock, *.lock
    state/hosts/gw2/gateway.json      what the SFTP server of that host counts for the limits

    state/reload.json                 replaced by a command: the settings must be read again

Everything else is the same for all hosts, also the one ledger of operations. A site on one host
has no named host.

A rehearsal's site has, besides:

    rehearsal.toml                    what its election was made from
    scanned.csv                       the pages that were scanned
    clients/                          for each party, the files that its client needs
    clients/staff.json                accounts of the staff site

To open a file, use `site / TREES / party.id`; in a message, write `str(TREES / party.id)`. These
names are a fixed interface: operators, backups and checks outside this repository use them. Product
modules take them from here and never write them out; tests/unit/config/test_site.py enforces that.
"""

import re
from hashlib import sha256
from pathlib import Path

SITE_TOML, PARTIES_TOML = "site.toml", "parties.toml"
REGISTRY_CSV, BALLOT_CSV = "registry.csv", "ballot.csv"

INTAKE = Path("intake")
KEYS = Path("keys")
HOST_KEYS = KEYS / "host"
SIGNING_KEYS = KEYS / "signing"
RINGS = KEYS / "parties"
USERS = KEYS / "users"
OPERATORS = KEYS / "operators.toml"
TLS = KEYS / "tls"
STORE = Path("store")
TREES = Path("trees")
FEED = Path("feed")
RESULT_VIEWS = FEED / "sonuclar"
QUARANTINE = Path("quarantine")
RESULTS = Path("results")
SNAPSHOTS = Path("snapshots")
LATEST_SNAPSHOT = SNAPSHOTS / "latest"
REHEARSALS = Path("rehearsals")

LEDGERS = Path("ledgers")
TRANSFER, FILING, OPERATIONS = "transfer", "filing", "operations"
RESULTS_LEDGER, ACCESS, STAFF = "results", "access", "staff"
LEDGER_NAMES = (TRANSFER, FILING, OPERATIONS, RESULTS_LEDGER, ACCESS, STAFF)
_OF_HOST = "@"  # between the kind of a ledger and its host
_HOST = re.compile(r"[a-z0-9][a-z0-9-]{0,15}", re.ASCII)

STATE = Path("state")
HOSTS = STATE / "hosts"
REGISTRY_INDEX = STATE / "registry.sqlite"
CATALOG = STATE / "catalog.sqlite"
COVERAGE_CACHE = STATE / "accounts.json"
SPOOL = STATE / "spool"
RESULTS_DATABASE = STATE / "results.sqlite"
RESULTS_SPOOL = STATE / "results-spool"
REQUESTS = STATE / "errands"
SERVER_STATE = STATE / "serving.json"
RELOAD = STATE / "reload.json"
GATEWAY_STATE = STATE / "gateway.json"  # of a named host only
LIVE_SESSIONS = STATE / "sessions.json"
WEB_SESSIONS = STATE / "web-sessions.json"
ENDED_SESSIONS = STATE / "ended-sessions.json"
VERIFIED = STATE / "verified.json"
STAFF_CACHE = STATE / "staff-cache"
PUBLISHER_STATE = STATE / "publishing.json"
PORTAL_STATE = STATE / "portal.json"
EXPECTED_PACE = STATE / "expected-pace.json"
REQUEST_SESSIONS = STATE / "request-sessions.sqlite"
ACCESS_REQUESTS = STATE / "requests"
ANNOUNCEMENTS = STATE / "announcements.json"
PORTAL_SESSIONS = STATE / "portal-sessions.sqlite"
STAFF_STATE = STATE / "staff.json"
STAFF_SESSIONS = STATE / "staff-sessions.sqlite"
ROTATION_JOURNAL = STATE / "rotation.json"
SIGNER_SOCKET = STATE / "signer.sock"
COSIGNED = STATE / "cosigned"
SIGNED = STATE / "signed"

REHEARSAL_TOML = "rehearsal.toml"
SCANNED_CSV = "scanned.csv"
CLIENTS = Path("clients")
STAFF_CLIENTS = CLIENTS / "staff.json"


def ring_file(party: str) -> Path:
    """Return the file with a party's credentials."""
    return RINGS / f"{party}.toml"


def users_file(party: str) -> Path:
    """Return the file with a party's users; of no party, the file with the site's operators."""
    return USERS / f"{party}.toml" if party else OPERATORS


def stamp_key_file() -> Path:
    """Return the file with the key that seals the digests of served files."""
    return KEYS / "stamps" / "stamp_key"


def cosigned_folder(party: str) -> Path:
    """Return the folder with the checkpoints that a party's witness has cosigned."""
    return COSIGNED / party


def access_requests_folder(party: str) -> Path:
    """Return the folder with the request forms of a party."""
    return ACCESS_REQUESTS / party


def original_file(sha256: str) -> Path:
    """Return the file in the store with the bytes of that digest (64 hexadecimal digits)."""
    return STORE / sha256[:2] / sha256[2:4] / sha256


def result_view(number: int, scope: object) -> Path:
    """Return the folder with what parties of a scope get of a snapshot of the results."""
    return RESULT_VIEWS / f"{number:08}" / sha256(str(scope).encode()).hexdigest()[:16]


def lock_file(part: str, host: str = "") -> Path:
    """Return the lock file of one `part` of the site, such as `serve`, on a host."""
    return host_state(STATE / f"{part}.lock", host)


def is_host(name: str) -> bool:
    """Say whether a name can be that of a host: up to 16 lower-case letters, digits and dashes."""
    return _HOST.fullmatch(name) is not None


def host_state(file: Path, host: str) -> Path:
    """Return where a file of state/ about running daemons is for a host; "" is the only host."""
    return HOSTS / host / file.name if host else file


def named_hosts(site: Path) -> tuple[str, ...]:
    """Return the named hosts that have ever run a daemon of the site."""
    return tuple(sorted(path.name for path in (site / HOSTS).glob("*") if is_host(path.name)))


def ledger_name(kind: str, host: str) -> str:
    """Return the name of a host's ledger of that kind: `transfer`, or `transfer@gw2`."""
    return f"{kind}{_OF_HOST}{host}" if host and kind != OPERATIONS else kind


def ledger_kind(name: str) -> str:
    """Return the kind of a ledger, one of LEDGER_NAMES if the name is right: `transfer`."""
    return name.partition(_OF_HOST)[0]


def ledger_host(name: str) -> str:
    """Return the host that writes a ledger, "" if it is not that of a named host."""
    return name.partition(_OF_HOST)[2]


def is_ledger(name: str) -> bool:
    """Say whether a site can have a ledger of that name."""
    kind, of_host, host = name.partition(_OF_HOST)
    if not of_host:
        return kind in LEDGER_NAMES
    return kind in LEDGER_NAMES and kind != OPERATIONS and is_host(host)


def ledger_names(ledgers: Path) -> tuple[str, ...]:
    """Return LEDGER_NAMES, and then the ledgers of named hosts that exist in that folder."""
    found = sorted(path.name for path in ledgers.glob(f"*{_OF_HOST}*") if is_ledger(path.name))
    return (*LEDGER_NAMES, *found)


def ledgers_of_kind(ledgers: Path, kind: str) -> tuple[str, ...]:
    """Return the ledgers of a kind: that without a host first, then those that exist."""
    return tuple(name for name in ledger_names(ledgers) if ledger_kind(name) == kind)
