#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Prints the accelerator for the test VM, kvm or tcg, and on stderr the reason.
#
# kvm takes a /dev/kvm that boots a stock kernel and gives it SVM or VMX, because tests run
# guests in the VM. Some hosts have a /dev/kvm that does neither, so this boots a kernel with
# init.c, which says what it has found. That may take up to 5 s; test.sh does it once.
# ACCEL=tcg or ACCEL=kvm decides without trying.
#
# usage: accel.sh IMAGE

set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/arch.sh
. "$here/../../scripts/arch.sh"
limit=5

chosen()
{
	echo "accel.sh: $1: $2" >&2
	echo "$1"
	exit
}

case ${ACCEL-} in
tcg|kvm) chosen "$ACCEL" "ACCEL says so" ;;
'') ;;
*)
	echo "accel.sh: ACCEL=$ACCEL is neither tcg nor kvm" >&2
	exit 2
	;;
esac
[ -e /dev/kvm ] || chosen tcg "there is no /dev/kvm"
[ -w /dev/kvm ] || chosen tcg "/dev/kvm is not for this user"

tmp=$(mktemp -d /tmp/postcopy-accel.XXXXXX)
trap 'rm -rf "$tmp"' EXIT
make -s -C "$here" || exit 1
(cd "$here/../../$build/selftests" && echo init | cpio --quiet -o -H newc) > "$tmp/initramfs"
timeout -k 1 "$limit" qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -display none \
	-accel kvm -cpu host -m 256M -kernel "$1" -initrd "$tmp/initramfs" \
	-append "console=ttyS0 loglevel=5 panic=-1 vm.probe" \
	-serial "file:$tmp/console" < /dev/null > "$tmp/qemu" 2>&1 &
qemu=$!
# A QEMU whose KVM has given up says so and stays, so this does not wait for its end alone.
while kill -0 "$qemu" 2>/dev/null && ! grep -q 'KVM internal error' "$tmp/qemu"; do
	sleep 0.05
done
kill "$qemu" 2>/dev/null
wait "$qemu" 2>/dev/null
if grep -q 'init: processors: guests' "$tmp/console" 2>/dev/null; then
	chosen kvm "/dev/kvm runs a stock kernel, which can have guests"
elif grep -q 'init: processors:' "$tmp/console" 2>/dev/null; then
	chosen tcg "/dev/kvm gives its kernels neither SVM nor VMX (nested virtualization)"
fi
if grep -q 'KVM internal error' "$tmp/qemu"; then
	chosen tcg "/dev/kvm fails on a stock kernel (KVM internal error)"
fi
chosen tcg "/dev/kvm has not run a stock kernel in $limit s"
