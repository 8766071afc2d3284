"""Mirror a tree with every client that can be had here, and print the table of the parties' guide.

    scripts/bench clients [--only lftp] [--installed]

Each client mirrors a whole tree: with a key, with a password, a second time when new pages, a new
version and new sums have come, and from a server that exchanges new keys after every megabyte. The
result must be the same files with the same bytes. If a client cannot log in with the site's default
algorithms, it tries again with `algorithms = "compatible"`, and then also with `sha1_signatures`.
The table is Markdown; the reasons of everything that failed are below it.

Started by root, it runs the clients as `nobody`: only an ordinary user is kept from updating a copy
by the modes that a client has given it.

The clients are those of Debian, and of the registries of Python and node. Their programs are in
tests/bench/programs. WinSCP, FileZilla and Cyberduck do not run here: for them the table has what
follows from the algorithms that they document.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TypedDict

import servers
from others import ASYNCSSH
from peers import machine
from servers import Server

from config.settings import Algorithms, SftpSettings
from config.site import HOST_KEYS
from keys.credentials import ring
from keys.credentials.ring import Ring
from keys.operations import ring_files
from keys.server_keys import host
from sftpd.ssh import algorithms

_PROGRAMS = Path(__file__).parent / "programs"
_NODE = ASYNCSSH / "node"
_PASSWORD = "Yedi-Kule-Kapisi-17"
_BOARDS, _PAGES, _PAGE = 3, 4, 400_000
_TIMEOUT = 120  # seconds
_NOBODY, _NOGROUP = 65534, 65534
_REKEY_OFTEN = """
from sftpd.ssh.packetizer import Packetizer
from sftpd.ssh.transport import Transport
Packetizer.REKEY_BYTES = 1_000_000
parse = Transport._parse_newkeys
def parse_and_log(self, m):
    print("new keys", file=sys.stderr, flush=True)
    return parse(self, m)
Transport._parse_newkeys = parse_and_log
"""
_LEVELS = ("", 'algorithms = "compatible"\n', 'algorithms = "compatible"\nsha1_signatures = true\n')
_LEVEL_NAMES = ("", "`compatible`", "`compatible`, `sha1_signatures`")


@dataclass(frozen=True)
class Job:
    """What a client has to do: mirror the tree of a server into a folder."""

    server: Server
    tree: Path
    into: Path
    home: Path  # the client's own folder, with its keys
    password: str  # empty: with the key
    rsa: bool

    @property
    def key(self) -> Path:
        """The private key."""
        return self.home / ("id_rsa" if self.rsa else "id_ed25519")

    @property
    def arguments(self) -> list[str]:
        """The arguments of the programs in tests/bench/programs."""
        server = self.server
        return [str(server.port), server.user, str(self.key), self.password, str(self.into)]

    @property
    def ssh(self) -> list[str]:
        """Options of OpenSSH."""
        known = {
            "UserKnownHostsFile": self.home / "known_hosts",
            "GlobalKnownHostsFile": "/dev/null",
        }
        known |= {"IdentitiesOnly": "yes", "IdentityAgent": "none", "LogLevel": "ERROR"}
        known |= {"Port": self.server.port, "User": self.server.user}
        if self.password:
            known |= {"PreferredAuthentications": "password", "PubkeyAuthentication": "no"}
        else:
            known |= {"IdentityFile": self.key, "BatchMode": "yes"}
        return ["-F", "none", *(f"-o{name}={value}" for name, value in known.items())]

    @property
    def paths(self) -> list[str]:
        """Every file of the tree, for clients that fetch single files only."""
        found = (path for path in sorted(self.tree.rglob("*")) if path.is_file())
        return [path.relative_to(self.tree).as_posix() for path in found]

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the server's first host key."""
        public = self.home / "host.pub"
        public.write_text(" ".join((self.home / "known_hosts").read_text().split()[1:3]) + "\n")
        shown = subprocess.run(
            ["ssh-keygen", "-lf", str(public)], capture_output=True, text=True, check=True
        )
        return shown.stdout.split()[1]


Command = Callable[[Job], list[str]]


