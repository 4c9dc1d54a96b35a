/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The monitor: what others may ask of a running umig, and tell it.
 *
 * Each umig that moves pages listens on a Unix socket named after its process id in one directory
 * (monitor_dir()). One JSON object in a line asks, one answers:
 *	{"command": "status"}
 *	{"command": "set", "rate": BYTES, "paused": BOOL, "switch": true}	any of these
 * The answer has "error" (a text) if nothing was done.
 */
#ifndef UMIG_MONITOR_H
#define UMIG_MONITOR_H

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "transfer/transfer.h"

#define MONITOR_MAX_LINE	65536

/**
 * struct monitor - one per process
 * @command: the subcommand, for status
 * @phase: what it is doing, in words; a string that lives for ever
 * @transfer: where pages are filled, or NULL: this side only serves them
 * @present, @total, @demand: in pages, on the side that only hears of them
 * @may_switch: "switch" is accepted now
 * @switch_now: somebody has asked for it
 */
struct monitor {
	_Atomic bool switch_now;
	const char *command;
	uint64_t started_ns;
	char path[108];
	int listen_fd;
	int stop_fd;
	pthread_t thread;
	bool running;

	pthread_mutex_t lock;
	const char *phase;
	struct transfer *transfer;
	uint64_t present;
	uint64_t total;
	uint64_t demand;
	bool may_switch;
};

int monitor_dir(char *path, size_t size);
int monitor_connect(const char *path);
void monitor_start(struct monitor *m, const char *command);
void monitor_stop(struct monitor *m);
void monitor_phase(struct monitor *m, const char *phase);
void monitor_transfer(struct monitor *m, struct transfer *t);
void monitor_may_switch(struct monitor *m, bool may);
void monitor_heard(struct monitor *m, uint64_t present, uint64_t total, uint64_t demand);

#endif
