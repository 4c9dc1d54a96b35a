#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Fills the cache with what another architecture needs: a Debian root for the test VM, which
# the cross compiler also takes its libraries from, and kernels with their headers. Takes no
# root, and nothing is installed on this machine. With nothing missing it takes no time.
#
# usage: ARCH=arm64 foreign.sh

set -eu
export PATH="$PATH:/usr/sbin:/sbin"

here=$(cd "$(dirname "$0")" && pwd)
. "$here/arch.sh"
[ "$foreign" ] || exit 0

# shellcheck source=/dev/null
. /etc/os-release
# shellcheck source=scripts/apt.sh
. "$here/apt.sh"
# Of this release
series=$("$here/kernel.sh" list "$host_debian")
# Where apt's and unpacked files are
place=$(dirname "$root")

# What the tests call in the VM, and what umig is built with.
packages="bash coreutils sed grep mawk findutils diffutils hostname util-linux mount kmod procps
	psmisc iproute2 socat jq gzip xz-utils python3-minimal libpython3-stdlib
	qemu-system-arm qemu-system-common qemu-utils nbdkit libnbd-bin gnutls-bin libnuma1
	libc6-dev linux-libc-dev libnbd-dev libjansson-dev libxxhash-dev libseccomp-dev
	libgnutls28-dev nbdkit-plugin-dev"

make_root()
{
	tmp=$root.new
	rm -rf "$tmp"
	mkdir -p "$(dirname "$root")"
	echo "foreign: making a Debian root for $arch in $root"
	# shellcheck disable=SC2086 # a list of words
	apt_sources "$VERSION_CODENAME" | mmdebstrap --quiet --variant=extract --architectures="$arch" \
		--include="$(echo $packages | tr ' ' ,)" \
		--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
		--setup-hook="$(apt_hook "$VERSION_CODENAME")" \
		"$VERSION_CODENAME" "$tmp" -
	# Packages are unpacked and not configured, so links that their scripts would make are missing.
	ln -sf bash "$tmp/usr/bin/sh"
	ln -sf mawk "$tmp/usr/bin/awk"
	echo root:x:0:0:root:/root:/bin/bash > "$tmp/etc/passwd"
	echo root:x:0: > "$tmp/etc/group"
	mv "$tmp" "$root"
}

# A private configuration: this machine's packages are not touched.
foreign_apt()
{
	apt=$place/apt
	mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/preferences.d"
	: > "$apt/status"
	apt_sources "$VERSION_CODENAME" > "$apt/sources.list"
	apt_preferences "$VERSION_CODENAME" > "$apt/preferences"
	cat > "$apt/apt.conf" <<-END
	Dir::Etc::SourceList "$apt/sources.list";
	Dir::Etc::SourceParts "-";
	Dir::Etc::Preferences "$apt/preferences";
	Dir::Etc::PreferencesParts "$apt/preferences.d";
	Dir::State::Lists "$apt/lists";
	Dir::State::status "$apt/status";
	Dir::Cache "$apt";
	APT::Architecture "$arch";
	APT::Architectures { "$arch"; };
	APT::Sandbox::User "";
	END
	APT_CONFIG=$apt/apt.conf "$@"
}

# The release that a series has here as headers of this machine: then both architectures use the
# same scripts, which are programs of this machine.
release_of()
{
	case $1 in
	6.1) package=linux-headers-$arch ;;
	6.12) package=linux-headers-$1-$arch ;;
	6.12-16k) package=linux-headers-6.12-$arch-16k ;;
	*)
		newest_headers "$1" "$arch" foreign_apt | sed 's/^linux-headers-//'
		return
		;;
	esac
	foreign_apt apt-cache depends "$package" |
		sed -n 's/.*Depends: linux-headers-\([0-9].*\)/\1/p' | head -n 1
}

unpack_kernel()
{
	release=$1
	tmp=$(mktemp -d "$place/unpack.XXXXXX")
	echo "foreign: unpacking Linux $release into $kernel_dir"
	# shellcheck disable=SC2046 # a list of words
	(cd "$tmp" && foreign_apt apt-get -q download $(kernel_parts "$release" foreign_apt) \
		"linux-headers-$release" && kernel_unpack tree)
	mkdir -p "$kernel_dir/usr/src"
	headers=$tmp/tree/usr/src/linux-headers-$release
	# The scripts of the headers package are programs of the other architecture.
	for link in scripts tools; do
		kbuild=$(readlink "$headers/$link" | sed "s,.*/\(linux-kbuild-[^/]*\)/.*,\1,")
		[ -d "/usr/lib/$kbuild" ] || {
			echo "foreign: $kbuild is not installed here; apt-get install $kbuild" >&2
			exit 1
		}
		ln -sfn "/usr/lib/$kbuild/$link" "$headers/$link"
	done
	# Newer ones name the place where they would be installed.
	sed -i "s,/usr/src/linux-headers-$release,$kernel_dir&," "$headers/Makefile"
	rm -rf "$tmp/tree/lib/modules/$release/build" "$tmp/tree/lib/modules/$release/source"
	kernel_keep "$tmp/tree" "$release" "$kernel_dir"
	rm -rf "$kernel_dir/usr/src/linux-headers-$release"
	mv "$headers" "$kernel_dir/usr/src/"
	ln -s "$kernel_dir/usr/src/linux-headers-$release" "$kernel_dir/lib/modules/$release/build"
	rm -rf "$tmp"
}

[ -d "$root" ] || make_root
updated=
for kernel in $series; do
	"$here/kernel.sh" "$kernel" image >/dev/null 2>&1 &&
		"$here/kernel.sh" "$kernel" build >/dev/null 2>&1 && continue
	[ "$updated" ] || foreign_apt apt-get -q update
	updated=y
	unpack_kernel "$(release_of "$kernel")"
done