def with_password(command: Command) -> Command:
    """Return a command of OpenSSH that gets its password from sshpass."""

    def made(job: Job) -> list[str]:
        return (["sshpass", "-p", job.password] if job.password else []) + command(job)

    return made


def shell(lines: list[str]) -> list[str]:
    """Return a command that runs these lines."""
    return ["bash", "-ec", "\n".join(lines)]


def sftp(job: Job) -> list[str]:
    batch = job.home / "batch"
    batch.write_text(f"get -rp / {job.into}\n")
    # Not -b, which turns passwords off.
    return shell([f"{shlex.join(['sftp', *job.ssh, '127.0.0.1'])} < {batch}"])


def scp(job: Job) -> list[str]:
    return ["scp", "-s", "-rp", *job.ssh, "127.0.0.1:/.", str(job.into)]


def lftp(job: Job) -> list[str]:
    ssh = shlex.join(["ssh", "-a", "-x", *job.ssh])
    script = (
        f'set net:max-retries 1; set sftp:connect-program "{ssh}"; '
        f"open -u {job.server.user},{job.password} sftp://127.0.0.1:{job.server.port}; "
        f"mirror --parallel=4 / {job.into}"
    )
    return ["lftp", "--norc", "-c", script]


def rclone(job: Job) -> list[str]:
    remote = f":sftp,host=127.0.0.1,port={job.server.port},user={job.server.user}"
    remote += f",known_hosts_file={job.home / 'known_hosts'}"
    if job.password:
        obscured = subprocess.run(
            ["rclone", "obscure", job.password], capture_output=True, text=True, check=True
        )
        remote += f",pass={obscured.stdout.strip()}"
    else:
        remote += f",key_file={job.key}"
    return ["rclone", "--config", "/dev/null", "copy", f"{remote}:/", str(job.into)]


def sshfs(job: Job) -> list[str]:
    mount = job.home / "mount"
    mount.mkdir(exist_ok=True)
    options = ["-F/dev/null", *(word for word in job.ssh[2:] if "User=" not in word)]
    options.append("-ocache=no")
    typed = f"printf %s {job.password} | " if job.password else ""
    options += ["-opassword_stdin"] if job.password else []
    return shell([
        typed + shlex.join(["sshfs", *options, f"{job.server.user}@127.0.0.1:/", str(mount)]),
        f"trap 'fusermount3 -u {mount}' EXIT",
        f"cp -r --preserve=timestamps {mount}/. {job.into}",
    ])  # fmt: skip


def _putty(job: Job) -> list[str]:
    options = ["-batch", "-P", str(job.server.port), "-hostkey", job.fingerprint]
    if job.password:
        return [*options, "-pw", job.password]
    key = job.home / "key.ppk"
    subprocess.run(["puttygen", str(job.key), "-O", "private", "-o", str(key)], check=True)
    return [*options, "-i", str(key)]


def psftp(job: Job) -> list[str]:
    batch, lines = job.home / "batch", [f"lcd {job.into}"]
    for path in sorted(job.tree.iterdir()):
        lines.append(f"get {'-r ' * path.is_dir()}{path.name}")
    batch.write_text("\n".join(lines) + "\n")
    return ["psftp", *_putty(job), "-b", str(batch), f"{job.server.user}@127.0.0.1"]


def pscp(job: Job) -> list[str]:
    source = f"{job.server.user}@127.0.0.1:/*"
    return ["pscp", "-sftp", "-q", "-r", "-p", "-unsafe", *_putty(job), source, str(job.into)]


def curl(job: Job) -> list[str]:
    url, lines = f"sftp://127.0.0.1:{job.server.port}", ["create-dirs"]
    for path in job.paths:
        lines += [f'url = "{url}/{path}"', f'output = "{job.into}/{path}"']
    batch = job.home / "curlrc"
    batch.write_text("\n".join(lines) + "\n")
    proof = ["--key", str(job.key), "--pubkey", f"{job.key}.pub"] if not job.password else []
    user = f"{job.server.user}:{job.password}"
    return ["curl", "-sS", "--fail-early", "-k", "-u", user, *proof, "-K", str(batch)]


