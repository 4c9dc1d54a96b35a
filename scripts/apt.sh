# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0
#
# Sourced by scripts that make Debian roots: where packages come from.

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
