/* SPDX-License-Identifier: GPL-2.0 */
/*
 * QEMU, as umig sees it.
 *
 *   qmp     the connection: commands, answers, events
 *   qemu.h  what umig asks: its RAM, its migration capabilities, what its guest does
 *   state   device state on its way out of one QEMU and into another
 */
#ifndef UMIG_QEMU_H
#define UMIG_QEMU_H

#include <stdbool.h>
#include <stdint.h>

#include "qemu/qmp.h"

/* The one memory backend that is the machine's RAM. */
struct qemu_ram {
	char id[128];
	char type[64];
	char path[4096];
	uint64_t size;
	bool share;
	bool prealloc;
};

#define QEMU_MAX_CAPS	8

/**
 * struct qemu_cap - a migration capability and the value that umig needs
 * @former: what it was: 1, 0, or -1 if this QEMU does not have it
 */
struct qemu_cap {
	const char *name;
	bool want;
	bool required;
	int former;
};

/**
 * struct qemu_events - what QEMU has told without being asked
 * @stop_ns: when the guest was first stopped, by umig's clock; 0: it was not
 * @runs: the guest was resumed
 * @migration: the last state of a migration; needs the capability "events"
 */
struct qemu_events {
	uint64_t stop_ns;
	bool runs;
	char migration[32];
};

int qemu_take_events(struct qmp *q, struct qemu_events *e);
int qemu_find_ram(struct qmp *q, const char *side, struct qemu_ram *ram);
int qemu_check_caps(struct qmp *q, const char *side, struct qemu_cap *caps);
int qemu_set_caps(struct qmp *q, const struct qemu_cap *caps);
int qemu_restore_caps(struct qmp *q, const struct qemu_cap *caps);
int qemu_run_state(struct qmp *q, char *state, size_t size);
int qemu_migration_state(struct qmp *q, char *state, size_t size, char *error, size_t error_size);
void qemu_keep_id(struct qmp *q, const char *id);
void qemu_kept_id(struct qmp *q, char *id, size_t size);
void qemu_forget_id(struct qmp *q);
bool qemu_migration_is_active(const char *state);
bool qemu_has_locked_memory(pid_t pid);
int qemu_find_arrived(pid_t pid, struct qemu_ram *ram);
bool qemu_maps_file(pid_t pid, const char *path);

#endif
