// SPDX-License-Identifier: GPL-2.0
/* umig send: the source QEMU. Checked, migrated, and put back as it was. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device/dev.h"
#include "lib/umig.h"
#include "migrate/send.h"

/* The name under which QEMU gets the socket for its device state. */
#define SEND_FD_NAME	"umig-state"

int send_check_source(struct send *s)
{
	char state[64], error[256];
	struct stat st;
	int ret;

	if (qemu_run_state(&s->qmp, state, sizeof(state)))
		goto qmp_failed;
	/* prelaunch: started with -S and never continued. */
	if (strcmp(state, "running") && strcmp(state, "paused") && strcmp(state, "prelaunch")) {
		log_error("the source guest is in state '%s'; "
			  "it must be running or paused%s", state,
			  strcmp(state, "postmigrate") ? "" :
			  " (an earlier migration has ended; 'cont' in its monitor resumes it)");
		return -EOPNOTSUPP;
	}
	s->was_running = !strcmp(state, "running");
	if (qemu_migration_state(&s->qmp, state, sizeof(state), error, sizeof(error)))
		goto qmp_failed;
	if (qemu_migration_is_active(state)) {
		log_error("the source is migrating already (%s); wait for it or cancel it", state);
		return -EOPNOTSUPP;
	}
	ret = qemu_find_ram(&s->qmp, "source", &s->ram);
	if (ret)
		return ret;
	if (!s->ram.share) {
		log_error("the source's RAM is private to QEMU; "
			  "start it with -object memory-backend-file,id=%s,...,mem-path=%s,share=on",
			  s->ram.id, s->ram.path);
		return -EOPNOTSUPP;
	}
	if (!strcmp(s->ram.path, dev_path())) {
		ret = qemu_find_arrived(s->qmp.pid, &s->ram);
		if (ret)
			return ret;
	}
	if (stat(s->ram.path, &st) || !S_ISREG(st.st_mode) || (uint64_t)st.st_size < s->ram.size ||
	    !qemu_maps_file(s->qmp.pid, s->ram.path)) {
		log_error("the source's RAM file %s is not what QEMU has mapped, or is not %" PRIu64
			  " bytes long; umig must see it under the same path",
			  s->ram.path, s->ram.size);
		return -EOPNOTSUPP;
	}
	return qemu_check_caps(&s->qmp, "source", s->caps);

qmp_failed:
	log_error("cannot ask the source QEMU for its state: %s", s->qmp.error);
	return -EIO;
}

/* Makes QEMU write its device state into a socket that the state reader empties. */
int send_start_migration(struct send *s)
{
	int pair[2], ret;

	ret = qemu_set_caps(&s->qmp, s->caps);
	if (ret) {
		log_error("cannot set the source's migration capabilities: %s", s->qmp.error);
		return ret;
	}
	s->caps_set = true;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	ret = qmp_send_fd(&s->qmp, SEND_FD_NAME, pair[1]);
	close(pair[1]);
	if (ret) {
		log_error("cannot hand a socket to the source QEMU: %s", s->qmp.error);
		close(pair[0]);
		return ret;
	}
	s->fd_given = true;
	ret = state_reader_start(&s->state, pair[0], s->sink, s->sink_arg);
	if (ret)
		return ret;
	/* Of an earlier migration, or of somebody who stopped the guest for a while. */
	ret = qemu_take_events(&s->qmp, &s->events);
	s->events = (struct qemu_events){ 0 };
	if (ret) {
		log_error("migration failed: the source QEMU: %s", s->qmp.error);
		return ret;
	}
	s->migrating = true;
	ret = qmp_command(&s->qmp, "migrate", json_pack("{s:s}", "uri", "fd:" SEND_FD_NAME), NULL);
	if (ret)
		log_error("the source QEMU does not migrate: %s", s->qmp.error);
	else
		s->fd_given = false;
	/* It has refused: if one is under way, it is somebody else's. */
	if (ret == -EREMOTEIO)
		s->migrating = false;
	return ret;
}

