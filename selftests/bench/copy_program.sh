#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: copy_program.sh PROGRAM DIR - a program and the libraries it is linked to

set -eu
mkdir -p "$2"
ldd "$1" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | xargs cp -t "$2" "$1"
