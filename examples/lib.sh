# shellcheck shell=bash
# What the builds of the example images share: one Debian base layer, an image put on top of it by umoci, and a
# cache by the hash of the recipe. Sourced by examples/*/build.
#
# The cache is images/ below $BEDPLATE_CACHE, or below target/ in the repository, or, as installed documents are not to be
# written to, below /var/cache/bedplate-examples. It holds one OCI layout per image and one for the base, each named by
# the hash of everything it is made from; what is in it is complete.

# What fails in $(…) is no less a failure.
shopt -s inherit_errexit

readonly suite=trixie
# All files that are newer get this time, so that a recipe gives the same layers on any day.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1767225600}
export LC_ALL=C.UTF-8
umask 022

examples=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
repository=$(dirname "$examples")
if [ -e "$repository/Cargo.toml" ]; then cache=$repository/target; else cache=/var/cache/bedplate-examples; fi
cache=${BEDPLATE_CACHE:-$cache}/images
architecture=$(dpkg --print-architecture)
work=

say() { printf '%s: %s\n' "${0#"$repository"/}" "$*" >&2; }
die() { say "error: $*"; exit 1; }

tidy() {
    if [ -n "$work" ]; then rm -rf --one-file-system "$work"; fi
}
trap tidy EXIT

# need PROGRAM=PACKAGE...: each program is there, or its Debian package is named.
need() {
    local pair missing=()
    for pair; do
        command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -eq 0 ] || die "missing programs; run: apt-get install ${missing[*]}"
    [ "$(id -u)" -eq 0 ] || die "installing packages into a directory needs root"
}

# recipe PATH...: the hash of files and directories, by name and content, and of what else shapes the result.
recipe() {
    local path
    {
        printf '%s %s %s\n' "$suite" "$architecture" "$SOURCE_DATE_EPOCH"
        for path; do
            # By the name below the path: where a repository or a program lies does not matter.
            find "$path" -type f -printf '%P\n' | sort
            find "$path" -type f -print0 | sort -z | xargs -0 cat
        done
    } | sha256sum | cut -c1-16
}

# site LABEL: the address of the archive that apt on this machine uses for Debian or Debian-Security.
site() {
    local sites
    # shellcheck disable=SC2016 # apt's own variable
    sites=$(apt-get indextargets --format '$(SITE)' 'Identifier: Packages' 'Origin: Debian' "Label: $1" | sort -u)
    head -n 1 <<<"$sites"
}

# sources: deb lines for the suite, from the archives that this machine uses.
sources() {
    local main security
    main=$(site Debian)
    security=$(site Debian-Security)
    [ -n "$main" ] || die "apt knows no Debian archive; run: apt-get update"
    echo "deb $main $suite main"
    echo "deb $main $suite-updates main"
    if [ -n "$security" ]; then echo "deb $security $suite-security main"; fi
}

