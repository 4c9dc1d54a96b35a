/* SPDX-License-Identifier: GPL-2.0 */
/* The memory of another process, for the page server. */
#ifndef UMIG_PROCESS_H
#define UMIG_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

/**
 * struct process_memory
 * @fd: its /proc/PID/mem, of this very address space; reads nothing once that has ended
 * @start, @end: addresses of the export
 */
struct process_memory {
	int fd;
	uint64_t start;
	uint64_t end;
};

const char *process_take_range(void *value, const char *text);
int process_find_mapping(pid_t pid, const char *name, struct process_memory *m);
int process_open(pid_t pid, struct process_memory *m);

#endif
