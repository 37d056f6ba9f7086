# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced by scripts that need Debian packages of another suite or architecture: no host name is written down anywhere,
# every source is derived from the ones this machine already uses, and nothing of the machine's own apt state is touched.

LPM_CACHE=${LPM_CACHE:-/var/cache/openlpm}
LPM_APT_BASE=bookworm

lpm_die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# The command's output goes to a log; on failure its end is shown, so that a quiet run is still explained when it breaks.
lpm_quiet() {
    local log
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1; then
        tail -n 25 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

# lpm_apt_find SUITE: prints "URI<TAB>SIGNED-BY" of this machine's source for SUITE (either file format); fails if none.
lpm_apt_find() {
    local file
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -f "$file" ] || continue
        awk -v want="$1" '
            function flush(   n, i, list) {
                n = split(suites, list, /[ \t]+/)
                for (i = 1; i <= n; i++)
                    if (list[i] == want && enabled && types ~ /(^|[ \t])deb([ \t]|$)/ && components ~ /(^|[ \t])main([ \t]|$)/ && !done) {
                        split(uris, u, /[ \t]+/); printf "%s\t%s\n", u[1], signed; done = 1
                    }
                types = suites = uris = components = signed = ""; enabled = 1
            }
            BEGIN { enabled = 1 }
            /^#/ { next }
            /^[ \t]*$/ { flush(); next }
            { key = tolower($0); sub(/:.*/, "", key); value = $0; sub(/^[^:]*:[ \t]*/, "", value) }
            key == "types" { types = value }
            key == "suites" { suites = value }
            key == "uris" { uris = value }
            key == "components" { components = value }
            key == "signed-by" { signed = value }
            key == "enabled" && tolower(value) == "no" { enabled = 0 }
            END { flush(); exit !done }' "$file" && return 0
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -f "$file" ] || continue
        awk -v want="$1" '
            $1 == "deb" {
                signed = ""; i = 2
                if ($2 ~ /^\[/) {
                    while (i <= NF) {
                        option = $i; gsub(/[][]/, "", option)
                        if (option ~ /^signed-by=/) signed = substr(option, 11)
                        if ($(i++) ~ /\]$/) break
                    }
                }
                if ($(i + 1) == want && !done) {
                    for (j = i + 2; j <= NF; j++)
                        if ($j == "main") { printf "%s\t%s\n", $i, signed; done = 1; break }
                }
            }
            END { exit !done }' "$file" && return 0
    done
    return 1
}

# lpm_apt_stanza SUITE [LIKE]: prints a source stanza for SUITE on the mirror that serves LIKE (default: the base suite).
lpm_apt_stanza() {
    local found uri signed
    found=$(lpm_apt_find "${2:-$LPM_APT_BASE}") ||
        lpm_die "this machine has no apt source for suite ${2:-$LPM_APT_BASE} (main); OpenLPM is installed on Debian 12"
    IFS=$'\t' read -r uri signed <<<"$found"
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n' "$uri" "$1"
    # A key written in line cannot be carried over; Debian's own key ring serves every suite.
    case $signed in /*) ;; *) signed=/usr/share/keyrings/debian-archive-keyring.gpg ;; esac
    printf 'Signed-By: %s\n\n' "$signed"
}

# lpm_apt_own DIR ARCH PROGRAM ARGS...: apt-get or apt-cache with all its state below DIR, for ARCH, with the sources in
# DIR/sources.
lpm_apt_own() {
    local dir=$1 arch=$2 program=$3
    shift 3
    mkdir -p "$dir/sources" "$dir/state/lists/partial" "$dir/cache/archives/partial" "$dir/none"
    : >"$dir/status"
    "$program" -q -o APT::Get::Assume-Yes=true -o "Dir::Etc::sourceparts=$dir/sources" -o Dir::Etc::sourcelist=/dev/null \
        -o "Dir::Etc::preferencesparts=$dir/none" -o Dir::Etc::preferences=/dev/null \
        -o "Dir::State=$dir/state" -o "Dir::State::status=$dir/status" -o "Dir::Cache=$dir/cache" \
        -o "APT::Architecture=$arch" -o "APT::Architectures=$arch" -o APT::Sandbox::User=root \
        -o APT::Install-Recommends=false -o Acquire::Languages=none -o Acquire::Retries=3 \
        -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false \
        -o APT::Update::Post-Invoke-Success= -o APT::Keep-Downloaded-Packages=true "$@"
}

# lpm_apt_refresh DIR ARCH: fetches the package lists when they are missing or older than a day.
lpm_apt_refresh() {
    [ -n "$(find "$1/state/lists" -maxdepth 1 -name '*Packages*' -mtime -1 -print -quit 2>/dev/null)" ] ||
        lpm_quiet lpm_apt_own "$1" "$2" apt-get update
}

# lpm_apt_download DIR ARCH PACKAGE...: the packages and all they depend on, as .deb files in DIR/cache/archives.
# Prints the file names.
lpm_apt_download() {
    local dir=$1 arch=$2
    shift 2
    lpm_apt_refresh "$dir" "$arch" || return 1
    lpm_quiet lpm_apt_own "$dir" "$arch" apt-get --download-only install "$@" || return 1
    # What an earlier run left behind must not get into this one: name the files of this very solution.
    lpm_apt_own "$dir" "$arch" apt-get --simulate install "$@" | awk '$1 == "Inst" { print $2, substr($3, 2) }' |
        while read -r package version; do
            find "$dir/cache/archives" -maxdepth 1 -name "${package%%:*}_${version//:/%3a}_*.deb"
        done
}