# trim ROOTFS: remove what no daemon reads, and give newer files the recipe's time. Devices are made at a start.
trim() {
    find "$1/dev" -mindepth 1 -delete
    rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/var/cache/debconf/*-old "$1"/var/cache/ldconfig/* \
        "$1"/var/log/* "$1"/var/lib/dpkg/*-old "$1"/etc/*- "$1"/tmp/* "$1"/run/* "$1"/usr/share/{info,lintian,bug}
    find "$1" -xdev -newermt "@$SOURCE_DATE_EPOCH" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
}

# pack LAYOUT TAG BUNDLE WHAT: the bundle's changes become a layer; WHAT is its line in the image's history.
pack() {
    local created
    created=$(date --utc --date "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
    umoci repack --history.created "$created" --history.created_by "$4" --history.comment "" --history.author "" \
        --image "$1:$2" "$3"
    umoci config --no-history --created "$created" --architecture "$architecture" --image "$1:$2"
}

# store NAME HASH LAYOUT: put a finished layout into the cache, in place of those of older recipes.
store() {
    local old
    sync --file-system "$3"
    mv --no-target-directory "$3" "$cache/$1-$2"
    for old in "$cache/$1"-????????????????; do
        if [ "$old" != "$cache/$1-$2" ]; then rm -rf "$old"; fi
    done
}

# empty LAYOUT: make it, with an image without layers tagged base.
empty() {
    umoci init --layout "$1"
    umoci new --image "$1:base"
}

# base: print the layout that holds the Debian base as oci:LAYOUT:base; make it when the cache lacks it.
base() {
    local hash layout started=$SECONDS
    hash=$(recipe "$examples/lib.sh")
    layout=$cache/base-$hash
    if [ ! -d "$layout" ]; then
        say "making the Debian $suite base layer"
        empty "$work/base"
        umoci unpack --image "$work/base:base" "$work/base-bundle"
        # Copyright files stay: whoever hands the image on has to hand them on.
        sources | mmdebstrap --quiet --variant=essential --format=directory \
            --aptopt='Acquire::Languages "none"' \
            --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
            --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
            --dpkgopt='path-exclude=/usr/share/locale/*' \
            "$suite" "$work/base-rootfs" -
        rm -f "$work/base-rootfs/etc/apt/sources.list"
        trim "$work/base-rootfs"
        rmdir "$work/base-bundle/rootfs"
        mv "$work/base-rootfs" "$work/base-bundle/rootfs"
        pack "$work/base" base "$work/base-bundle" "mmdebstrap --variant=essential $suite"
        umoci gc --layout "$work/base"
        rm -rf "$work/base-bundle"
        store base "$hash" "$work/base"
        say "base layer made in $((SECONDS - started)) s"
    fi
    printf '%s\n' "$layout"
}

# install_packages ROOTFS PACKAGE...: as apt-get install, by this machine's apt: the image has none. dpkg runs
# inside the rootfs, so that packages that ship ./lib as a directory do not replace the link that it is there.
install_packages() {
    local root=$1
    shift
    mkdir -p "$root/etc/apt" "$root/var/lib/apt/lists/partial" "$root/var/cache/apt/archives/partial"
    sources >"$work/sources.list"
    {
        # How this machine reaches the archive: proxies and their like.
        apt-config dump --format '%F "%v";%n' Acquire::http Acquire::https
        cat <<CONFIG
Dir "$root";
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Trusted "/etc/apt/trusted.gpg";
Dir::Etc::TrustedParts "/etc/apt/trusted.gpg.d";
DPkg::Chroot-Directory "$root";
DPkg::Use-Pty "false";
APT::Architecture "$architecture";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
CONFIG
    } >"$work/apt.conf"
    # What their scripts use; trim removes it.
    mknod --mode=666 "$root/dev/null" c 1 3
    mknod --mode=666 "$root/dev/urandom" c 1 9
    # Packages of services try to start them.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    APT_CONFIG=$work/apt.conf apt-get update -qq
    APT_CONFIG=$work/apt.conf DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq "$@" >"$work/apt.log" 2>&1 ||
        { cat "$work/apt.log" >&2; die "installing $*"; }
    rm "$root/usr/sbin/policy-rc.d"
}

# add_user ROOTFS NAME ID HOME: a system user with a group of its own. The id is fixed: it owns files on hosts.
add_user() {
    echo "$2:x:$3:" >>"$1/etc/group"
    echo "$2:x:$3:$3::$4:/usr/sbin/nologin" >>"$1/etc/passwd"
    echo "$2:!::" >>"$1/etc/gshadow"
    echo "$2:!:::::::" >>"$1/etc/shadow"
}

# publish LAYOUT OUTPUT: the output directory becomes a copy, whole or not at all; files are linked where possible.
publish() {
    local new=$2.new.$$
    if [ -e "$2" ] && [ ! -e "$2/oci-layout" ]; then
        rmdir "$2" 2>/dev/null || die "$2 exists and is no OCI layout"
    fi
    mkdir -p "$(dirname "$2")"
    cp --archive --link "$1" "$new" 2>/dev/null || { rm -rf "$new"; cp --archive "$1" "$new"; }
    rm -rf "$2"
    mv --no-target-directory "$new" "$2"
}

# build_image NAME OUTPUT DIRECTORY [FILE...]: make or reuse the image NAME and leave it as oci:OUTPUT:latest. Made from
# the recipe in DIRECTORY and further files by the caller's `fill ROOTFS`; `config` holds umoci's options for its config.
# It lies on the base layer, or on nothing with from=scratch.
config=()
from=base
build_image() {
    local name=$1 output=$2 hash layout started=$SECONDS
    shift 2
    need mmdebstrap=mmdebstrap umoci=umoci flock=util-linux
    mkdir -p "$cache"
    cache=$(readlink -f "$cache")
    # Builds wait for each other: all want the base layer.
    exec 9>"$cache/lock"
    flock 9
    work=$(mktemp --directory "$cache/work.XXXXXX")
    hash=$(recipe "$examples/lib.sh" "$@")
    layout=$cache/$name-$hash
    if [ ! -d "$layout" ]; then
        if [ "$from" = base ]; then
            cp --archive "$(base)" "$work/layout"
        else
            empty "$work/layout"
        fi
        umoci unpack --image "$work/layout:base" "$work/bundle"
        fill "$work/bundle/rootfs"
        if [ -d "$1/exports" ]; then cp --recursive "$1/exports" "$work/bundle/rootfs/exports"; fi
        trim "$work/bundle/rootfs"
        umoci tag --image "$work/layout:base" latest
        pack "$work/layout" latest "$work/bundle" "examples/$name/build"
        umoci config --no-history --image "$work/layout:latest" "${config[@]}"
        umoci rm --image "$work/layout:base"
        umoci gc --layout "$work/layout"
        store "$name" "$hash" "$work/layout"
    fi
    publish "$layout" "$output"
    say "oci:$output:latest, $(du --summarize --block-size=1M "$output" | cut -f1) MB, $((SECONDS - started)) s"
}