def gvfs(job: Job) -> list[str]:
    # It takes no key file, and ssh looks for its settings in the home of the user, not in $HOME.
    url = f"sftp://{job.server.user}@127.0.0.1:{job.server.port}"
    lines = [f"printf 'yes\\n%s\\n' {shlex.quote(job.password)} | gio mount {url}/ >&2"]
    for path in job.paths:
        to = job.into / path
        lines += [f"mkdir -p {to.parent}", f"gio copy {url}/{path} {to}"]
    add = [] if job.password else [f"ssh-add -q {job.key}"]
    session = shlex.join(["dbus-run-session", "--", *shell(lines)])
    return ["ssh-agent", *shell([*add, session])]


def mc(job: Job) -> list[str]:
    add = [] if job.password else [f"ssh-add -q {job.key}"]
    typing = shlex.join(program(_PY, name="mc.py")(job))
    return ["ssh-agent", *shell([*add, typing])]


def dbclient(job: Job) -> list[str]:
    key = job.home / "dropbear_key"
    proof = []
    if not job.password:
        key.unlink(missing_ok=True)
        convert = ["dropbearconvert", "openssh", "dropbear", str(job.key), str(key)]
        subprocess.run(convert, check=True, capture_output=True)
        proof = ["-i", str(key)]
    server = job.server
    connect = ["env", f"DROPBEAR_PASSWORD={job.password}", "dbclient", "-y", "-y", *proof]
    connect += ["-p", str(server.port), "-s", f"{server.user}@127.0.0.1", "sftp"]
    batch = job.home / "batch"
    batch.write_text(f"get -rp / {job.into}\n")
    return ["sftp", "-b", str(batch), "-D", shlex.join(connect)]


def program(*interpreter: str, name: str, more: tuple[str, ...] = ()) -> Command:
    """Return the command of a program in tests/bench/programs."""
    return lambda job: [*interpreter, str(_PROGRAMS / name), *job.arguments, *more]


def built(compile_: Callable[[Path], list[str]], run: Callable[[Path], list[str]]) -> Command:
    """Return the command of a program that has to be compiled into a folder first."""

    def made(job: Job) -> list[str]:
        folder = job.home.parent / "built"
        folder.mkdir(exist_ok=True)
        command = compile_(folder)
        if not (folder / f".{command[-1].replace('/', '_')}").exists():
            environment = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode"}
            environment |= {"GOCACHE": str(folder / "cache"), "GOFLAGS": "-buildvcs=false"}
            subprocess.run(command, check=True, capture_output=True, env=environment)
            (folder / f".{command[-1].replace('/', '_')}").touch()
        return [*run(folder), *job.arguments]

    return made


_JSCH = "/usr/share/java/jsch.jar"
GO = built(
    lambda folder: ["go", "build", "-o", f"{folder}/pkg-sftp", str(_PROGRAMS / "pkg-sftp.go")],
    lambda folder: [f"{folder}/pkg-sftp"],
)
LIBSSH = built(
    lambda folder: ["cc", "-o", f"{folder}/libssh", str(_PROGRAMS / "libssh.c"), "-lssh"],
    lambda folder: [f"{folder}/libssh"],
)
JSCH = built(
    lambda folder: [
        "javac",
        "-nowarn",
        "-cp",
        _JSCH,
        "-d",
        str(folder),
        str(_PROGRAMS / "JSch.java"),
    ],
    lambda folder: ["java", "-cp", f"{_JSCH}:{folder}", "Mirror"],
)


