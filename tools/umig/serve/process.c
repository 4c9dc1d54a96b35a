// SPDX-License-Identifier: GPL-2.0
/*
 * The memory of another process, to be served: which addresses, and the fd they are read through.
 *
 * /proc/PID/mem and not process_vm_readv(): the fd belongs to one address space. When that has
 * ended every read of it ends at once, also if the number PID is another process by then.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/umig.h"
#include "serve/process.h"

/* START-END, hexadecimal as in /proc/PID/maps. Return: 0 or -EINVAL. */
int process_parse_range(const char *text, struct process_memory *m)
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

/* Return: a stream, or NULL having said why. */
static FILE *process_maps(pid_t pid)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	f = fopen(path, "re");
	if (!f && errno == ENOENT)
		log_error("there is no process %d", (int)pid);
	else if (!f)
		log_error("cannot look at the memory of process %d: %s; "
			  "run umig as root", (int)pid, strerror(errno));
	return f;
}

/* One line of maps. Return: true if it was one; @name is what the kernel calls the mapping. */
static bool process_next_map(FILE *f, uint64_t *start, uint64_t *end, char *name, size_t size)
{
	char line[PATH_MAX + 256];
	int at = 0;

	if (!fgets(line, sizeof(line), f))
		return false;
	line[strcspn(line, "\n")] = '\0';
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %*s %*s %*s %n", start, end, &at) != 2 || !at)
		return false;
	snprintf(name, size, "%s", line + at);
	return true;
}

/**
 * process_find_mapping - the addresses of a mapping that the kernel calls @name
 *
 * Neighbours of the same name are one.
 *
 * Return: 0 or -EOPNOTSUPP (no such process, none or several of that name), having said why.
 */
int process_find_mapping(pid_t pid, const char *name, struct process_memory *m)
{
	char found[PATH_MAX + 256];
	uint64_t start, end;
	unsigned int nr = 0;
	FILE *f = process_maps(pid);

	if (!f)
		return -EOPNOTSUPP;
	m->start = 0;
	m->end = 0;
	while (process_next_map(f, &start, &end, found, sizeof(found))) {
		if (strcmp(found, name))
			continue;
		if (nr && start == m->end) {
			m->end = end;
			continue;
		}
		nr++;
		m->start = start;
		m->end = end;
	}
	fclose(f);
	if (nr == 1)
		return 0;
	log_error("process %d has %s mapping called '%s'; "
		  "choose one in /proc/%d/maps and give its addresses with --range",
		  (int)pid, nr ? "more than one" : "no", name, (int)pid);
	return -EOPNOTSUPP;
}

/* Is all of it mapped? Return: 0 or -EOPNOTSUPP, having said why. */
static int process_check_range(pid_t pid, const struct process_memory *m)
{
	uint64_t at = m->start, start, end;
	char name[PATH_MAX + 256];
	FILE *f = process_maps(pid);

	if (!f)
		return -EOPNOTSUPP;
	while (at < m->end && process_next_map(f, &start, &end, name, sizeof(name))) {
		if (start <= at && at < end)
			at = end;
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
