// SPDX-License-Identifier: GPL-2.0
/* Messages for people (stderr), the progress bar below them, and JSON lines (stdout). */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/log.h"

/* Keeps a message out of the bar and out of another thread's message. */
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static bool log_bar_shown;
static bool log_quiet;
/* Messages that were dropped because nobody read stderr */
static unsigned int log_lost;

/*
 * A stopped terminal or a pipe that nobody reads must not stop a guest, so a message for which
 * stderr has no room is dropped. If poll() says that a pipe is writable, it has room for PIPE_BUF
 * bytes, which is more than a message has.
 */
static bool log_has_room(int timeout_ms)
{
	struct pollfd pfd = { .fd = STDERR_FILENO, .events = POLLOUT };

	return poll(&pfd, 1, timeout_ms) > 0;
}

static void log_line(const char *fmt, va_list ap)
{
	pthread_mutex_lock(&log_lock);
	if (!log_has_room(log_lost ? 0 : 100)) {
		log_lost++;
		pthread_mutex_unlock(&log_lock);
		return;
	}
	if (log_lost)
		fprintf(stderr, "umig: nobody read this: %u messages were lost\n", log_lost);
	log_lost = 0;
	if (log_bar_shown)
		fputs("\r\033[K", stderr);
	log_bar_shown = false;
	fputs("umig: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	fflush(stderr);
	pthread_mutex_unlock(&log_lock);
}

/* --quiet: errors only. */
void log_set_quiet(bool quiet)
{
	log_quiet = quiet;
}

void log_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(fmt, ap);
	va_end(ap);
}

void log_info(const char *fmt, ...)
{
	va_list ap;

	if (log_quiet)
		return;
	va_start(ap, fmt);
	log_line(fmt, ap);
	va_end(ap);
}

/* Draws @line over the last bar. stderr is a terminal. */
void log_bar(const char *line)
{
	pthread_mutex_lock(&log_lock);
	if (log_has_room(0)) {
		fprintf(stderr, "\r%s\033[K", line);
		fflush(stderr);
		log_bar_shown = true;
	}
	pthread_mutex_unlock(&log_lock);
}

/* Leaves the bar on the terminal; messages go below it. */
void log_bar_end(void)
{
	pthread_mutex_lock(&log_lock);
	if (log_bar_shown)
		fputc('\n', stderr);
	log_bar_shown = false;
	pthread_mutex_unlock(&log_lock);
}

/* A line for whoever reads stdout. */
void log_stdout(const char *line)
{
	puts(line);
	fflush(stdout);
}

/* Prints @object as one line on stdout and drops the caller's reference. NULL prints nothing. */
void log_json(json_t *object)
{
	char *text = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;

	if (text)
		log_stdout(text);
	free(text);
	json_decref(object);
}