/* QEMU has closed its socket: was that success? The source is stopped for good then. */
int send_check_migrated(struct send *s)
{
	uint64_t deadline = now_ns() + 5000000000ULL;
	char state[64] = "", error[256] = "";
	int ret;

	do {
		ret = qemu_take_events(&s->qmp, &s->events);
		snprintf(state, sizeof(state), "%s", s->events.migration);
		/* It says so by itself; asked, it would have less time for the guest's end here. */
		if (!ret && strcmp(state, "completed"))
			ret = qemu_migration_state(&s->qmp, state, sizeof(state), error,
						   sizeof(error));
		if (ret) {
			log_error("migration failed: the source QEMU: %s", s->qmp.error);
			return ret;
		}
		if (!strcmp(state, "completed")) {
			ret = qemu_take_events(&s->qmp, &s->events);
			if (!s->events.stop_ns)
				s->events.stop_ns = now_ns();
			return ret;
		}
		if (!qemu_migration_is_active(state))
			break;
		usleep(1000);
	} while (now_ns() < deadline);
	log_error("migration failed in the source QEMU (%s): %s", state, error);
	return -EIO;
}

/* How long QEMU, which may write to its disks before it answers, is given to be as it was. */
static uint64_t send_restore_deadline(const struct send *s)
{
	return now_ns() + (s->timeout_s > 20 ? s->timeout_s : 20) * 1000000000ULL;
}

/* Waits until no migration is under way, cancelling it. */
static int send_cancel(struct send *s)
{
	uint64_t deadline = send_restore_deadline(s);
	char state[64], error[256];
	bool cancelled = false;

	while (now_ns() < deadline) {
		int ret = qemu_migration_state(&s->qmp, state, sizeof(state), error,
					       sizeof(error));

		if (ret == -ETIMEDOUT)
			continue;
		if (ret)
			return ret;
		if (!qemu_migration_is_active(state))
			return 0;
		if (!cancelled)
			qmp_command(&s->qmp, "migrate_cancel", NULL, NULL);
		cancelled = true;
		usleep(20000);
	}
	return -ETIMEDOUT;
}

/*
 * The source guest is to be as it was, in so far as we have changed it: what somebody else did to
 * it while we waited is none of our business. Return: 0, or -EIO, having said so.
 */
int send_restore_source(struct send *s)
{
	const char *wanted = s->was_running ? "running" : "paused";
	bool ours = s->migrating || s->stopped;
	uint64_t deadline;
	char state[64] = "?";
	int ret;

	state_reader_stop(&s->state);
	if (s->fd_given)
		qmp_command(&s->qmp, "closefd", json_pack("{s:s}", "fdname", SEND_FD_NAME), NULL);
	if (s->migrating && send_cancel(s))
		goto unsure;
	deadline = send_restore_deadline(s);
	while (now_ns() < deadline) {
		ret = qemu_run_state(&s->qmp, state, sizeof(state));
		if (ret == -ETIMEDOUT)
			continue;
		if (ret)
			goto unsure;
		/* A guest that was paused is well in postmigrate too: it can be continued. */
		if (!ours || !strcmp(state, wanted) ||
		    (!s->was_running && (!strcmp(state, "postmigrate") ||
					 !strcmp(state, "prelaunch"))))
			goto restored;
		if (s->was_running && strcmp(state, "finish-migrate"))
			qmp_command(&s->qmp, "cont", NULL, NULL);
		usleep(20000);
	}
unsure:
	log_error("cannot make sure that the source guest is %s (last state: %s; %s); "
		  "look at it with query-status on %s, and resume it with 'cont'",
		  wanted, state, s->qmp.error, s->qmp_path);
	return -EIO;

restored:
	snprintf(s->source_state, sizeof(s->source_state), "%s", ours ? wanted : state);
	if (s->caps_set && qemu_restore_caps(&s->qmp, s->caps))
		log_error("cannot restore the source's migration capabilities: %s", s->qmp.error);
	return 0;
}

/* Before GO. Return: an exit code. */
int send_recover(struct send *s)
{
	link_close(&s->link);
	if (send_restore_source(s))
		return UMIG_UNKNOWN;
	log_error("the source guest is %s%s; "
		  "nothing is lost, the destination QEMU can be thrown away",
		  s->source_state,
		  !strcmp(s->source_state, "running") && s->events.stop_ns ? " again" : "");
	return UMIG_SOURCE_RUNS;
}
