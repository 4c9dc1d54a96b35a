// SPDX-License-Identifier: GPL-2.0
/* The mappings of a process, as /proc/PID/maps shows them. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "lib/mappings.h"

/* Return: a stream for mappings_next() and fclose(), or NULL and errno. */
FILE *mappings_open(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	return fopen(path, "re");
}

/* The next mapping, by rising addresses. Return: false: there are no more. */
bool mappings_next(FILE *f, struct mapping *m)
{
	char line[sizeof(m->name) + 256], permissions[8];
	unsigned int major_nr, minor_nr;
	unsigned long inode;
	int at = 0;

	if (!fgets(line, sizeof(line), f))
		return false;
	line[strcspn(line, "\n")] = '\0';
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %x:%x %lu %n", &m->start, &m->end,
		   permissions, &m->offset, &major_nr, &minor_nr, &inode, &at) != 7 || !at)
		return false;
	m->dev = makedev(major_nr, minor_nr);
	m->inode = inode;
	m->writable = permissions[1] == 'w';
	m->shared = permissions[3] == 's';
	snprintf(m->name, sizeof(m->name), "%s", line + at);
	return true;
}
