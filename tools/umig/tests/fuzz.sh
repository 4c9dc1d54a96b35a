#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The control protocol's parser with sanitizers: the corpus, then FUZZ_SECONDS of new input.
. "$(dirname "$0")/lib.sh"

if ! make -s -C "$here/.." tests/fuzz_control >"$tmp/build" 2>&1; then
	skip "fuzz.control" "no clang with libFuzzer (clang-14, libclang-rt-14-dev)"
	finish
fi
"$here/fuzz_control" -runs=0 "$here/corpus" >"$tmp/out" 2>&1
ok $? "fuzz.control_corpus_is_clean" "$tmp/out"
cp -r "$here/corpus" "$tmp/corpus"
"$here/fuzz_control" -max_total_time="${FUZZ_SECONDS:-20}" -max_len=4096 -artifact_prefix="$tmp/" \
	-dict="$here/control.dict" "$tmp/corpus" >"$tmp/out" 2>&1
ok $? "fuzz.control_new_input_is_clean" "$tmp/out"
grep -a 'Done\|cov:' "$tmp/out" | tail -n 1 | sed 's/^/# /'
finish
