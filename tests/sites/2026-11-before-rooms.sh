#!/usr/bin/env bash
# Documents how 2026-11-before-rooms.tar.xz was made: a rehearsal site as the code of November 2026
# left it, before its packages were divided into rooms. The archive is never made again.
#
#   git worktree add OLD ead44b5 && (cd OLD && scripts/demo --once)    # that code, with a .venv
#   sudo unshare --uts tests/sites/2026-11-before-rooms.sh OLD         # root, for two operators
#
# It contains, with keys that were made for this and are used for nothing else:
#   site/        6 boxes, 3 parties, and old settings keys: ledger.keep_days, sftp.packet_layer.
#                Filed pages: a second version, a duplicate, three sheets in one file, one that two
#                operators identified. Two pages in quarantine, one absent sheet, one page in the
#                intake, one claimed and not filed.
#                Ledgers: a sealed and compressed segment of transfers; sessions that mirrored and
#                that were refused; a file that was open when the server was killed; operations of
#                many kinds, an edit of site.toml and a new signing key among them.
#   mirror/      what scripts/mirror fetched for parti-a
#   receipt.txt  a receipt for one page that parti-a fetched
set -euo pipefail
archive=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/2026-11-before-rooms.tar.xz
old=$(cd "$1" && pwd)
hostname ysk-1
work=/srv/rehearsal
mkdir "$work"
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
export SSPS_SITE=$work/site PYTHONPATH=$old
python=$old/.venv/bin/python
port=22922

