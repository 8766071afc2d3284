"""The clients that parties use, each against the real server."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from running_site import ADDRESS, RunningSite, digests, pages, until

from config import layout

needs_fuse = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="no FUSE")


def run(*command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, **(env or {})}
    )
    assert done.returncode == 0, done.stderr
    return done


def lftp(site: RunningSite, party: str, *commands: str) -> str:
    ssh = shlex.join(["ssh", "-a", "-x", *site.ssh_options(party)])
    script = "; ".join(
        [
            "set net:max-retries 1",
            "set sftp:auto-confirm no",
            f'set sftp:connect-program "{ssh}"',
            f"open -u {party}, sftp://{ADDRESS}:{site.port}",
            *commands,
        ]
    )
    return run("lftp", "--norc", "-c", script).stdout


def rclone(site: RunningSite, party: str, home: Path, *words: str) -> str:
    config = home / "rclone.conf"
    if not config.exists():
        config.write_text(
            f"[ysk]\ntype = sftp\nhost = {ADDRESS}\nport = {site.port}\nuser = {party}\n"
            f"key_file = {site.key(party)}\nknown_hosts_file = {site.known_hosts}\n"
        )
    return run("rclone", "--config", str(config), *words).stderr


def opened(site: RunningSite, since: int) -> list[str]:
    """Return the pages that were opened; feed files are left out, since they change meanwhile."""
    events = (record.event for record in site.records()[since:])
    paths = (event.what[1:] for event in events if event.event == "open")
    return [path for path in paths if not layout.is_publisher_file(path)]


@pytest.mark.parametrize("party", ["parti-a", "parti-c"])
def test_openssh_sftp_mirrors_the_tree(rehearsal: RunningSite, tmp_path: Path, party: str) -> None:
    done = rehearsal.sftp(party, f"get -rp / {tmp_path}")

    assert done.returncode == 0, done.stderr
    assert pages(tmp_path) == rehearsal.tree(party)
    page = next(iter(rehearsal.tree(party)))
    original = rehearsal.site / "trees" / party / page
    assert (tmp_path / page).stat().st_mtime == original.stat().st_mtime


def test_lftp_mirrors_the_tree_and_a_second_pass_transfers_nothing(
    rehearsal: RunningSite, tmp_path: Path
) -> None:
    lftp(rehearsal, "parti-a", f"mirror --parallel=4 / {tmp_path}")
    before = len(rehearsal.records())

    lftp(rehearsal, "parti-a", f"mirror --parallel=4 / {tmp_path}")

    assert pages(tmp_path) == rehearsal.tree("parti-a")
    assert opened(rehearsal, before) == []


def test_lftp_needs_no_request_to_learn_that_a_listing_has_ended(
    rehearsal: RunningSite, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    lftp(rehearsal, "parti-a", f"debug -o {log} 9", "cls /")

    assert "file name count=" in log.read_text()
    assert "(EOF)" not in log.read_text()


def test_rclone_copies_the_tree_and_a_second_pass_transfers_nothing(
    rehearsal: RunningSite, tmp_path: Path
) -> None:
    mirror = tmp_path / "mirror"
    rclone(rehearsal, "parti-a", tmp_path, "copy", "--transfers", "4", "ysk:/", str(mirror))
    before = len(rehearsal.records())

    rclone(rehearsal, "parti-a", tmp_path, "copy", "--transfers", "4", "ysk:/", str(mirror))

    assert pages(mirror) == rehearsal.tree("parti-a")
    assert opened(rehearsal, before) == []


@needs_fuse
def test_sshfs_browses_the_tree(rehearsal: RunningSite, tmp_path: Path) -> None:
    options = [*rehearsal.ssh_options("parti-a")[2:], "-oro", "-F/dev/null"]
    run("sshfs", *options, f"parti-a@{ADDRESS}:/", str(tmp_path))
    try:
        assert pages(tmp_path) == rehearsal.tree("parti-a")
    finally:
        run("fusermount3", "-u", str(tmp_path))


@needs_fuse
def test_rclone_mounts_the_tree(rehearsal: RunningSite, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    rclone(rehearsal, "parti-a", tmp_path, "lsf", "ysk:/")  # writes the configuration
    words = ["mount", "--read-only", "--config", str(tmp_path / "rclone.conf"), "ysk:/", str(mount)]
    process = subprocess.Popen(["rclone", *words], stderr=subprocess.DEVNULL)
    try:
        until(mount.is_mount, "the mount")
        assert pages(mount) == rehearsal.tree("parti-a")
    finally:
        subprocess.run(["fusermount3", "-u", str(mount)], check=False)
        process.terminate()
        process.wait()


def test_psftp_fetches_a_board(rehearsal: RunningSite, tmp_path: Path) -> None:
    if shutil.which("puttygen") is None:
        pytest.skip("puttygen is not installed")
    home = {"HOME": str(tmp_path)}
    key = tmp_path / "key.ppk"
    run("puttygen", str(rehearsal.key("parti-a")), "-O", "private", "-o", str(key), env=home)
    shown = run("ssh-keygen", "-lf", str(rehearsal.site / "keys/host/ssh_host_ed25519_key.pub"))
    batch = tmp_path / "batch"
    batch.write_text(f"lcd {tmp_path}\nget -r prova-cb-mv\n")

    run(
        "psftp", "-batch", "-P", str(rehearsal.port), "-i", str(key), "-b", str(batch),
        "-hostkey", shown.stdout.split()[1], f"parti-a@{ADDRESS}", env=home,
    )  # fmt: skip

    got = pages(tmp_path / "prova-cb-mv")
    assert {f"prova-cb-mv/{path}": digest for path, digest in got.items()} == rehearsal.tree(
        "parti-a"
    )


def test_sessions_on_one_multiplexed_connection_all_work(
    rehearsal: RunningSite, tmp_path: Path
) -> None:
    control = [*rehearsal.ssh_options("parti-a"), f"-oControlPath={tmp_path}/c"]
    master = subprocess.Popen(["ssh", *control, "-M", "-N", f"parti-a@{ADDRESS}"])
    try:
        until(lambda: (tmp_path / "c").exists(), "the control socket")
        folders = [tmp_path / name for name in ("one", "two", "three")]
        clients = []
        for folder in folders:
            folder.mkdir()
            command = ["sftp", *control, "-b", "-", f"parti-a@{ADDRESS}"]
            client = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
            )
            clients.append(client)
        for folder, client in zip(folders, clients, strict=True):
            client.communicate(f"get -r / {folder}\n", timeout=60)
        for folder in folders:
            assert pages(folder) == rehearsal.tree("parti-a")
    finally:
        master.terminate()
        master.wait()


def test_every_write_is_denied_and_recorded_and_changes_nothing(
    rehearsal: RunningSite, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    sheet = "/" + next(iter(rehearsal.tree("parti-a")))
    store = digests(rehearsal.site / "store")
    before = len(rehearsal.records())

    done = rehearsal.sftp(
        "parti-a",
        f"-put {mine} /mine",
        f"-put {mine} {sheet}",
        "-mkdir /mine",
        f"-rmdir {Path(sheet).parent}",
        f"-rm {sheet}",
        f"-rename {sheet} /mine",
        f"-rename -l {sheet} /mine",
        f"-chmod 777 {sheet}",
        f"-ln -s {sheet} /mine",
        "ls /",
    )

    assert done.returncode == 0, done.stderr
    assert done.stderr.lower().count("permission denied") == 9, done.stderr
    denied = [r.event for r in rehearsal.records()[before:] if r.event.event == "denied"]
    assert {e.who for e in denied} == {"parti-a"}
    assert len(denied) == 9
    assert digests(rehearsal.site / "store") == store
    shown = {p.name for p in (rehearsal.site / "trees/parti-a").iterdir()}
    assert shown == {"BENIOKU.txt", "akis", "araclar", "prova-cb-mv"}


@pytest.mark.parametrize(
    "path",
    [
        "/../../store",
        "../parti-b/prova-cb-mv",
        "/../parti-b",
        "/proc/self/environ",
        "/etc/passwd",
        "/" + "a" * 4096,
        "/" + "a/" * 2000,
        "/birlestirme\n/x",
    ],
    ids=["store", "relative", "other party", "proc", "etc", "long name", "deep", "newline"],
)
def test_no_path_leads_out_of_the_tree(rehearsal: RunningSite, tmp_path: Path, path: str) -> None:
    quoted = path.replace("\n", "\\n")

    done = rehearsal.sftp("parti-a", f'get "{quoted}" {tmp_path}/got')

    assert done.returncode != 0
    assert list(tmp_path.iterdir()) == []


def test_shell_commands_and_tunnels_are_refused(rehearsal: RunningSite) -> None:
    options = rehearsal.ssh_options("parti-a")
    command = subprocess.run(
        ["ssh", *options, f"parti-a@{ADDRESS}", "id"], capture_output=True, text=True, timeout=30
    )
    tunnel = subprocess.run(
        ["ssh", *options, "-W", f"{ADDRESS}:{rehearsal.port}", f"parti-a@{ADDRESS}"],
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert command.returncode == 1
    assert command.stdout == ""
    assert "use sftp, lftp, rclone, WinSCP, or scp without -O" in command.stderr
    assert tunnel.returncode != 0
    assert "SSH-2.0" not in tunnel.stdout


def test_rclone_reads_our_sha256sums(rehearsal: RunningSite, tmp_path: Path) -> None:
    root = rehearsal.site / "trees/parti-a/prova-cb-mv"
    until(lambda: (root / "SHA256SUMS").exists(), "the sums", seconds=70)
    sums = next(path for path in root.glob("*/*/SHA256SUMS"))
    board = sums.parent.relative_to(root.parent)
    filed = len(pages(sums.parent))
    until(lambda: len(sums.read_text().splitlines()) == filed, "all of the sums", seconds=70)

    checked = rclone(
        rehearsal, "parti-a", tmp_path, "checksum", "sha256", str(sums), f"ysk:/{board}",
        "--download", "--exclude", "SHA256SUMS*",
    )  # fmt: skip

    files = len(sums.read_text().splitlines())
    assert f"{files} matching files" in checked
    assert "0 differences found" in checked
