// SPDX-License-Identifier: GPL-2.0
/* umig status and umig set: show the running umigs, and change what one does. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "lib/lib.h"
#include "lib/log.h"
#include "lib/options.h"
#include "watch/progress.h"
#include "watch/watch.h"

/* For --rate: none was given. */
#define RATE_UNCHANGED	UINT64_MAX

/* One question and its answer. Return: the answer, or NULL and @error. */
static json_t *status_ask(const char *path, json_t *request, int *error)
{
	char *question = json_dumps(request, JSON_COMPACT), *line = malloc(WATCH_MAX_LINE);
	int fd = watch_connect(path);
	json_t *answer = NULL;
	size_t used = 0;

	*error = fd < 0 ? fd : 0;
	if (fd < 0 || !question || !line)
		goto out;
	if (send(fd, question, strlen(question), MSG_NOSIGNAL | MSG_MORE) < 0 ||
	    send(fd, "\n", 1, MSG_NOSIGNAL) < 0) {
		*error = -errno;
		goto out;
	}
	while (used < WATCH_MAX_LINE) {
		ssize_t n = recv(fd, line + used, WATCH_MAX_LINE - used, 0);

		if (n <= 0)
			break;
		used += (size_t)n;
	}
	answer = json_loadb(line, used, JSON_DISABLE_EOF_CHECK, NULL);
	if (!answer)
		*error = -EPROTO;
out:
	if (fd >= 0)
		close(fd);
	free(question);
	free(line);
	return answer;
}

/* Return: the process id in a socket's name, 0 if it is not a status socket. */
static uint64_t status_pid(const char *name)
{
	const char *dot = strchr(name, '.');
	char digits[24];
	uint64_t pid;

	if (!dot || strcmp(dot, ".sock") || (size_t)(dot - name) >= sizeof(digits))
		return 0;
	memcpy(digits, name, (size_t)(dot - name));
	digits[dot - name] = '\0';
	return parse_u64(digits, &pid) ? 0 : pid;
}

static int status_compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static int status_pids(const char *dir, uint64_t **pids, size_t *nr)
{
	struct dirent *entry;
	size_t room = 0;
	DIR *d = opendir(dir);

	*pids = NULL;
	*nr = 0;
	if (!d)
		return -errno;
	while ((entry = readdir(d))) {
		uint64_t pid = status_pid(entry->d_name), *more;

		if (!pid)
			continue;
		if (*nr == room) {
			room = room ? 2 * room : 16;
			more = realloc(*pids, room * sizeof(**pids));
			if (!more)
				break;
			*pids = more;
		}
		(*pids)[(*nr)++] = pid;
	}
	closedir(d);
	if (*nr)
		qsort(*pids, *nr, sizeof(**pids), status_compare);
	return 0;
}

static uint64_t status_u64(const json_t *o, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(o, key));

	return n < 0 ? 0 : (uint64_t)n;
}

/* What an umig is doing, or what it waits for and since when. */
static void status_phase(char *buf, size_t size, const json_t *o)
{
	const json_t *lost = json_object_get(o, "source_lost_seconds");
	const char *phase = json_string_value(json_object_get(o, "phase"));

	if (json_is_number(lost))
		snprintf(buf, size, "no source %.0f s", json_number_value(lost));
	else if (json_is_true(json_object_get(o, "paused")))
		snprintf(buf, size, "paused");
	else
		snprintf(buf, size, "%s", phase ? phase : "?");
}

