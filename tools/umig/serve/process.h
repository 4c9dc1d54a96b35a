/* SPDX-License-Identifier: GPL-2.0 */
/* The memory of another process, to be served. */
#ifndef UMIG_PROCESS_H
#define UMIG_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

/**
 * struct process_memory
 * @fd: its /proc/PID/mem: of this very address space; reads nothing once that has ended
 * @start, @end: addresses; the export is what lies between
 */
struct process_memory {
	int fd;
	uint64_t start;
	uint64_t end;
};

int process_parse_range(const char *text, struct process_memory *m);
int process_find_mapping(pid_t pid, const char *name, struct process_memory *m);
int process_open(pid_t pid, struct process_memory *m);

#endif
