// SPDX-License-Identifier: GPL-2.0
/*
 * umig report: a picture of a transfer, from the JSON lines that pull, recv and restore print.
 *
 * This file writes a script, and gnuplot draws. Four panels: how much was present, where and when
 * the guest waited for pages, for how long, and how fast data came.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "lib/lib.h"
#include "lib/log.h"
#include "lib/options.h"

#define REPORT_BUCKETS	40

struct report {
	json_t *progress;
	json_t *faults;
	json_t *summary;
	json_t *resumed;
	double end;
};

static double report_number(const json_t *o, const char *key)
{
	return json_number_value(json_object_get(o, key));
}

static double report_mib(const json_t *o, const char *key)
{
	double page_size = report_number(o, "page_size");

	/* An older umig did not say it, and knew only these pages. */
	return report_number(o, key) * (page_size > 0 ? page_size : 4096) / (1 << 20);
}

/* Return: 0, or -EINVAL if the line is not an event of umig. */
static int report_add(struct report *r, json_t *o)
{
	const char *event = json_string_value(json_object_get(o, "event"));
	json_t *list = json_object_get(o, "faults"), *fault;
	double at = report_number(o, "seconds");
	size_t i;

	if (!event)
		return -EINVAL;
	if (!strcmp(event, "progress")) {
		json_array_append(r->progress, o);
	} else if (!strcmp(event, "summary")) {
		json_decref(r->summary);
		r->summary = json_incref(o);
	} else if (!strcmp(event, "resumed")) {
		json_decref(r->resumed);
		r->resumed = json_incref(o);
	} else if (!strcmp(event, "faults")) {
		json_array_foreach(list, i, fault) {
			if (json_array_size(fault) == 3)
				json_array_append(r->faults, fault);
		}
	}
	if (at > r->end)
		r->end = at;
	return 0;
}

/* A line that is not JSON is a message for people that went into the same file. */
static int report_read(struct report *r, const char *path)
{
	FILE *f = fopen(path, "re");
	size_t room = 0, events = 0;
	char *line = NULL;

	if (!f) {
		log_error("cannot read %s: %s", path, strerror(errno));
		return -errno;
	}
	while (getline(&line, &room, f) >= 0) {
		json_t *o = *line == '{' ? json_loads(line, JSON_REJECT_DUPLICATES, NULL) : NULL;

		if (o && !report_add(r, o))
			events++;
		json_decref(o);
	}
	free(line);
	fclose(f);
	if (!json_array_size(r->progress) || !events) {
		log_error("%s has no progress of a transfer in it; "
			  "give what 'umig pull --json', recv or restore has printed", path);
		return -EINVAL;
	}
	return 0;
}

static void report_data(FILE *f, const struct report *r)
{
	uint64_t bucket[REPORT_BUCKETS] = { 0 };
	unsigned int first = REPORT_BUCKETS, last = 0, b;
	double at = 0, present = 0;
	json_t *o;
	size_t i;

	fputs("$present << EOD\n", f);
	/* The rate of each stretch, not the smoothed one of the progress bar. */
	json_array_foreach(r->progress, i, o) {
		double next = report_number(o, "seconds"), more = report_mib(o, "present_pages");

		fprintf(f, "%f %f %f\n", next, more,
			i && next > at && more > present ? (more - present) / (next - at) : 0);
		at = next;
		present = more;
	}
	fputs("EOD\n$faults << EOD\n", f);
	json_array_foreach(r->faults, i, o) {
		double ns = json_number_value(json_array_get(o, 2));

		fprintf(f, "%f %f %f\n", json_number_value(json_array_get(o, 0)),
			json_number_value(json_array_get(o, 1)) / (1 << 20), ns / 1e6);
		/* Powers of two of a microsecond. */
		b = ns < 1000 ? 0 : (unsigned int)log2(ns / 1000) + 1;
		b = b < REPORT_BUCKETS ? b : REPORT_BUCKETS - 1;
		bucket[b]++;
		first = b < first ? b : first;
		last = b > last ? b : last;
	}
	fputs("EOD\n$latency << EOD\n", f);
	for (b = first; b <= last && b < REPORT_BUCKETS; b++) {
		double us = b ? exp2(b - 1) : 0;

		if (us < 1000)
			fprintf(f, "%u \"%.0f \302\265s\" %" PRIu64 "\n", b, us, bucket[b]);
		else if (us < 1000000)
			fprintf(f, "%u \"%.0f ms\" %" PRIu64 "\n", b, us / 1024, bucket[b]);
		else
			fprintf(f, "%u \"%.0f s\" %" PRIu64 "\n", b, us / 1048576, bucket[b]);
	}
	fputs("EOD\n", f);
}

