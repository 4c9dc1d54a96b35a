#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# report draws a picture of the output of pull --json.
. "$(dirname "$0")/lib.sh"

make_image "$tmp/img" 32
server_start nbdkit -f -r -U "$tmp/s" --filter=delay file "$tmp/img" rdelay=1ms
fake_region 32 4
"$fake" pull --pid 1234 --from "nbd+unix:///?socket=$tmp/s" --rate 16M --json >"$tmp/run.json" 2>"$tmp/err"
ok $? "report.has_a_run" "$tmp/err"
python3 - "$tmp/run.json" <<'PY'
import json, sys
events = [json.loads(l) for l in open(sys.argv[1])]
faults = sum(len(e["faults"]) for e in events if e["event"] == "faults")
# Some were answered by background in the end.
assert 0 < events[-1]["demand_pages"] <= faults <= events[-1]["requests"], (faults, events[-1])
PY
ok $? "report.run_names_every_demand_fault" "$tmp/err"
"$umig" report "$tmp/run.json" -o "$tmp/run.svg" 2>"$tmp/err" && python3 - "$tmp/run.svg" <<'PY'
import sys, xml.dom.minidom
d = xml.dom.minidom.parse(sys.argv[1])
text = " ".join(t.firstChild.data for t in d.getElementsByTagName("text") if t.firstChild and t.firstChild.nodeType == 3)
text += " ".join(t.firstChild.data for t in d.getElementsByTagName("tspan") if t.firstChild)
for word in ("32 MiB", "demand faults", "seconds", "present (MiB)", "waited at least"):
    assert word in text, (word, text)
PY
ok $? "report.draws_four_panels" "$tmp/err"
"$umig" report "$tmp/run.json" -o "$tmp/run.html" 2>"$tmp/err" &&
	grep -q "<svg" "$tmp/run.html" && [ ! -e "$tmp/run.html.svg" ]
ok $? "report.html_has_the_picture_in_it" "$tmp/err"
head -n 3 "$tmp/run.json" >"$tmp/cut.json"
tail -n 1 "$tmp/run.json" | head -c 40 >>"$tmp/cut.json"
echo "umig: a message" >>"$tmp/cut.json"
"$umig" report "$tmp/cut.json" -o "$tmp/cut.svg" 2>"$tmp/err"
ok $? "report.of_a_run_that_was_cut_short_works" "$tmp/err"
"$umig" report "$tmp/img" -o "$tmp/x.svg" 2>"$tmp/err"
[ $? = 1 ] && has_line "$tmp/err" "no progress of a transfer" && [ ! -e "$tmp/x.svg" ]
ok $? "report.of_something_else_says_so" "$tmp/err"
"$umig" report "$tmp/run.json" -o /nonexistent/x.svg 2>"$tmp/err"
[ $? = 1 ]
ok $? "report.into_nowhere_says_so" "$tmp/err"
mkdir "$tmp/bin"
ln -s /bin/sh "$tmp/bin/sh"
python3 - "$tmp/run.json" >"$tmp/long.json" <<'PY'
import sys
lines = open(sys.argv[1]).readlines()
faults = next(l for l in lines if '"faults"' in l)
print("".join(lines[:1] + [faults] * (4000000 // len(faults)) + lines[1:]), end="")
PY
PATH=$tmp/bin "$umig" report "$tmp/long.json" -o "$tmp/x.svg" 2>"$tmp/err"
[ $? = 1 ] && has_line "$tmp/err" "gnuplot-nox"
ok $? "report.without_gnuplot_says_so" "$tmp/err"
"$umig" report "$tmp/run.json" 2>"$tmp/err"
[ $? = 2 ]
ok $? "report.without_an_output_exits_2" "$tmp/err"
finish
