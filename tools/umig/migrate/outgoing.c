// SPDX-License-Identifier: GPL-2.0
/* A QEMU whose guest leaves: checked, migrated, put back as it was. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device/device.h"
#include "lib/log.h"
#include "migrate/outgoing.h"

/* QEMU closes its socket a moment before it says that the migration has ended. */
#define MIGRATED_MS	5000

/* QEMU may have to write to its disks before it answers. */
#define PUT_BACK_LEAST_S	20

void outgoing_init(struct outgoing *o)
{
	o->ram_fd = -1;
	o->qmp.fd = -1;
	o->caps[0] = (struct qemu_cap){ .name = "x-ignore-shared", .want = true, .required = true };
	/* Each of these would need more than the one stream that umig carries. */
	o->caps[1] = (struct qemu_cap){ .name = "return-path" };
	o->caps[2] = (struct qemu_cap){ .name = "multifd" };
	o->caps[3] = (struct qemu_cap){ .name = "pause-before-switchover" };
	o->caps[4] = (struct qemu_cap){ .name = "events", .want = true };
}

/* Return: 0 or -errno, having said why. */
int outgoing_open(struct outgoing *o)
{
	int ret = qmp_open(&o->qmp, o->qmp_path, QMP_OPEN_MS);

	if (ret)
		log_error("cannot talk to the source QEMU on %s: %s", o->qmp_path, o->qmp.error);
	return ret;
}

/* Can the guest leave? Changes nothing. Return: 0 or -errno, having said why. */
int outgoing_check(struct outgoing *o)
{
	char state[64], error[256];
	struct stat st;
	int ret;

	if (qemu_run_state(&o->qmp, state, sizeof(state)))
		goto qmp_failed;
	/* prelaunch: started with -S and never continued. */
	if (strcmp(state, "running") && strcmp(state, "paused") && strcmp(state, "prelaunch")) {
		log_error("the source guest is in state '%s'; "
			  "it must be running or paused%s", state,
			  strcmp(state, "postmigrate") ? "" :
			  " (an earlier migration has ended; 'cont' in its monitor resumes it)");
		return -EOPNOTSUPP;
	}
	o->was_running = !strcmp(state, "running");
	if (qemu_migration_state(&o->qmp, state, sizeof(state), error, sizeof(error)))
		goto qmp_failed;
	if (qemu_migration_is_active(state)) {
		log_error("the source is migrating already (%s); wait for it or cancel it", state);
		return -EOPNOTSUPP;
	}
	ret = qemu_find_ram(&o->qmp, "source", &o->ram);
	if (ret)
		return ret;
	if (!o->ram.share) {
		log_error("the source's RAM is private to QEMU; "
			  "start it with -object memory-backend-file,id=%s,...,mem-path=%s,share=on",
			  o->ram.id, o->ram.path);
		return -EOPNOTSUPP;
	}
	if (!strcmp(o->ram.path, dev_path())) {
		ret = qemu_find_arrived(o->qmp.pid, &o->ram);
		if (ret)
			return ret;
	}
	if (stat(o->ram.path, &st) || !S_ISREG(st.st_mode) || (uint64_t)st.st_size < o->ram.size ||
	    !qemu_maps_file(o->qmp.pid, o->ram.path)) {
		log_error("the source's RAM file %s is not what QEMU has mapped, or is not %" PRIu64
			  " bytes long; umig must see it under the same path",
			  o->ram.path, o->ram.size);
		return -EOPNOTSUPP;
	}
	return qemu_check_caps(&o->qmp, "source", o->caps);

qmp_failed:
	log_error("cannot ask the source QEMU for its state: %s", o->qmp.error);
	return -EIO;
}

/* Return: 0 or -errno, having said why. */
int outgoing_open_ram(struct outgoing *o)
{
	o->ram_fd = open(o->ram.path, O_RDONLY | O_CLOEXEC);
	if (o->ram_fd >= 0)
		return 0;
	log_error("cannot read the source's RAM file %s: %s", o->ram.path, strerror(errno));
	return -errno;
}

/*
 * Makes QEMU write its device state into a socket that the state reader empties into @sink. Return:
 * 0 or -errno, having said why.
 */
