/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest moves from one QEMU to another, or into a directory and out of it.
 *
 *   outgoing    a QEMU whose guest leaves: checked, migrated, put back as it was
 *   incoming    a QEMU that a guest enters: checked, given device state, resumed, put back
 *   sender      umig send: an outgoing QEMU and the connection to where umig recv listens
 *   receiver    umig recv: an incoming QEMU and the connection from umig send
 *   snapshot    an outgoing QEMU into a directory;  snapshot_file: what stands in that directory
 *   restore     an incoming QEMU out of a directory
 *   writes      the pages that an outgoing guest writes to;  track: the kernel's marks for them
 *
 * Neither outgoing nor incoming knows of a connection; they tell their caller what went wrong, and
 * watch a peer while they wait for QEMU.
 */
#ifndef UMIG_MIGRATE_H
#define UMIG_MIGRATE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/lib.h"

/* The name under which QEMU gets the socket for its device state. */
#define STATE_FD_NAME	"umig-state"

/* How long to wait for the greeting of a QMP socket. */
#define QMP_OPEN_MS	10000

/* How often the receiver says PROGRESS. */
#define PROGRESS_MS	500

/* What both sides of a migration must agree on, and whether the guest is to run. */
struct guest {
	char ram_id[128];
	uint64_t ram_size;
	uint64_t page_size;
	bool running;
};

/**
 * struct peer - the other side of the session, watched while a function waits for QEMU
 * @fd: -1: there is none
 * @ready: called when @fd is readable and in between. Return: 0, or -errno having said why: the
 *	wait ends with it.
 */
struct peer {
	int fd;
	int (*ready)(void *arg);
	void *arg;
};

#define NO_PEER		((const struct peer){ .fd = -1 })

static inline int peer_ready(const struct peer *peer)
{
	return peer->ready ? peer->ready(peer->arg) : 0;
}

#endif
