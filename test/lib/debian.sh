# shellcheck shell=bash
# Packages of Debian's mirrors without touching the system's own package sources, and builds of this checkout for
# another server than the installed one; sourced by scripts in test/.

# Let apt, in a folder, know a release; then call apt-get and apt-cache with "${apt[@]}". Signatures are checked as always.
use_release() {
    local state=$1 release=$2 kind
    local keys='signed-by=/usr/share/keyrings/debian-archive-keyring.gpg'
    apt=(-o "Dir::Etc::SourceList=$state/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$state/lists" -o "Dir::Cache=$state/cache" -o APT::Sandbox::User=root -q)
    mkdir -p "$state/lists/partial" "$state/cache"
    for kind in deb deb-src; do
        echo "$kind [$keys] http://deb.debian.org/debian $release main"
        echo "$kind [$keys] http://deb.debian.org/debian $release-updates main"
        echo "$kind [$keys] http://deb.debian.org/debian-security $release-security main"
    done >"$state/sources.list"
    apt-get "${apt[@]}" update >"$state/log"
}

# Copy this checkout, without what was built, to a folder.
copy_checkout() {
    rm -rf "${1:?}"
    mkdir -p "$1"
    tar -cf - --exclude=./.git --exclude=./build --exclude='*.o' --exclude='*.so' . | tar -xof - -C "$1"
}

# Try a command, which is a function of the caller's, with each version of a source package, the newest first, until one
# does: a mirror may know of versions that it does not have. Prints the version.
first_version() {
    local source=$1 log=$2 version
    shift 2
    for version in $(apt-cache "${apt[@]}" showsrc "$source" | sed -n 's/^Version: //p' | sort -urV); do
        if ("$@" "$version") >>"$log" 2>&1; then
            echo "$version"
            return
        fi
    done
    tail -5 "$log" >&2
    return 1
}