ssps() { "$python" -m scripts.ssps "$@"; }
as() { local who=$1; shift; SUDO_USER=$who ssps "$@"; }
wait_for() { for _ in $(seq 300); do if "$@"; then return; fi; sleep 0.1; done; echo "timeout: $*" >&2; exit 1; }
count() { ssps status --json | "$python" -c 'import json,sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
at_least() { [ "$(count "$1")" -ge "$2" ]; }
answers() { (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null; }
start() { "$python" -m scripts.ssps run 2>>log & daemons=$!; wait_for answers; }
drop() { mv "$1" "$SSPS_SITE/intake/"; }
client() {  # client PARTY KEY: OpenSSH's sftp, its batch on standard input
    sftp -q -F none -b - -P $port -oIdentityFile="$2" -oIdentitiesOnly=yes -oBatchMode=yes \
        -oUserKnownHostsFile="$SSPS_SITE/clients/known_hosts" -oGlobalKnownHostsFile=/dev/null \
        -oStrictHostKeyChecking=yes "$1@127.0.0.1"
}
key() { echo "$SSPS_SITE/clients/$1/id_ed25519"; }
draw() {  # draw FILE KAREKOD...: one small page for each; `-` draws none
    "$python" - "$@" <<'PY'
import sys
import qrcode
from PIL import Image, ImageDraw

file, *karekods = sys.argv[1:]
pages = []
for karekod in karekods:
    page = Image.new("L", (600, 420), 240)
    ImageDraw.Draw(page).text((20, 20), f"Sandik Sonuc Tutanagi {file}", fill=20)
    if karekod != "-":
        code = qrcode.QRCode(1, qrcode.constants.ERROR_CORRECT_L, box_size=5, border=4)
        code.add_data(karekod)
        for place in ((440, 20), (440, 240)):
            page.paste(code.make_image().get_image().convert("L"), place)
    pages.append(page)
more = {"save_all": True, "append_images": pages[1:]} if pages[1:] else {}
pages[0].save(file, quality=60, **more)
PY
}

ssps rehearse init "$SSPS_SITE" --boxes 6 --parties 3 --port $port
sed -i 's/^\[sftp\]/[sftp]\npacket_layer = "plain"/' "$SSPS_SITE/site.toml"
printf '\n[ledger]\nsegment_mb = 1\nkeep_days = 3650\n' >>"$SSPS_SITE/site.toml"
# The karekods of result sheets, and those of three sheets of one board.
mapfile -t results < <(grep ',sandik-sonuc,' "$SSPS_SITE/registry.csv" | cut -d, -f1)
board=$(grep -m1 ',sandik-sonuc,' "$SSPS_SITE/registry.csv" | cut -d, -f4,5)
mapfile -t three < <(grep ",sayim-dokum-cetveli,$board," "$SSPS_SITE/registry.csv" | head -3 | cut -d, -f1)

start
for number in 0 2 4 6 8; do draw "sayfa-$number.jpg" "${results[$number]}"; drop "sayfa-$number.jpg"; done
wait_for at_least filed 5
cp "$SSPS_SITE"/trees/parti-a/prova-cb-mv/*/*/sandik-*/cb-sandik-sonuc-s1.jpg tekrar.jpg 2>/dev/null ||
    cp "$(find "$SSPS_SITE/trees/parti-a" -name 'cb-sandik-sonuc-s1.jpg' | head -1)" tekrar.jpg
drop tekrar.jpg
draw duzeltme.jpg "${results[0]}"; drop duzeltme.jpg
draw uc-sayfa.pdf "${three[@]}"; drop uc-sayfa.pdf
draw bos.jpg -; drop bos.jpg
draw bilinmeyen.jpg 9999999999; drop bilinmeyen.jpg
draw okunmaz.jpg -; drop okunmaz.jpg
wait_for at_least quarantined 3
wait_for at_least duplicates 1
wait_for at_least versions 1
file=$(basename "$(find "$SSPS_SITE/quarantine" -name '*okunmaz.jpg')")
as ayse desk identify "$file" "${results[1]}" --why "read by eye"
as veli desk identify "$file" "${results[1]}" --why "read by eye, compared with the list"
place=$(grep "^${results[11]}," "$SSPS_SITE/registry.csv" | awk -F, '{ print $4 "/" $5 "/" $7 }')
as ayse absent add "$place" --reason not-opened --why "minutes of the board"
sleep 75  # a segment of the feed, and the sums

mkdir fetched
client parti-b "$(key parti-b)" <<<"get -r / fetched" >/dev/null
"$python" "$old/scripts/mirror" --host 127.0.0.1 --port $port --user parti-a --key "$(key parti-a)" \
    --known-hosts "$SSPS_SITE/clients/known_hosts" \
    --signers "$SSPS_SITE/clients/parti-a/allowed_signers" --to mirror
client parti-a "$(key parti-c)" <<<"ls" 2>/dev/null || true  # refused: another party's key
for _ in $(seq 2200); do echo "get BENIOKU.txt /dev/null"; done | client parti-c "$(key parti-c)" >/dev/null
page=$(cd "$SSPS_SITE/trees/parti-a" && find prova-cb-mv -name 'cb-sandik-sonuc-s1.jpg' | head -1)
sleep 3
ssps audit receipt parti-a "$page" >receipt.txt

ssh-keygen -q -t ed25519 -N "" -C parti-c-2 -f new-key
as veli key rotate parti-c --public-key new-key.pub --overlap 1h --apply --why "yearly"
as ayse party suspend parti-c --why "letter 4"
as ayse party resume parti-c --why "letter 5"
as ayse key host next --apply --why "next year"
as veli key signing next --apply --why "next year"
sed -i 's/^keep_days.*/keep_days = 3000/' "$SSPS_SITE/site.toml"  # by hand, and taken up on SIGHUP
kill -HUP "$daemons"
sleep 4
kill "$daemons"
wait "$daemons"
as veli key signing rotate --apply --why "next year"

# The next server is killed while a file is open.
start
"$python" - "$SSPS_SITE" $port <<'PY' &
import sys
import time
from pathlib import Path

import paramiko

site, port = Path(sys.argv[1]), int(sys.argv[2])
client = paramiko.SSHClient()
client.load_host_keys(str(site / "clients/known_hosts"))
key = str(site / "clients/parti-a/id_ed25519")
client.connect("127.0.0.1", port, "parti-a", key_filename=key, look_for_keys=False, allow_agent=False)
file = client.open_sftp().open("BENIOKU.txt")
file.read(10)
Path("open").touch()
time.sleep(60)
PY
wait_for test -e open
sleep 3
pkill -KILL -f -- "--site $SSPS_SITE"
kill -KILL "$daemons"
sleep 2

# One page stays in the intake, one in the spool: claimed, and not filed.
draw alinan.jpg "${results[3]}"; drop alinan.jpg
"$python" - "$SSPS_SITE" <<'PY'
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from config import load
from config.registry import INDEX, Registry
from keys.ledger import FILING, FOLDER, Ledger
from publisher import catalog
from publisher.catalog import Catalog
from publisher.clerk import Clerk, World
from publisher.intake import Candidate
from publisher.page import Stamp
from publisher.quarantine import Quarantine
from publisher.shelf import Shelf

site = Path(sys.argv[1])
registry = Registry(site / INDEX)
world = World(
    load.load(site), Catalog(catalog.url(site)), Ledger(site / FOLDER / FILING), Shelf(site),
    Quarantine(site), registry.lookup, lambda: datetime.now(UTC), lambda: "0a1b2c3d",
)  # fmt: skip
path = site / "intake/alinan.jpg"
assert Clerk(world).claim([Candidate(site / "intake", str(path), Stamp.of(path.lstat()))])
os._exit(0)
PY
draw bekleyen.jpg "${results[5]}"; drop bekleyen.jpg

tar --format=posix --xattrs --xattrs-include='user.*' --owner=0 --group=0 --numeric-owner --sort=name \
    -cf - site mirror receipt.txt | xz -9e >"$archive"
ls -l "$archive"