@dataclass(frozen=True)
class Client:
    """A client: its command, the Debian package with its version, and what the table says."""

    name: str
    command: Command
    package: str = ""  # of Debian; or `npm:NAME`, `pypi:NAME`
    needs: tuple[str, ...] = ()  # programs and files without which it does not run
    rsa: bool = False
    options: str = ""

    def version(self) -> str:
        """Return its version."""
        kind, _, name = self.package.rpartition(":")
        if kind == "npm":
            text = (_NODE / "node_modules" / name / "package.json").read_text()
            return str(json.loads(text)["version"])
        if kind == "pypi":
            found = sorted(ASYNCSSH.glob(f"{name.replace('-', '_')}-*.dist-info"))
            return found[-1].name.removesuffix(".dist-info").split("-")[1] if found else ""
        if not name:
            import paramiko

            return str(paramiko.__version__)
        done = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", name], capture_output=True, text=True
        )
        return done.stdout.split(":")[-1].partition("-")[0].partition("+")[0]

    def environment(self, home: Path) -> dict[str, str]:
        """Return the environment in which it runs."""
        found = {**os.environ, "HOME": str(home), "NODE_PATH": str(_NODE / "node_modules")}
        if self.package.startswith("pypi:"):
            found["PYTHONPATH"] = str(ASYNCSSH)
        return found

    def missing(self) -> list[str]:
        """Return what it needs and is not installed."""
        return [n for n in self.needs if not shutil.which(n) and not Path(n).exists()]


_FUSE = "/dev/fuse"
_PY = sys.executable
CLIENTS = (
    Client("OpenSSH sftp", with_password(sftp), "openssh-client", ("sshpass",),
           options="`get -rp`, never `-a`: see below"),
    Client("OpenSSH scp", with_password(scp), "openssh-client", ("sshpass",), options="`-s -rp`"),
    Client("lftp", lftp, "lftp", options="`set sftp:connect-program`, `mirror --parallel`"),
    Client("rclone", rclone, "rclone", options="`--transfers`, `--checkers`; compares by digest"),
    Client("sshfs", sshfs, "sshfs", ("sshfs", _FUSE), options="`-o ro`; `cp -r` out of the mount"),
    Client("psftp (PuTTY)", psftp, "putty-tools", ("psftp", "puttygen"), options="`get -r`"),
    Client("pscp (PuTTY)", pscp, "putty-tools", ("pscp", "puttygen"), options="`-sftp -r -unsafe`"),
    Client("curl", curl, "curl", ("curl",), options="one URL for each file; ed25519 key"),
    Client("curl, RSA key", curl, "curl", ("curl",), rsa=True, options="better an ed25519 key"),
    Client("gvfs (Nautilus)", gvfs, "gvfs", ("gio", "dbus-run-session", "/usr/libexec/gvfsd-sftp"),
           options="key in an agent or in `~/.ssh/config`"),
    Client("mc", mc, "mc", ("mc",), options="`sftp://USER@HOST/` as a folder; key in an agent"),
    Client("Dropbear dbclient", dbclient, "dropbear-bin", ("dbclient", "dropbearconvert"),
           options="`sftp -D 'dbclient -s ...'`"),
    Client("paramiko", program(_PY, name="paramiko_client.py"), ""),
    Client("asyncssh", program(_PY, name="asyncssh_client.py"), "pypi:asyncssh",
           (str(ASYNCSSH / "asyncssh"),)),
    Client("ssh2-python (libssh2)", program(_PY, name="ssh2_python.py"), "pypi:ssh2-python",
           (str(ASYNCSSH / "ssh2"),)),
    Client("node ssh2-sftp-client", program("node", name="ssh2-sftp-client.js"),
           "npm:ssh2-sftp-client", ("node", str(_NODE / "node_modules" / "ssh2-sftp-client"))),
    Client("Go pkg/sftp", GO, "golang-github-pkg-sftp-dev",
           ("go", "/usr/share/gocode/src/github.com/pkg/sftp")),
    Client("libssh", LIBSSH, "libssh-4", ("cc", "/usr/include/libssh/sftp.h")),
    Client("JSch", JSCH, "libjsch-java",
           ("javac", _JSCH), rsa=True, options="RSA key; newer: com.github.mwiede:jsch"),
    Client("Net::SFTP::Foreign", program("perl", name="net-sftp-foreign.pl"),
           "libnet-sftp-foreign-perl", ("/usr/share/perl5/Net/SFTP/Foreign.pm",)),
    Client("Net::SSH2 (libssh2)", program("perl", name="net-ssh2.pl"), "libnet-ssh2-perl",
           ("/usr/share/doc/libnet-ssh2-perl",), options="ed25519 key"),
    Client("Ruby net-sftp", program("ruby", name="net-sftp.rb"), "ruby-net-ssh",
           ("/usr/share/doc/ruby-net-sftp", "ruby"), rsa=True, options="RSA key"),
    Client("phpseclib 2", program("php", name="phpseclib.php", more=("2",)), "php-phpseclib",
           ("/usr/share/php/phpseclib/autoload.php", "php"), rsa=True, options="RSA key"),
    Client("phpseclib 3", program("php", name="phpseclib.php", more=("3",)), "php-phpseclib3",
           ("/usr/share/php/phpseclib3/autoload.php", "php")),
    Client("Erlang ssh_sftp", lambda job: ["escript", str(_PROGRAMS / "erlang.escript"),
           *job.arguments[:2], str(job.home), *job.arguments[3:]], "erlang-ssh", ("escript",)),
)  # fmt: skip


