#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Runs a command in a root directory with another Debian release than this machine's, as if this
# machine had that release. The root is in the cache; if it is not there, it is made, which takes
# two minutes. This tree and the cache are at the same places in it. What `make` builds in it goes to
# build/debianRELEASE, and test VMs can have the root as theirs (vm.sh). Nothing is installed on this
# machine. Without root it takes user namespaces and newuidmap, as mmdebstrap does.
#
# usage: DEBIAN=13 debian.sh [COMMAND...]

set -eu
export PATH="$PATH:/usr/sbin:/sbin"

here=$(cd "$(dirname "$0")" && pwd)
. "$here/arch.sh"
. "$here/apt.sh"
[ "$enter" ] || {
	[ $# -eq 0 ] || exec "$@"
	exit 0
}

case $debian in
12) name=bookworm ;;
13) name=trixie ;;
esac
# Another architecture is cross-built in this root, too.
root=$cache/debian$debian/root
tree=$(realpath "$here/..")
cache=$(realpath -m "$cache")

# inside ROOT COMMAND... - in namespaces of its own, so nothing stays mounted
inside()
{
	top=$1
	shift
	ids=
	[ "$(id -u)" -eq 0 ] || ids="--map-root-user --map-auto"
	mkdir -p "$top$tree" "$top$cache"
	# shellcheck disable=SC2086,SC2016 # words; expanded by the inner shell
	unshare $ids --mount -- sh -euc '
		top=$1 tree=$2 cache=$3
		shift 3
		for dir in "$tree" "$cache" /proc /dev /sys; do
			mount --rbind "$dir" "$top$dir"
		done
		exec chroot "$top" env -C "$tree" "$@"
	' sh "$top" "$tree" "$cache" DEBIAN="$debian" HOME="$HOME" POSTCOPY_CACHE="$cache" \
		POSTCOPY_INSIDE=y DEBIAN_FRONTEND=noninteractive "$@"
}

make_root()
{
	new=$root.new
	rm -rf --one-file-system "$new"
	mkdir -p "$(dirname "$root")"
	echo "debian: making a root with Debian $debian in $root"
	# Nothing is to be started in the root.
	# shellcheck disable=SC2016 # $1 is mmdebstrap's
	apt_sources "$name" | mmdebstrap --quiet --variant=apt --include=ca-certificates \
		--setup-hook="$(apt_hook "$name")" \
		--customize-hook='printf "#!/bin/sh\nexit 101\n" > "$1/usr/sbin/policy-rc.d"
			chmod 755 "$1/usr/sbin/policy-rc.d"' \
		"$name" "$new" -
	inside "$new" env -u ARCH scripts/setup.sh test
	inside "$new" apt-get clean
	mv "$new" "$root"
}

# One at a time: two would write to the same directory.
mkdir -p "$cache"
(
	flock 9
	[ -d "$root" ] || make_root >&2
) 9> "$cache/debian$debian.lock"
[ $# -eq 0 ] || inside "$root" "$@"
