/* SPDX-License-Identifier: GPL-2.0 */
/* The mappings of a process, as /proc/PID/maps shows them. */
#ifndef UMIG_MAPPINGS_H
#define UMIG_MAPPINGS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/**
 * struct mapping
 * @start, @end: addresses
 * @offset: in the file, in bytes
 * @dev, @inode: of the file; 0 if there is none
 * @writable, @shared: permissions
 * @name: what the kernel calls it: a path, "[heap]", "/postcopy (deleted)", or ""
 */
struct mapping {
	uint64_t start;
	uint64_t end;
	uint64_t offset;
	dev_t dev;
	ino_t inode;
	bool writable;
	bool shared;
	char name[PATH_MAX + 16];
};

FILE *mappings_open(pid_t pid);
bool mappings_next(FILE *f, struct mapping *m);

#endif
