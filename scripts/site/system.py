"""Sets up the machine for a site (`ssps init --system`): user, permissions, units, completion.

Nothing runs as root. The daemons run as the system user `ssps`, who owns the site. Scanners are in
the group `ssps-scan`, which may write to the intake and nowhere else. Operators work as the same
user: `sudo -u ssps ssps ...`. The units are made from the templates in scripts/units. All share one
systemd sandbox. Server, portal and staff site have network access, and may use ports below 1024.
The publisher has network access only if the catalog is in PostgreSQL. The server may also change
the root directory of its sessions (CAP_SYS_CHROOT). The publisher may ask the kernel whether a
scanner still writes to a file (CAP_LEASE).
"""

import grp
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path

from config.settings import Settings
from config.site import KEYS, LEDGERS, STATE
from scripts.shared import console

USER, SCANNERS = "ssps", "ssps-scan"
FOLDER = Path("/etc/systemd/system")
PORTAL_UNIT, STAFF_UNIT = "ssps-portal.service", "ssps-staff.service"
SHARE = Path("/usr/local/share")
PACKAGED = Path("/usr/bin/ssps")  # the command of the Debian package
UNITS = ("ssps.target", "ssps-publish.service", "ssps-serve.service", PORTAL_UNIT, STAFF_UNIT)
_NO_NETWORK = "PrivateNetwork=yes\nRestrictAddressFamilies=AF_UNIX\nIPAddressDeny=any"
_NETWORK = "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX"
_MARGIN = 10  # seconds from the end of the server's draining to SIGKILL
_SITE_MODE = 0o751
_INTAKE_MODE = 0o2770  # setgid: a new file belongs to the scanners' group


def units(site: Path, settings: Settings, executable: Path) -> Mapping[str, str]:
    """Return the text of each unit by its name; of portal and staff site if the site has them."""
    web = {PORTAL_UNIT: settings.portal, STAFF_UNIT: settings.staff}
    absent = {name for name, stated in web.items() if stated is None}
    source = files("scripts") / "units"
    stands_for = {
        "@SANDBOX@": (source / "sandbox.conf").read_text(encoding="utf-8").rstrip(),
        "@USER@": USER,
        "@SSPS@": str(executable),
        "@SITE@": str(site),
        "@WRITABLE@": " ".join(map(str, _outside_site(site, [site, *settings.intake.folders]))),
        "@SERVED@": " ".join(str(site / folder) for folder in (LEDGERS, STATE, KEYS)),
        "@NETWORK@": _NETWORK if settings.catalog.url else _NO_NETWORK,
        "@WEB@": "".join(f" {name}" for name in web if name not in absent),
        "@DRAIN@": str(round(settings.sftp.drain_seconds) + _MARGIN),
    }
    made = {}
    for name in UNITS:
        if name in absent:
            continue
        text = (source / name).read_text(encoding="utf-8")
        for mark, value in stands_for.items():
            text = text.replace(mark, value)
        made[name] = text
    return made


def _outside_site(site: Path, folders: Iterable[Path]) -> list[Path]:
    """Return the folders without those inside the site."""
    return [f for f in folders if f == site or not f.is_relative_to(site)]


def check_machine(site: Path, executable: Path) -> None:
    """Raise Faults if this machine cannot be set up."""
    if os.geteuid() != 0:
        raise console.fault(
            "--system", "", "creates a user and units, so it must run as root: sudo ssps ..."
        )
    if any(c.isspace() or c in "%\\\"'" for c in f"{site}{executable}"):
        wrong = "has a character that is special to systemd: choose another path"
        raise console.fault(str(site), "", wrong)
    for folder in (*executable.parents, executable):
        if not folder.stat().st_mode & 0o001:
            wrong = f"the user {USER} cannot reach it: install ssps where all may read, as in /opt"
            raise console.fault(str(folder), "", wrong)


def set_up(site: Path, settings: Settings, executable: Path, folder: Path) -> list[str]:
    """Create the user and the units, change the owner of the site; return a line for each step."""
    done = list(_create_users())
    _set_ownership(site, settings.intake.folders)
    done.append(f"{site}: owner set to {USER}, intake writable for the group {SCANNERS}")
    return done + write_units(site, settings, executable, folder)


