// SPDX-License-Identifier: GPL-2.0
/* Messages for a person (stderr) and the one redrawn line below them. */
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/log.h"

/* One lock: a message never lands inside the bar or inside another thread's message. */
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static bool log_bar_shown;
static bool log_quiet;
/* Messages that nobody read */
static unsigned int log_lost;

/*
 * A terminal that was stopped or a pipe nobody reads must not stop a guest: what has no room on
 * stderr is dropped. Poll promises a pipe room for PIPE_BUF bytes, more than a message has.
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

/* Draws @line over the last one; stderr is a terminal. */
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

/* Leaves the bar where it is and goes on below it. */
void log_bar_end(void)
{
	pthread_mutex_lock(&log_lock);
	if (log_bar_shown)
		fputc('\n', stderr);
	log_bar_shown = false;
	pthread_mutex_unlock(&log_lock);
}

void log_stdout(const char *line)
{
	puts(line);
	fflush(stdout);
}
