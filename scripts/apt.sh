# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0
#
# Sourced by scripts that make Debian roots or unpack kernels: where packages come from, and what
# is in those of kernels.

# apt_sources CODENAME - lines for sources.list. Debian 13's backports have newer kernels and QEMU.
apt_sources()
{
	mirror=http://deb.debian.org/debian
	cat <<-END
	deb $mirror $1 main
	deb $mirror $1-updates main
	deb http://security.debian.org/debian-security $1-security main
	END
	[ "$1" = bookworm ] || echo "deb $mirror $1-backports main"
}

# apt_preferences CODENAME - what is wanted of the backports. Everything else there ranks below the
# release.
apt_preferences()
{
	cat <<-END
	Package: src:linux src:linux-signed-amd64 src:linux-signed-arm64 src:linux-base src:qemu src:seabios
	Pin: release n=$1-backports
	Pin-Priority: 600
	END
}

# apt_hook CODENAME - a setup hook of mmdebstrap that gives the root these preferences
apt_hook()
{
	# shellcheck disable=SC2016 # $1 is mmdebstrap's
	printf 'mkdir -p "$1/etc/apt/preferences.d"; echo "%s" > "$1/etc/apt/preferences.d/postcopy"\n' \
		"$(apt_preferences "$1")"
}

# newest_headers SERIES ARCHITECTURE [COMMAND...] - the package with headers of its newest release, as
# packages of 7.x and their like are called. The command runs apt-cache.
newest_headers()
{
	pattern=$(headers_pattern "$1" "$2")
	shift 2
	"$@" apt-cache search --names-only "^$pattern\$" | cut -d' ' -f1 | sort -V | tail -n 1
}

# headers_pattern SERIES ARCHITECTURE - a regular expression for these names
headers_pattern()
{
	flavour=
	case $1 in
	*-rt) flavour=-rt ;;
	esac
	echo "linux-headers-${1%-rt}\.[0-9.]+\+deb[0-9]+$flavour-$2"
}

# kernel_parts RELEASE [COMMAND...] - the packages with its image and modules. Of newer kernels the one
# of the old name only depends on them.
kernel_parts()
{
	release=$1
	shift
	if "$@" apt-cache show "linux-binary-$release" >/dev/null 2>&1; then
		echo "linux-base-$release linux-binary-$release linux-modules-$release"
	else
		echo "linux-image-$release"
	fi
}

# kernel_unpack TREE - the packages in this directory; modules are in TREE/lib then
kernel_unpack()
{
	for deb in *.deb; do
		dpkg-deb -x "$deb" "$1"
	done
	# Debian 13 and its backports say /usr/lib
	[ ! -d "$1/usr/lib/modules" ] || {
		mkdir -p "$1/lib"
		mv "$1/usr/lib/modules" "$1/lib/"
	}
}

# kernel_keep TREE RELEASE DIR - moves its image and modules to DIR
kernel_keep()
{
	depmod -b "$1" "$2"
	mkdir -p "$3/boot" "$3/lib/modules"
	[ ! -d "$1/boot" ] || mv "$1/boot"/* "$3/boot/"
	rm -rf "$3/lib/modules/$2"
	mv "$1/lib/modules/$2" "$3/lib/modules/"
}