/* Marks when the guest was resumed, with a band for the time that the destination took. */
static void report_mark(FILE *f, const struct report *r)
{
	double at = report_number(r->resumed, "seconds");

	if (!r->resumed)
		return;
	fprintf(f, "set object 1 rect from first %f, graph 0 to first %f, graph 1 %s\n",
		at - report_number(r->resumed, "resume_ms") / 1e3, at,
		"fc rgb '#bbbbbb' fs solid noborder behind");
	fprintf(f, "set arrow 1 from first %f, graph 0 to first %f, graph 1 %s\n", at, at,
		"nohead lw 1 lc rgb '#555555'");
}

/* The name of the file is printed without characters that mean something to gnuplot. */
static void report_title(FILE *f, const struct report *r, const char *path)
{
	const char *p = strrchr(path, '/');
	const json_t *s = r->summary;

	fputs("set multiplot layout 4,1 title \"", f);
	for (p = p ? p + 1 : path; *p; p++) {
		if ((unsigned char)*p >= ' ' && !strchr("\"\\$`{}^_@&~", *p))
			fputc(*p, f);
	}
	if (s)
		fprintf(f, ": %.0f MiB in %.1f s, %.0f demand faults, p50 %.1f ms, p99 %.1f ms",
			report_mib(s, "total_pages"), report_number(s, "seconds"),
			report_number(s, "demand_pages"), report_number(s, "p50_ns") / 1e6,
			report_number(s, "p99_ns") / 1e6);
	fputs("\" font ',14'\n", f);
}

static void report_script(FILE *f, const struct report *r, const char *path, const char *out)
{
	const json_t *last = json_array_get(r->progress, json_array_size(r->progress) - 1);
	double total = report_mib(last, "total_pages");
	bool faults = json_array_size(r->faults);

	report_data(f, r);
	fputs("set terminal svg size 900,1100 dynamic enhanced font 'sans,12'\n", f);
	fprintf(f, "set terminal svg background rgb 'white'\nset output '%s'\n", out);
	report_title(f, r, path);
	fputs("set lmargin 11\nset rmargin 3\nset grid lc rgb '#dddddd'\nset border 3\n", f);
	fprintf(f, "set tics out nomirror\nset xrange [0:%f]\n", r->end > 0 ? r->end * 1.01 : 1);
	report_mark(f, r);
	if (r->resumed)
		fprintf(f, "set label 1 ' the guest runs here' at first %f, graph 0.08\n",
			report_number(r->resumed, "seconds"));
	fprintf(f, "set ylabel 'present (MiB)'\nset yrange [0:%f]\nset key off\n"
		   "plot $present using 1:2 with lines lw 2 lc rgb '#0b5394'\n"
		   "unset label 1\n", total * 1.05);
	fprintf(f, "set ylabel 'demand faults at (MiB)'\nset yrange [0:%f]\n", total);
	if (faults)
		fputs("plot $faults using 1:2 with points pt 7 ps 0.3 lc rgb '#b45f06'\n", f);
	else
		fputs("set label 2 'no demand faults' at graph 0.5, graph 0.5 center\n"
		      "plot NaN notitle\nunset label 2\n", f);
	fputs("set ylabel 'rate (MiB/s)'\nset yrange [0:*]\nset xlabel 'seconds'\n"
	      "plot $present using 1:3 with fsteps lw 2 lc rgb '#38761d'\n"
	      "unset object 1\nunset arrow 1\n", f);
	if (faults)
		fputs("set xrange [*:*]\nset xlabel 'waited at least'\nset ylabel 'demand faults'\n"
		      "set boxwidth 0.8\nset logscale y\nset yrange [0.7:*]\nset style fill solid 0.7 noborder\nset xtics rotate by 0\n"
		      "plot $latency using 1:3:xtic(2) with boxes lc rgb '#b45f06'\n", f);
	fputs("unset multiplot\n", f);
}

