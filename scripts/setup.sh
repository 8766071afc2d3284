# Sourced by the scripts in this folder, from the root of the repository. Installs what they need
# without a question, says what it installs, and does nothing if everything is there already.
#
#   set_up [--dev] PACKAGE...     Debian packages, then .venv with this project; --dev: with the checks

_as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

_recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# Debian's own Python comes first: it is built with profile-guided optimization, and serves sessions
# up to 7 % faster than most that are built from source.
_python() {
    local candidate
    for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        if _recent "$candidate" && "$candidate" -c 'import venv, ensurepip' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

_debian_packages() {
    local package missing=()
    for package in "$@"; do
        # Debian 13 has libzbar0 under the name libzbar0t64. dpkg-query fails if either is unknown.
        [[ $(dpkg-query -W -f='${Status}\n' "$package" "${package}t64" 2>/dev/null) == *' installed'* ]] ||
            missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    echo "set-up: installing Debian packages: ${missing[*]}" >&2
    if ! { _as_root apt-get update -qq &&
        _as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >&2; then
        echo "set-up: apt-get failed, run as root: apt-get install ${missing[*]}" >&2
        return 1
    fi
}

_made_of() {
    sha256sum setup.cfg pyproject.toml .ci/constraints.txt
    echo "$1"
    "$1" --version
    pwd
}

set_up() {
    local extra="" python made wanted
    if [ "$1" = --dev ]; then extra="[dev]"; shift; fi
    _python >/dev/null || set -- python3 python3-venv "$@"
    _debian_packages "$@" || return 1
    python=$(_python) || { echo "set-up: no Python 3.11 or newer with venv was found" >&2; return 1; }
    wanted=$(_made_of "$python")
    for made in .venv/made .venv/made-dev; do
        # A .venv that was made with --dev is good enough without it.
        if { [ -z "$extra" ] || [ "$made" = .venv/made-dev ]; } && [ "$(cat "$made" 2>/dev/null)" = "$wanted" ]; then
            return
        fi
    done
    # Prefer Debian's Python if its venv package can be installed; otherwise use the one found.
    if [ "$python" != /usr/bin/python3 ] && _recent /usr/bin/python3 && _as_root true 2>/dev/null &&
        _debian_packages python3-venv; then
        python=$(_python)
        wanted=$(_made_of "$python")
    fi
    echo "set-up: making .venv and installing this project${extra:+ with its checks}" >&2
    "$python" -m venv --clear .venv &&
        .venv/bin/pip install --quiet --disable-pip-version-check --constraint .ci/constraints.txt \
            --editable ".$extra" >&2 ||
        { echo "set-up: pip failed, see above" >&2; return 1; }
    echo "$wanted" >".venv/made${extra:+-dev}"
}
