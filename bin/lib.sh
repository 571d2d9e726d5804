# What the scripts beside this one share: the checkout's own Python environment, .venv. Sourced, never run.
# Sets nothing but functions; the caller has set $here, the checkout.

say() {
    printf '%s\n' "$*" >&2
}

is_root() {
    [ "$(id -u)" -eq 0 ]
}

# The first Python of at least 3.11, printed; with "venv" as argument one that can make environments. The system's comes
# first: it gets the security updates, and is built for speed (docs/decisions/0032). $MAILSERV_PYTHON comes before it.
find_python() {
    want_venv=${1:+import venv; from ensurepip import bootstrap} # Debian leaves ensurepip to a package of its own
    want_venv=${want_venv:-pass}
    for name in ${MAILSERV_PYTHON:-} /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c "$want_venv; import sys; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

# Install Debian packages without a question. $*: their names.
apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends "$@" >&2
}

# Install packages so that none of them starts a service or asks a question. $*: their names.
install_quietly() {
    policy=/usr/sbin/policy-rc.d # invoke-rc.d asks it before it starts anything
    ours=no
    if [ ! -e "$policy" ]; then
        ours=yes
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    if command -v debconf-set-selections >/dev/null; then
        echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections
    fi
    apt_install "$@" || say "$0: apt-get could not install all of: $*"
    if [ "$ours" = yes ]; then
        rm -f "$policy"
        trap - EXIT
    fi
}

# A Python that can make environments, printed. Installs python3-venv as root, else says the one line that does.
need_python() {
    if find_python venv; then
        return 0
    fi
    packages=python3-venv
    found=$(find_python || true)
    case $found in
    '') packages="python3 python3-venv" ;;
    */python3.*) packages="$(basename "$found")-venv" ;; # a second Python beside the system's older one
    esac
    if is_root && command -v apt-get >/dev/null; then
        say "mailserv: installing $packages"
        apt_install $packages >&2 || true
        if find_python venv; then
            return 0
        fi
    fi
    if [ -z "$found" ]; then
        say "mailserv: needs Python 3.11 or newer, with its venv module. On Debian and Ubuntu:"
    else
        say "mailserv: $found cannot make a virtual environment. On Debian and Ubuntu this line helps:"
    fi
    say "    sudo apt-get install -y $packages"
    return 1
}

# What an installation depends on, as one number: a change of it means to install again. Another Python, too, as an
# upgrade of the distribution brings: it finds none of the packages. $venv: the environment.
fingerprint() {
    { cat "$here/setup.py" "$here/pyproject.toml" && ls "$here/plugins" && readlink -f "$venv/bin/python"; } | cksum
}

# Make .venv and install the checkout into it, if that has not been done. $1: "" or the extra "test".
prepare() {
    venv=$here/.venv
    stamp=$venv/.installed${1:+-$1}
    want=$(fingerprint)
    if [ -x "$venv/bin/mailserv" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then
        return 0
    fi
    if [ -e "$venv" ] && [ ! -w "$venv" ]; then
        [ -x "$venv/bin/mailserv" ] || { say "mailserv: $venv is not complete and not ours to write"; return 1; }
        say "mailserv: $venv is not of this version, and not ours to write; going on with it"
        return 0
    fi
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        python=$(need_python) || return 1
        say "mailserv: making $venv with $python"
        "$python" -m venv --clear "$venv" >&2
    fi
    say "mailserv: installing into $venv (a minute, the first time)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --use-pep517 --editable "$here${1:+[$1]}" >&2
    want=$(fingerprint)
    printf '%s\n' "$want" >"$venv/.installed"
    printf '%s\n' "$want" >"$stamp"
}