int outgoing_start(struct outgoing *o, state_sink sink, void *arg)
{
	int pair[2], ret;

	ret = qemu_set_caps(&o->qmp, o->caps);
	if (ret) {
		log_error("cannot set the source's migration capabilities: %s", o->qmp.error);
		return ret;
	}
	o->caps_set = true;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
		log_error("cannot make a socket for the device state: %s", strerror(errno));
		return -errno;
	}
	ret = qmp_send_fd(&o->qmp, STATE_FD_NAME, pair[1]);
	close(pair[1]);
	if (ret) {
		log_error("cannot hand a socket to the source QEMU: %s", o->qmp.error);
		close(pair[0]);
		return ret;
	}
	o->fd_given = true;
	ret = state_reader_start(&o->state, pair[0], sink, arg);
	if (ret) {
		log_error("cannot read the device state: %s", strerror(-ret));
		return ret;
	}
	/* Events so far are of an earlier migration, or of somebody who stopped the guest. */
	ret = qemu_take_events(&o->qmp, &o->events);
	o->events = (struct qemu_events){ 0 };
	if (ret) {
		log_error("migration failed: the source QEMU: %s", o->qmp.error);
		return ret;
	}
	o->migrating = true;
	ret = qmp_command(&o->qmp, "migrate", json_pack("{s:s}", "uri", "fd:" STATE_FD_NAME), NULL);
	if (ret)
		log_error("the source QEMU does not migrate: %s", o->qmp.error);
	else
		o->fd_given = false;
	/* QEMU has refused: a migration that is under way is somebody else's. */
	if (ret == -EREMOTEIO)
		o->migrating = false;
	return ret;
}

/**
 * outgoing_wait_state - wait while the device state flows into the sink
 * @peer: where the sink sends it
 *
 * Return: 0 once QEMU has written everything, or -errno, having said why.
 */
int outgoing_wait_state(struct outgoing *o, const struct peer *peer)
{
	uint64_t last_bytes = 0, last_ns = now_ns();
	int ret;

	for (;;) {
		struct pollfd fds[4] = {
			{ .fd = o->state.done_fd, .events = POLLIN },
			{ .fd = o->signal_fd, .events = POLLIN },
			{ .fd = o->qmp.fd, .events = POLLIN },
			{ .fd = peer->fd, .events = POLLIN },
		};
		uint64_t bytes = atomic_load(&o->state.bytes);

		if (poll(fds, 4, 1000) < 0 && errno != EINTR)
			return -errno;
		if (fds[2].revents && qemu_take_events(&o->qmp, &o->events)) {
			log_error("migration failed: the source QEMU: %s", o->qmp.error);
			return -EPIPE;
		}
		if (fds[1].revents) {
			log_error("migration stopped by a signal");
			return -EINTR;
		}
		ret = peer_ready(peer);
		if (ret)
			return ret;
		if (fds[0].revents)
			break;
		if (bytes != last_bytes) {
			last_bytes = bytes;
			last_ns = now_ns();
		} else if (now_ns() - last_ns > o->timeout_s * NS_PER_S) {
			log_error("migration failed: the source QEMU sent no state for %" PRIu64
				  " s", o->timeout_s);
			return -ETIMEDOUT;
		}
	}
	ret = atomic_load(&o->state.error);
	if (ret)
		log_error("migration failed: the device state cannot be passed on: %s",
			  strerror(-ret));
	return ret;
}

/*
 * QEMU has closed its socket: did the migration succeed? If so, the guest stands still for good.
 * Return: 0 or -errno, having said why.
 */
int outgoing_wait_migrated(struct outgoing *o)
{
	uint64_t deadline = now_ns() + MIGRATED_MS * NS_PER_MS;
	char state[64] = "", error[256] = "";
	int ret;

	do {
		ret = qemu_take_events(&o->qmp, &o->events);
		snprintf(state, sizeof(state), "%s", o->events.migration);
		/*
		 * QEMU says so by itself. Answering costs it time in which the guest stands still.
		 */
		if (!ret && strcmp(state, "completed"))
			ret = qemu_migration_state(&o->qmp, state, sizeof(state), error,
						   sizeof(error));
		if (ret) {
			log_error("migration failed: the source QEMU: %s", o->qmp.error);
			return ret;
		}
		if (!strcmp(state, "completed")) {
			ret = qemu_take_events(&o->qmp, &o->events);
			if (!o->events.stop_ns)
				o->events.stop_ns = now_ns();
			return ret;
		}
		if (!qemu_migration_is_active(state))
			break;
		usleep(1000);
	} while (now_ns() < deadline);
	log_error("migration failed in the source QEMU (%s): %s", state, error);
	return -EIO;
}

