// SPDX-License-Identifier: GPL-2.0
/*
 * The memory of another process, for the page server: which addresses, and the descriptor to read
 * them through.
 *
 * That is /proc/PID/mem and not process_vm_readv(), because a descriptor belongs to one address
 * space. Once that has ended every read ends at once, also if PID is another process by then.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/mappings.h"
#include "lib/lib.h"
#include "serve/process.h"

/* START-END, hexadecimal as in /proc/PID/maps. Return: 0 or -EINVAL. */
static int process_parse_range(const char *text, struct process_memory *m)
{
	char *end;

	errno = 0;
	m->start = strtoull(text, &end, 16);
	if (errno || end == text || *end != '-' || strchr(text, '-') != end)
		return -EINVAL;
	text = end + 1;
	m->end = strtoull(text, &end, 16);
	if (errno || end == text || *end || m->start >= m->end || m->end > INT64_MAX ||
	    (m->start | m->end) % UMIG_PAGE_SIZE)
		return -EINVAL;
	return 0;
}

/* Takes the range of an option (see lib/options.h). @value: a struct process_memory. */
const char *process_take_range(void *value, const char *text)
{
	return process_parse_range(text, value) ?
		"is not START-END, two hexadecimal page addresses as in /proc/PID/maps" : NULL;
}

/* Return: a stream, or NULL having said why. */
static FILE *process_mappings(pid_t pid)
{
	FILE *f = mappings_open(pid);

	if (!f && errno == ENOENT)
		log_error("there is no process %d", (int)pid);
	else if (!f)
		log_error("cannot look at the memory of process %d: %s; "
			  "run umig as root", (int)pid, strerror(errno));
	return f;
}

/**
 * process_find_mapping - the addresses of a mapping that the kernel calls @name
 *
 * Mappings of that name that touch each other count as one.
 *
 * Return: 0 or -EOPNOTSUPP (no such process, none or several of that name), having said why.
 */
int process_find_mapping(pid_t pid, const char *name, struct process_memory *m)
{
	struct mapping found;
	unsigned int nr = 0;
	FILE *f = process_mappings(pid);

	if (!f)
		return -EOPNOTSUPP;
	m->start = 0;
	m->end = 0;
	while (mappings_next(f, &found)) {
		if (strcmp(found.name, name))
			continue;
		if (nr && found.start == m->end) {
			m->end = found.end;
			continue;
		}
		nr++;
		m->start = found.start;
		m->end = found.end;
	}
	fclose(f);
	if (nr == 1)
		return 0;
	log_error("process %d has %s mapping called '%s'; "
		  "choose one in /proc/%d/maps and give its addresses with --range",
		  (int)pid, nr ? "more than one" : "no", name, (int)pid);
	return -EOPNOTSUPP;
}

/* Is the whole range mapped? Return: 0 or -EOPNOTSUPP, having said why. */
static int process_check_range(pid_t pid, const struct process_memory *m)
{
	uint64_t at = m->start;
	struct mapping found;
	FILE *f = process_mappings(pid);

	if (!f)
		return -EOPNOTSUPP;
	while (at < m->end && mappings_next(f, &found)) {
		if (found.start <= at && at < found.end)
			at = found.end;
	}
	fclose(f);
	if (at >= m->end)
		return 0;
	log_error("process %d has nothing mapped at %" PRIx64 ", inside the range %" PRIx64
		  "-%" PRIx64 "; see /proc/%d/maps",
		  (int)pid, at, m->start, m->end, (int)pid);
	return -EOPNOTSUPP;
}

/**
 * process_open - get ready to read @m->start to @m->end
 *
 * Return: 0, @m->fd is to be closed; -EOPNOTSUPP, having said why.
 */
int process_open(pid_t pid, struct process_memory *m)
{
	char path[64];

	if (process_check_range(pid, m))
		return -EOPNOTSUPP;
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	m->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (m->fd >= 0)
		return 0;
	log_error("cannot read the memory of process %d: %s; "
		  "run umig as root", (int)pid, strerror(errno));
	return -EOPNOTSUPP;
}