def write_units(site: Path, settings: Settings, executable: Path, folder: Path) -> list[str]:
    """Write the units, the man page and the completions; return a line for each file."""
    done = []
    folder.mkdir(parents=True, exist_ok=True)
    share = SHARE if folder == FOLDER else folder / "share"
    # The Debian package has its own man page and completions, and upgrades them.
    packaged = executable == PACKAGED
    for path, text in () if packaged else shell_files(share).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)
        done.append(f"{path} written")
    for name, text in units(site, settings, executable).items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o644)
        done.append(f"{folder / name} written")
    return done


def shell_files(share: Path) -> Mapping[Path, str]:
    """Return the man page and the completions of bash, zsh and fish, by the path that each has."""
    return {
        share / "man/man1/ssps.1": _printed("scripts.man_page"),
        share / "bash-completion/completions/ssps": _printed("scripts.completion", "bash"),
        share / "zsh/site-functions/_ssps": _printed("scripts.completion", "zsh"),
        share / "fish/vendor_completions.d/ssps.fish": _printed("scripts.completion", "fish"),
    }


def _printed(module: str, *words: str) -> str:
    """Return what a module prints that knows all commands, and so may not be imported here."""
    command = [sys.executable, "-P", "-m", module, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _create_users() -> Iterable[str]:
    if not _exists(grp.getgrnam, SCANNERS):
        subprocess.run(["groupadd", "--system", SCANNERS], check=True)
        yield f"group {SCANNERS} created: add the scanners to it (usermod -aG {SCANNERS} NAME)"
    if not _exists(pwd.getpwnam, USER):
        command = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent"]
        command += ["--shell", "/usr/sbin/nologin", "--user-group", USER]
        subprocess.run(command, check=True)
        yield f"user {USER} created, without password and shell"
    if USER not in grp.getgrnam(SCANNERS).gr_mem:
        subprocess.run(["usermod", "-aG", SCANNERS, USER], check=True)
        yield f"user {USER} added to the group {SCANNERS}, to read the scanned files"


def _exists(look_up: object, name: str) -> bool:
    try:
        look_up(name)  # type: ignore[operator]
    except KeyError:
        return False
    return True


def current_owners(site: Path, settings: Settings) -> list[str]:
    """Return who owns the site and its intake folders, as lines for the record."""
    places = dict.fromkeys((site, *settings.intake.folders))
    return [f"{path}: {_owner(path)}" for path in places]


def planned_owners(site: Path, settings: Settings) -> list[str]:
    """Return the same lines as they will be after the set-up."""
    owners = {site: f"{USER}:{USER} {_SITE_MODE:04o}"}
    intake = f"{USER}:{SCANNERS} {_INTAKE_MODE & 0o7777:04o}"
    owners |= dict.fromkeys(settings.intake.folders, intake)
    return [f"{path}: {who}" for path, who in owners.items()]


def current_units(folder: Path) -> list[str]:
    """Return the units that are there, as lines for the record."""
    paths = [folder / name for name in UNITS if (folder / name).exists()]
    return [_unit_line(path, path.read_text(encoding="utf-8")) for path in paths]


def planned_units(site: Path, settings: Settings, executable: Path, folder: Path) -> list[str]:
    """Return the same lines as they will be once the units are written."""
    texts = units(site, settings, executable)
    return [_unit_line(folder / name, text) for name, text in texts.items()]


def _unit_line(path: Path, text: str) -> str:
    return f"{path} sha256 {hashlib.sha256(text.encode()).hexdigest()}"


def _owner(path: Path) -> str:
    if not path.exists():
        return "does not exist"
    found = path.stat()
    names = []
    for look_up, number in ((pwd.getpwuid, found.st_uid), (grp.getgrgid, found.st_gid)):
        try:
            names.append(str(look_up(number)[0]))
        except KeyError:
            names.append(str(number))
    return f"{':'.join(names)} {stat.S_IMODE(found.st_mode):04o}"


def chown_to_user(folder: Path) -> None:
    """Make the user the owner of a folder and of everything in it."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            shutil.chown(path, USER, USER)


def _set_ownership(site: Path, intakes: Iterable[Path]) -> None:
    chown_to_user(site)
    site.chmod(_SITE_MODE)
    for intake in intakes:
        intake.mkdir(parents=True, exist_ok=True)
        shutil.chown(intake, USER, SCANNERS)
        intake.chmod(_INTAKE_MODE)