/* At most 80 columns, like the heading in status_show(). */
static void status_row(const json_t *o)
{
	uint64_t total = status_u64(o, "total_pages"), present = status_u64(o, "present_pages");
	uint64_t rate = status_u64(o, "rate");
	char phase[32], share[32] = "-", faults[24] = "-", limit[24] = "-";
	char missing[24] = "-", p50[16] = "-", p99[16] = "-";

	status_phase(phase, sizeof(phase), o);
	if (total) {
		/* Rounded down: a transfer that misses one page is not at 100 %. */
		snprintf(share, sizeof(share), "%" PRIu64 ".%" PRIu64 "%%", present * 100 / total,
			 present * 1000 / total % 10);
		snprintf(missing, sizeof(missing), "%.1fM",
			 (double)(total - present) * UMIG_PAGE_SIZE / (1 << 20));
		snprintf(faults, sizeof(faults), "%" PRIu64, status_u64(o, "demand_pages"));
	}
	if (status_u64(o, "p50_ns")) {
		progress_time(p50, sizeof(p50), status_u64(o, "p50_ns"));
		progress_time(p99, sizeof(p99), status_u64(o, "p99_ns"));
	}
	if (rate)
		snprintf(limit, sizeof(limit), "%.4g MiB/s", (double)rate / (1 << 20));
	printf("%7" PRIu64 " %-8s %-16.16s %6s %9s %6s %6s %6s %s\n", status_u64(o, "pid"),
	       json_string_value(json_object_get(o, "command")), phase, share, missing, faults,
	       p50, p99, limit);
}

/* Return: how many there are, or -errno, having said why. */
static int status_show(const char *dir, uint64_t only, bool json)
{
	json_t *request = json_pack("{s:s}", "command", "status"), *all = json_array(), *one;
	uint64_t *pids;
	size_t nr, i;
	int ret = status_pids(dir, &pids, &nr);

	if (ret) {
		log_error("cannot look into %s: %s", dir, strerror(-ret));
		nr = 0;
	}
	for (i = 0; i < nr; i++) {
		char path[128];

		if (only && pids[i] != only)
			continue;
		snprintf(path, sizeof(path), "%s/%" PRIu64 ".sock", dir, pids[i]);
		one = status_ask(path, request, &ret);
		if (one)
			json_array_append_new(all, one);
		else if (ret == -ECONNREFUSED && kill((pid_t)pids[i], 0) && errno == ESRCH)
			unlink(path);
		else if (ret != -ENOENT && ret != -ECONNREFUSED)
			log_error("umig %" PRIu64 " does not answer: %s", pids[i], strerror(-ret));
		ret = 0;
	}
	free(pids);
	json_decref(request);
	if (!ret)
		ret = (int)json_array_size(all);
	if (json) {
		log_json(all);
		return ret;
	}
	if (ret > 0)
		printf("%7s %-8s %-16s %6s %9s %6s %6s %6s %s\n", "PID", "UMIG", "PHASE",
		       "THERE", "MISSING", "FAULTS", "P50", "P99", "LIMIT");
	json_array_foreach(all, i, one) {
		status_row(one);
	}
	json_decref(all);
	return ret;
}

static void status_unknown(uint64_t pid)
{
	log_error("process %" PRIu64 " is no running umig of yours; see 'umig status'", pid);
}

static int status_once(const char *dir, uint64_t pid, bool json)
{
	int ret = status_show(dir, pid, json);

	if (ret < 0)
		return UMIG_FAILED;
	if (!ret && pid) {
		status_unknown(pid);
		return UMIG_GONE;
	}
	if (!ret && !json)
		log_info("no umig is running");
	return UMIG_OK;
}

/* Until every umig that is shown has ended. */
static int status_repeat(const char *dir, uint64_t pid, bool json)
{
	bool tty = isatty(STDOUT_FILENO) && !json;
	int ret;

	for (;;) {
		/* Starts at the top of the screen and clears the rest. */
		if (tty)
			fputs("\033[H\033[J", stdout);
		ret = status_show(dir, pid, json);
		if (ret <= 0)
			break;
		fflush(stdout);
		nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
	}
	return ret ? UMIG_FAILED : UMIG_OK;
}

/* Finds the directory of the status sockets. Return: 0 or an exit code, having said why. */
static int status_dir(char *dir, size_t size)
{
	int ret = watch_dir(dir, size);

	if (!ret)
		return 0;
	if (ret == -ENOENT)
		log_error("cannot find running umigs: set XDG_RUNTIME_DIR or UMIG_RUN_DIR");
	else
		log_error("cannot use %s: %s", dir, strerror(-ret));
	return UMIG_FAILED;
}

