/* SPDX-License-Identifier: GPL-2.0 */
/* A QEMU whose guest leaves: checked, migrated, put back as it was. */
#ifndef UMIG_OUTGOING_H
#define UMIG_OUTGOING_H

#include <stdbool.h>
#include <stdint.h>

#include "migrate/migrate.h"
#include "qemu/qemu.h"
#include "qemu/state.h"

/**
 * struct outgoing
 * @qmp_path, @timeout_s, @signal_fd: set by the caller after outgoing_init()
 * @ram: its path is a file that umig can read
 * @ram_fd: of that file, after outgoing_open_ram()
 * @state: hands the device state to the caller's sink
 * @was_running: the guest ran when it was checked
 * @caps_set, @fd_given, @migrating, @stopped: what outgoing_put_back() has to undo: capabilities,
 *	a descriptor in QEMU, a migration, a stopped guest
 * @left_as: the state in which outgoing_put_back() has left the guest
 */
struct outgoing {
	const char *qmp_path;
	uint64_t timeout_s;
	int signal_fd;

	struct qmp qmp;
	struct qemu_ram ram;
	int ram_fd;
	struct qemu_cap caps[QEMU_MAX_CAPS];
	struct qemu_events events;
	struct state_reader state;
	bool was_running;

	bool caps_set;
	bool fd_given;
	bool migrating;
	bool stopped;
	char left_as[64];
};

void outgoing_init(struct outgoing *o);
int outgoing_open(struct outgoing *o);
int outgoing_check(struct outgoing *o);
int outgoing_open_ram(struct outgoing *o);
int outgoing_start(struct outgoing *o, state_sink sink, void *arg);
int outgoing_wait_state(struct outgoing *o, const struct peer *peer);
int outgoing_wait_migrated(struct outgoing *o);
int outgoing_stand_still(struct outgoing *o);
int outgoing_go_on(struct outgoing *o);
int outgoing_put_back(struct outgoing *o);
void outgoing_close(struct outgoing *o);

#endif