# The algorithms that clients document which do not run here; only those that could matter.
_PUTTY_KEX = (
    "curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256",
    "diffie-hellman-group16-sha512", "diffie-hellman-group14-sha256",
)  # fmt: skip
_PUTTY_CIPHERS = ("aes256-ctr", "aes128-ctr", "aes256-gcm@openssh.com", "aes128-gcm@openssh.com")
_ETM = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-256", "hmac-sha1")
_KEYS = ("ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")


@dataclass(frozen=True)
class Documented:
    """A client that does not run here, with the algorithms that it documents."""

    name: str
    source: str
    kex: tuple[str, ...]
    ciphers: tuple[str, ...]
    macs: tuple[str, ...]
    host_keys: tuple[str, ...] = _KEYS

    def setting(self) -> str:
        """Return the setting that it needs, or that none is enough."""
        for name, mode in (("", Algorithms.DEFAULT), ("`compatible`", Algorithms.COMPATIBLE)):
            offer = algorithms.offer(SftpSettings("127.0.0.1", 22, 1, 1, algorithms=mode))
            pairs = (
                (self.kex, offer.kex), (self.ciphers, algorithms.CIPHERS),
                (self.macs, offer.macs), (self.host_keys, offer.host_keys),
            )  # fmt: skip
            if not any(set(theirs).isdisjoint(ours) for theirs, ours in pairs):
                return name
        return "none"


DOCUMENTED = (
    Documented("WinSCP 6", "winscp.net: The Key Exchange Page, The SSH Page; PuTTY's code",
               _PUTTY_KEX, _PUTTY_CIPHERS, _ETM),
    Documented("FileZilla 3", "its fzsftp is PuTTY's code", _PUTTY_KEX, _PUTTY_CIPHERS, _ETM),
    Documented("Cyberduck", "README of sshj, which it uses",
               ("curve25519-sha256@libssh.org", "diffie-hellman-group16-sha512"),
               _PUTTY_CIPHERS, (*_ETM, "hmac-sha2-512-etm@openssh.com")),
)  # fmt: skip


@dataclass
class Sites:
    """Servers on the same tree, one for each level of algorithms, started when they are needed."""

    folder: Path
    stack: ExitStack
    running: dict[tuple[int, bool], tuple[Server, Path]] = field(default_factory=dict)

    def get(self, level: int, *, rekeying: bool) -> tuple[Server, Path]:
        """Return a server and its tree."""
        if (level, rekeying) not in self.running:
            folder = self.folder / f"level-{level}{'-rekeying' * rekeying}"
            folder.mkdir(mode=0o755)
            tree = servers.lay_out(folder)
            site = folder / "site"
            with (site / "site.toml").open("a") as file:
                file.write(_LEVELS[level])
            host.create_key(site / HOST_KEYS / "ssh_host_rsa_key", "ssps", bits=4096)
            since = datetime.now(UTC) - timedelta(days=1)
            lines = [
                (self.folder / "home" / f"id_{kind}.pub").read_text() for kind in ("ed25519", "rsa")
            ]
            held = [
                ring.key_credential(
                    line, label="", not_before=since, not_after=None, added_by="bench"
                )
                for line in lines
            ]
            held.append(
                ring.password_credential(
                    _PASSWORD, label="", not_before=since, not_after=None, added_by="bench"
                )
            )
            ring_files.apply(site, Ring(servers.PARTY, tuple(held)))
            for source in sorted((self.folder / "tree").rglob("*.jpg")):
                publish(
                    tree, source.relative_to(self.folder / "tree").as_posix(), source.read_bytes()
                )
            publish(tree, "BENIOKU.txt", b"beni oku\n")
            patch = _REKEY_OFTEN if rekeying else ""
            self.running[level, rekeying] = (
                self.stack.enter_context(servers.ours(folder, patch)), tree
            )  # fmt: skip
        return self.running[level, rekeying]

    def exchanges(self, level: int) -> int:
        """Return how many key exchanges a server that exchanges often has finished."""
        log = self.folder / f"level-{level}-rekeying" / "ours.log"
        return log.read_text().count("new keys") if log.exists() else 0