/* Stops a running guest for a moment. Return: 0 or -errno. */
int outgoing_stand_still(struct outgoing *o)
{
	o->stopped = o->was_running;
	return o->stopped ? qmp_command(&o->qmp, "stop", NULL, NULL) : 0;
}

/* Ends that moment. Return: 0 or -errno. */
int outgoing_go_on(struct outgoing *o)
{
	int ret = o->stopped ? qmp_command(&o->qmp, "cont", NULL, NULL) : 0;

	if (!ret)
		o->stopped = false;
	return ret;
}

static uint64_t put_back_deadline(const struct outgoing *o)
{
	return now_ns() + max_u64(o->timeout_s, PUT_BACK_LEAST_S) * NS_PER_S;
}

/* Cancels a migration and waits until none is under way. Return: 0 or -errno. */
static int outgoing_cancel(struct outgoing *o)
{
	uint64_t deadline = put_back_deadline(o);
	char state[64], error[256];
	bool cancelled = false;

	while (now_ns() < deadline) {
		int ret = qemu_migration_state(&o->qmp, state, sizeof(state), error,
					       sizeof(error));

		if (ret == -ETIMEDOUT)
			continue;
		if (ret)
			return ret;
		if (!qemu_migration_is_active(state))
			return 0;
		if (!cancelled)
			qmp_command(&o->qmp, "migrate_cancel", NULL, NULL);
		cancelled = true;
		usleep(20000);
	}
	return -ETIMEDOUT;
}

/* A paused guest may also stay in postmigrate or prelaunch: it can be continued from there. */
static bool outgoing_is_back(const struct outgoing *o, const char *state)
{
	if (o->was_running)
		return !strcmp(state, "running");
	return !strcmp(state, "paused") || !strcmp(state, "postmigrate") ||
	       !strcmp(state, "prelaunch");
}

/**
 * outgoing_put_back - make the guest what it was when it was checked
 *
 * Undoes only what umig has changed: if somebody else has paused the guest meanwhile, it stays so.
 *
 * Return: 0, @o->left_as says how the guest is; -EIO, having said that it is not known.
 */
int outgoing_put_back(struct outgoing *o)
{
	const char *wanted = o->was_running ? "running" : "paused";
	bool changed = o->migrating || o->stopped;
	uint64_t deadline;
	char state[64] = "?";
	int ret;

	state_reader_stop(&o->state);
	if (o->fd_given)
		qmp_command(&o->qmp, "closefd", json_pack("{s:s}", "fdname", STATE_FD_NAME), NULL);
	if (o->migrating && outgoing_cancel(o))
		goto unsure;
	deadline = put_back_deadline(o);
	while (now_ns() < deadline) {
		ret = qemu_run_state(&o->qmp, state, sizeof(state));
		if (ret == -ETIMEDOUT)
			continue;
		if (ret)
			goto unsure;
		if (!changed || outgoing_is_back(o, state))
			goto put_back;
		if (o->was_running && strcmp(state, "finish-migrate"))
			qmp_command(&o->qmp, "cont", NULL, NULL);
		usleep(20000);
	}
unsure:
	log_error("cannot make sure that the source guest is %s (last state: %s; %s); "
		  "look at it with query-status on %s, and resume it with 'cont'",
		  wanted, state, o->qmp.error, o->qmp_path);
	return -EIO;

put_back:
	snprintf(o->left_as, sizeof(o->left_as), "%s", changed ? wanted : state);
	if (o->caps_set && qemu_restore_caps(&o->qmp, o->caps))
		log_error("cannot restore the source's migration capabilities: %s", o->qmp.error);
	return 0;
}

void outgoing_close(struct outgoing *o)
{
	state_reader_stop(&o->state);
	qmp_close(&o->qmp);
	if (o->ram_fd >= 0)
		close(o->ram_fd);
}