/* Puts an SVG into an HTML page. Return: 0 or -errno. */
static int report_wrap(const char *svg, const char *out)
{
	FILE *in = fopen(svg, "re"), *f = in ? fopen(out, "we") : NULL;
	char line[4096];
	int ret = f ? 0 : -errno;

	if (f)
		fputs("<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n"
		      "<title>umig report</title>\n"
		      "<body style=\"margin:1em auto;max-width:60em\">\n", f);
	while (f && fgets(line, sizeof(line), in)) {
		if (strncmp(line, "<?xml", 5))
			fputs(line, f);
	}
	if (f) {
		fputs("</body></html>\n", f);
		if (fclose(f))
			ret = -errno;
	}
	if (in)
		fclose(in);
	return ret;
}

/* Return: an exit code. */
static int report_draw(const struct report *r, const char *path, const char *out)
{
	size_t length = strlen(out);
	bool html = length > 5 && !strcmp(out + length - 5, ".html");
	char svg[PATH_MAX];
	struct stat st;
	FILE *f;
	int ret = 0;

	if (strpbrk(out, "'\\\n")) {
		log_error("the name %s has a character that gnuplot does not take", out);
		return UMIG_USAGE;
	}
	snprintf(svg, sizeof(svg), html ? "%s.svg" : "%s", out);
	unlink(svg);
	/* If gnuplot is not installed, nobody reads the script. */
	signal(SIGPIPE, SIG_IGN);
	f = popen("gnuplot -d 2>&1 >/dev/null", "we");
	if (!f) {
		log_error("cannot run gnuplot: %s", strerror(errno));
		return UMIG_FAILED;
	}
	report_script(f, r, path, svg);
	if (pclose(f) || stat(svg, &st) || !st.st_size) {
		log_error("gnuplot has drawn nothing; "
			  "is it installed (Debian: gnuplot-nox), and can %s be written?", svg);
		return UMIG_FAILED;
	}
	if (html) {
		ret = report_wrap(svg, out);
		unlink(svg);
	}
	if (ret) {
		log_error("cannot write %s: %s", out, strerror(-ret));
		return UMIG_FAILED;
	}
	log_info("%s", out);
	return UMIG_OK;
}

static int report_run(int argc, char **argv)
{
	struct report r = { 0 };
	const char *out = NULL;
	const struct option_entry options[] = {
		OPTION_OF_TEXT("o", &out),
		{ 0 }
	};
	int code = options_parse("report", options, argc, argv, 1);

	if (code)
		return code;
	if (optind + 1 != argc || !out || strlen(out) > PATH_MAX - 8)
		return options_bad("report", "a file and -o FILE.svg or FILE.html are needed");
	r.progress = json_array();
	r.faults = json_array();
	code = report_read(&r, argv[optind]) ? UMIG_FAILED : report_draw(&r, argv[optind], out);
	json_decref(r.progress);
	json_decref(r.faults);
	json_decref(r.summary);
	json_decref(r.resumed);
	return code;
}

const struct subcommand report_subcommand = {
	.name = "report",
	.purpose = "draw a transfer from its JSON lines",
	.help =
	"usage: umig report RUN.json -o RUN.svg|RUN.html\n\n"
	"RUN.json is what pull, recv or restore has printed with --json. The picture shows how much\n"
	"was present over time, where and when the guest waited for pages, the rate, and how long it\n"
	"waited. Grey: the destination's part of the downtime. Needs gnuplot.\n",
	.run = report_run,
};