def publish(tree: Path, name: str, content: bytes) -> None:
    """Put a file into a tree, in place of the one that is there."""
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(".new")
    fresh.write_bytes(content)
    fresh.chmod(0o444)
    fresh.replace(path)


class User(TypedDict, total=False):
    """Arguments of subprocess.run."""

    user: int
    group: int
    extra_groups: list[int]
    cwd: Path


def as_ordinary_user(home: Path, target: Path) -> User:
    """Give the client's folders to an ordinary user, and return how to run the client as that."""
    if os.geteuid() != 0:
        return {}
    for path in (home, *home.iterdir(), target):
        os.chown(path, _NOBODY, _NOGROUP)
    return {"user": _NOBODY, "group": _NOGROUP, "extra_groups": [], "cwd": home}


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file, by its path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files
    }


def table_row(*cells: str) -> str:
    """Return a row of the table, as it is in the parties' guide."""
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


@dataclass
class Row:
    """What one client did."""

    client: Client
    level: int | None = None
    key: str = "no"
    password: str = "no"
    second: str = "no"
    rekeying: str = "no"
    reasons: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Return its row of the table."""
        setting = "" if self.level is None else _LEVEL_NAMES[self.level]
        name = f"{self.client.name} {self.client.version()}".strip()
        passes = (self.key, self.password, self.second, self.rekeying)
        return table_row(name, *passes, setting, self.client.options)


class Trial:
    """Tries one client."""

    def __init__(self, sites: Sites, client: Client) -> None:
        self.sites, self.client, self.row = sites, client, Row(client)

    def run(self) -> Row:
        """Do everything, and return the row."""
        row = self.row
        for level in range(len(_LEVELS)):
            if self.mirror("key", level):
                row.level, row.key = level, "yes"
                break
        for level in range(len(_LEVELS)):
            if self.mirror("password", level, password=_PASSWORD):
                row.password = "yes"
                if row.level is None:
                    row.level = level
                elif level < row.level:
                    row.password = f"yes, with {_LEVEL_NAMES[level] or 'the defaults'}"
                break
        if row.level is not None:
            proof = "" if row.key == "yes" else _PASSWORD
            row.second = "yes" if self.second_pass(row.level, proof) else "no"
            before = self.sites.exchanges(row.level)
            if self.mirror("re-keying", row.level, password=proof, rekeying=True):
                count = self.sites.exchanges(row.level) - before
                row.rekeying = "yes" if count > 3 else f"only {count}"
        return row

    def mirror(
        self, what: str, level: int, *, password: str = "", rekeying: bool = False, into: str = ""
    ) -> bool:
        """Mirror once into an empty folder, or again into `into`; return whether all is there."""
        server, tree = self.sites.get(level, rekeying=rekeying)
        home = self.sites.folder / "home"
        target = self.sites.folder / (into or "got")
        if not into:
            shutil.rmtree(target, ignore_errors=True)
        target.mkdir(exist_ok=True)
        known = host.known_hosts(tree.parents[1], "127.0.0.1", server.port)
        (home / "known_hosts").write_text(known)
        job = Job(server, tree, target, home, password, self.client.rsa)
        began = time.monotonic()
        try:
            command = self.client.command(job)
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace",
                timeout=_TIMEOUT, stdin=subprocess.DEVNULL, check=False,
                env=self.client.environment(home), **as_ordinary_user(home, target),
            )  # fmt: skip
            wrong = (
                "" if done.returncode == 0 else (done.stderr.strip() or done.stdout.strip())[-300:]
            )
            wrong = wrong or ("" if done.returncode == 0 else f"exit code {done.returncode}")
        except subprocess.TimeoutExpired:
            wrong = f"not finished after {_TIMEOUT} seconds"
        except subprocess.CalledProcessError as error:
            wrong = (error.stderr or b"").decode(errors="replace")[-300:] or str(error)
        expected, got = digests(tree), digests(target)
        if not wrong and got != expected:
            lacks = sorted(path for path in expected if got.get(path) != expected[path])
            wrong = f"{len(lacks)} of {len(expected)} files are missing or differ: {lacks[:2]}"
        took = time.monotonic() - began
        print(
            f"{self.client.name}: {what}, level {level}: {wrong or 'ok'} ({took:.1f} s)",
            file=sys.stderr,
        )
        if wrong:
            said = " ".join(wrong.split())
            self.row.reasons.append(f"{what} {_LEVEL_NAMES[level] or 'with the defaults'}: {said}")
        return not wrong

    def second_pass(self, level: int, password: str) -> bool:
        """Mirror, let pages and new sums come, and mirror again into the same folder."""
        _, tree = self.sites.get(level, rekeying=False)
        shutil.rmtree(self.sites.folder / "again", ignore_errors=True)
        number = len(list(tree.rglob("*.jpg")))
        publish(tree, "secim/c-1/k-0/SHA256SUMS", b"sum\n" * number)
        if not self.mirror("first pass", level, password=password, into="again"):
            return False
        time.sleep(1.1)  # the modification times are whole seconds
        publish(tree, f"secim/c-1/k-0/sandik-0/cb-sandik-sonuc-s1.v{number}.jpg", b"version")
        publish(tree, f"secim/c-1/k-new-{number}/sandik-1/cb-sandik-sonuc-s1.jpg", b"new")
        publish(tree, "secim/c-1/k-0/SHA256SUMS", b"sum\n" * (number + 2))
        return self.mirror("second pass", level, password=password, into="again")


def main() -> None:
    """Try the clients, and print the table."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench clients",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="only clients with NAME in their name"
    )
    options = parser.parse_args()
    chosen = [
        c for c in CLIENTS if not options.only or any(name in c.name for name in options.only)
    ]
    rows: list[Row] = []
    absent: list[str] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ssps-clients-")))
        folder.chmod(0o755)
        (folder / "home").mkdir()
        host.create_key(folder / "home" / "id_ed25519", "bench")
        host.create_key(folder / "home" / "id_rsa", "bench", bits=3072)
        pem = ["ssh-keygen", "-q", "-p", "-m", "PEM", "-N", "", "-f", str(folder / "home/id_rsa")]
        subprocess.run(pem, check=True, capture_output=True)
        for number in range(_BOARDS * _PAGES):
            name = f"secim/c-1/k-{number % _BOARDS}/sandik-{number}/cb-sandik-sonuc-s1.jpg"
            publish(folder / "tree", name, os.urandom(_PAGE + number))
        sites = Sites(folder, stack)
        for client in chosen:
            if missing := client.missing():
                absent.append(f"{client.name}: not installed ({', '.join(missing)})")
                continue
            rows.append(Trial(sites, client).run())
    print(f"{machine()}; `scripts/bench clients`\n")
    print("| client | by key | by password | second pass | new keys each MB | setting | options |")
    print("|---|---|---|---|---|---|---|")
    print(*(row.markdown() for row in rows), sep="\n")
    if not options.only:
        for one in DOCUMENTED:
            print(table_row(one.name, "", "", "", "", one.setting(), f"not run: {one.source}"))
    failed = [f"{row.client.name}: {reason}" for row in rows for reason in row.reasons]
    for title, lines in (("What failed:", failed), ("Not run:", absent)):
        if lines:
            print(f"\n{title}\n", *(f"- {line}" for line in lines), sep="\n")
    sys.exit(int(any(row.level is None for row in rows)))


if __name__ == "__main__":
    main()