static int status_run(int argc, char **argv)
{
	bool json = false, watch = false;
	uint64_t pid = 0;
	const struct option_entry options[] = {
		OPTION_OF_NUMBER("pid", &pid, 1, INT32_MAX),
		OPTION_OF_FLAG("watch", &watch),
		OPTION_OF_FLAG("json", &json),
		{ 0 }
	};
	char dir[80];
	int ret = options_parse("status", options, argc, argv, 0);

	if (!ret)
		ret = status_dir(dir, sizeof(dir));
	if (ret)
		return ret;
	return watch ? status_repeat(dir, pid, json) : status_once(dir, pid, json);
}

/* Sends a request to one umig. Return: an exit code. */
static int set_send(uint64_t pid, json_t *request)
{
	char dir[80], path[128];
	const char *text;
	json_t *answer;
	int ret = status_dir(dir, sizeof(dir));

	if (ret)
		return ret;
	snprintf(path, sizeof(path), "%s/%" PRIu64 ".sock", dir, pid);
	answer = status_ask(path, request, &ret);
	if (!answer) {
		if (ret == -ENOENT || ret == -ECONNREFUSED)
			status_unknown(pid);
		else
			log_error("umig %" PRIu64 " does not answer: %s", pid, strerror(-ret));
		return ret == -ENOENT || ret == -ECONNREFUSED ? UMIG_GONE : UMIG_FAILED;
	}
	text = json_string_value(json_object_get(answer, "error"));
	if (text)
		log_error("umig %" PRIu64 " refuses: %s", pid, text);
	ret = text ? UMIG_REFUSED : UMIG_OK;
	json_decref(answer);
	return ret;
}

static int set_run(int argc, char **argv)
{
	bool pause = false, go_on = false, now = false;
	uint64_t pid = 0, rate = RATE_UNCHANGED;
	const struct option_entry options[] = {
		OPTION_OF_NUMBER("pid", &pid, 1, INT32_MAX),
		OPTION_OF_SIZE("rate", &rate, OPTION_MAX_BYTES),
		OPTION_OF_FLAG("pause", &pause),
		OPTION_OF_FLAG("continue", &go_on),
		OPTION_OF_FLAG("switch", &now),
		{ 0 }
	};
	int ret = options_parse("set", options, argc, argv, 0);
	json_t *request;

	if (ret)
		return ret;
	if (pause && go_on)
		return options_bad("set", "--pause and --continue exclude each other");
	request = json_pack("{s:s}", "command", "set");
	if (rate != RATE_UNCHANGED)
		json_object_set_new(request, "rate", json_integer((json_int_t)rate));
	if (pause || go_on)
		json_object_set_new(request, "paused", json_boolean(pause));
	if (now)
		json_object_set_new(request, "switch", json_true());
	if (!pid || json_object_size(request) == 1)
		ret = options_bad("set", "--pid and something to set are needed");
	else
		ret = set_send(pid, request);
	json_decref(request);
	return ret;
}

const struct subcommand status_subcommand = {
	.name = "status",
	.purpose = "show the umigs that are running here",
	.help =
	"usage: umig status [--pid PID] [--watch] [--json]\n\n"
	"One line for each running umig of this user: what it is doing, or for how long its source\n"
	"has been lost; the share of pages that is present, how much is missing, demand faults and\n"
	"how long they waited, and the limit of background reads.\n\n"
	"  --pid PID   only this umig; exit code 5 if it does not run\n"
	"  --watch     again every second, until every umig that is shown has ended\n"
	"  --json      a JSON array with exact numbers\n",
	.run = status_run,
};

const struct subcommand set_subcommand = {
	.name = "set",
	.purpose = "change the rate of a running umig, pause it, make it switch over",
	.help =
	"usage: umig set --pid PID [--rate BYTES] [--pause | --continue] [--switch]\n\n"
	"Changes a running umig ('umig status' shows their PIDs). A page that somebody waits for comes\n"
	"as fast as ever.\n\n"
	"  --rate BYTES   background reads per second at most (suffix K, M, G); 0: no limit\n"
	"  --pause        no background reads until --continue\n"
	"  --switch       for a send in precopy: switch over now\n",
	.run = set_run,
};
