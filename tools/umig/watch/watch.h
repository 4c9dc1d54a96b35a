/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What people and programs see of a running umig.
 *
 *   watch.h    the status socket: other programs ask what umig does, and steer it
 *   progress   a bar, lines or JSON events while pages come, and the summary
 *   waiter     the loop in which a caller waits for a transfer
 *
 * The status socket: each umig that moves pages listens on a Unix socket, named after its process
 * id, in one directory (watch_dir()). A client sends one JSON object in a line and gets one back:
 *	{"command": "status"}
 *	{"command": "set", "rate": BYTES, "paused": BOOL, "switch": true}	one or more
 * If nothing was done the answer has "error", a text.
 */
#ifndef UMIG_WATCH_H
#define UMIG_WATCH_H

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "transfer/transfer.h"

#define WATCH_MAX_LINE	65536

/**
 * struct watch - one per process
 * @command: the subcommand
 * @phase: what umig is doing, in words; a string that lives for ever
 * @transfer: where pages are filled, or NULL: this side only serves them
 * @present, @total, @demand: in pages, told by the peer, if @transfer is NULL
 * @may_switch: "switch" is accepted now
 * @switch_now: a client has sent "switch"
 */
struct watch {
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

int watch_dir(char *path, size_t size);
int watch_connect(const char *path);
void watch_start(struct watch *w, const char *command);
void watch_stop(struct watch *w);
void watch_phase(struct watch *w, const char *phase);
void watch_transfer(struct watch *w, struct transfer *t);
void watch_may_switch(struct watch *w, bool may);
void watch_heard(struct watch *w, uint64_t present, uint64_t total, uint64_t demand);

#endif
