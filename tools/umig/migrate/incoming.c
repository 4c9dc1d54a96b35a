// SPDX-License-Identifier: GPL-2.0
/* A QEMU that a guest enters: checked, given device state, resumed, put back as it was. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "device/device.h"
#include "device/regions.h"
#include "lib/log.h"
#include "lib/sandbox.h"
#include "migrate/incoming.h"

/* QEMU says by itself that it has loaded everything; it is asked no more often than this. */
#define ASK_LOADED_NS	(100 * NS_PER_MS)

static void incoming_refuse(struct incoming *in, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Says why this QEMU cannot take the guest, and keeps it for the caller's peer. */
static void incoming_refuse(struct incoming *in, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(in->why, sizeof(in->why), fmt, ap);
	va_end(ap);
	log_error("%s", in->why);
}

/* For the caller's peer: the user has been told already. */
static void incoming_keep(struct incoming *in, const char *what, const char *why)
{
	snprintf(in->why, sizeof(in->why), "%s%s%s", what, *why ? ": " : "", why);
}

void incoming_init(struct incoming *in)
{
	in->context = -1;
	in->qmp.fd = -1;
	in->caps[0] = (struct qemu_cap){
		.name = "x-ignore-shared", .want = true, .required = true
	};
	/* Makes 'cont', not loading, lock the disk images: the source can still take them back. */
	in->caps[1] = (struct qemu_cap){ .name = "late-block-activate", .want = true };
	in->caps[2] = (struct qemu_cap){ .name = "return-path" };
	in->caps[3] = (struct qemu_cap){ .name = "multifd" };
	in->caps[4] = (struct qemu_cap){ .name = "events", .want = true };
	in->signal_fd = signal_fd_open();
}

static void advise_pull(pid_t pid)
{
	log_error("if it waits for a page itself: 'umig pull --pid %d --from URI' serves its pages",
		  (int)pid);
	log_error("the sender prints that URI");
}

/* Return: 0 or -errno, having said why. */
int incoming_open(struct incoming *in)
{
	int ret = qmp_open(&in->qmp, in->qmp_path, QMP_OPEN_MS);

	if (ret) {
		log_error("cannot talk to the destination QEMU on %s: %s", in->qmp_path,
			  in->qmp.error);
		/* Device emulation that touches a missing page stops all of QEMU, QMP too. */
		if (in->resume && in->qmp.pid)
			advise_pull(in->qmp.pid);
		return ret;
	}
	in->qmp.timeout_ms = (unsigned int)in->timeout_s * 1000;
	if (!in->pid)
		in->pid = (uint64_t)in->qmp.pid;
	return 0;
}

static int incoming_check_state(struct incoming *in)
{
	char state[64];

	if (qemu_run_state(&in->qmp, state, sizeof(state))) {
		log_error("cannot ask the destination QEMU for its state: %s", in->qmp.error);
		return -EIO;
	}
	if (!in->resume && strcmp(state, "inmigrate")) {
		log_error("the destination QEMU is in state '%s', not waiting for a migration; "
			  "start it with -incoming defer%s",
			  state, strcmp(state, "running") && strcmp(state, "paused") ? "" :
			  ", or give --resume if its memory is only partly there");
		return -EOPNOTSUPP;
	}
	if (in->resume && !strcmp(state, "inmigrate")) {
		log_error("no guest has been loaded into the destination QEMU; leave out --resume");
		return -EOPNOTSUPP;
	}
	return 0;
}

/* Can this QEMU take a guest? Changes nothing. Return: 0 or -errno, having said why. */
int incoming_check(struct incoming *in)
{
	int ret = incoming_check_state(in);

	if (!ret)
		ret = qemu_find_ram(&in->qmp, "destination", &in->ram);
	if (ret)
		return ret;
	if (strcmp(in->ram.path, dev_path())) {
		log_error("the destination's RAM is the file %s; "
			  "start it with -object memory-backend-file,id=%s,size=%" PRIu64
			  ",mem-path=%s,share=off",
			  in->ram.path, in->ram.id, in->ram.size, dev_path());
		return -EOPNOTSUPP;
	}
	if (in->ram.prealloc) {
		log_error("the destination's memory backend waits for every page; "
			  "leave out prealloc=on");
		return -EOPNOTSUPP;
	}
	if (qemu_has_locked_memory((pid_t)in->pid)) {
		log_error("the destination QEMU locks its memory and waits for every page; "
			  "leave out -overcommit mem-lock=on");
		return -EOPNOTSUPP;
	}
	if (!in->resume)
		return qemu_check_caps(&in->qmp, "destination", in->caps);
	qemu_kept_id(&in->qmp, in->kept_id, sizeof(in->kept_id));
	return 0;
}

/* Finds the region of QEMU's RAM. Return: 0 or -errno, having said why. */
int incoming_find_region(struct incoming *in)
{
	struct postcopy_region_info info;
	int pid = (int)in->pid, ret;
	uint64_t *ids = NULL;
	size_t nr = 0;

	in->context = regions_open_context();
	if (in->context < 0)
		return in->context;
	ret = regions_of(in->context, pid, &ids, &nr);
	if (!ret && nr == 1)
		in->region = ids[0];
	free(ids);
	if (!ret && nr != 1) {
		log_error("QEMU (process %d) has %zu regions of %s instead of 1%s", pid, nr,
			  dev_path(), nr ? "" : "; if this is not QEMU's process id, give --pid");
		return -EOPNOTSUPP;
	}
	if (!ret)
		ret = dev_region_info(in->context, in->region, &info);
	if (ret) {
		log_error("cannot find the region of process %d: %s", pid, strerror(-ret));
		return ret;
	}
	if (info.out_offset || info.out_length != in->ram.size) {
		log_error("region %" PRIu64 " has %" PRIu64 " bytes at %" PRIu64
			  ", the machine's RAM has %" PRIu64,
			  in->region, (uint64_t)info.out_length, (uint64_t)info.out_offset,
			  in->ram.size);
		return -EOPNOTSUPP;
	}
	if (!in->resume && info.out_nr_present) {
		log_error("%" PRIu64 " pages of region %" PRIu64
			  " are there already, and nobody knows whose they are; "
			  "start the destination QEMU anew",
			  (uint64_t)info.out_nr_present, in->region);
		return -EOPNOTSUPP;
	}
	return 0;
}

/*
 * A sender numbers its own pages (DIRTY, HOLES), so both hosts need the same. Return: 0 or
 * -EOPNOTSUPP, having said why.
 */
int incoming_check_page_size(struct incoming *in, const struct guest *guest)
{
	if (guest->page_size == UMIG_PAGE_SIZE)
		return 0;
	incoming_refuse(in,
			"the source's host has pages of %" PRIu64 " bytes, the destination's of %"
			PRIu64 "; give both one page size, or use 'umig snapshot' and 'restore'",
			guest->page_size, UMIG_PAGE_SIZE);
	return -EOPNOTSUPP;
}

/* Does the guest fit into this QEMU? Return: 0 or -EOPNOTSUPP, having said why. */
int incoming_check_guest(struct incoming *in, const struct guest *guest)
{
	if (guest->ram_size % UMIG_PAGE_SIZE) {
		incoming_refuse(in, "the guest's RAM has %" PRIu64
				    " bytes, which are no whole pages of this host's %" PRIu64
				    " bytes; it needs a host with smaller pages",
				guest->ram_size, UMIG_PAGE_SIZE);
		return -EOPNOTSUPP;
	}
	if (guest->ram_size != in->ram.size) {
		incoming_refuse(in, "the source's RAM has %" PRIu64
				    " bytes, the destination's %" PRIu64
				    "; start both QEMUs with the same -m",
				guest->ram_size, in->ram.size);
		return -EOPNOTSUPP;
	}
	if (strcmp(guest->ram_id, in->ram.id)) {
		incoming_refuse(in,
				"the memory backend is called '%s' on the source and '%s' on the destination; QEMU needs the same name on both",
				guest->ram_id, in->ram.id);
		return -EOPNOTSUPP;
	}
	return 0;
}

/*
 * Becomes the helper of the region and starts demand, which reads no page before
 * transfer_release(). Enters the sandbox. Return: 0 or -errno, having said why.
 */
int incoming_attach(struct incoming *in, const char *uri)
{
	struct transfer *t = &in->transfer;
	int ret = transfer_init(t, uri);

	if (ret) {
		incoming_refuse(in, "the receiver cannot begin: %s", strerror(-ret));
		return ret;
	}
	in->transfer_open = true;
	t->nr_connections = (unsigned int)in->connections;
	t->json = in->json;
	t->replay = in->replay;
	t->record = in->record;
	atomic_store(&t->rate, in->rate);
	ret = transfer_attach(t, in->context, &in->region, 1);
	/* The transfer closes it. */
	in->context = -1;
	if (!ret)
		ret = sandbox_enter();
	if (!ret)
		ret = transfer_start_demand(t);
	if (ret)
		incoming_keep(in, "cannot attach to the destination's memory", strerror(-ret));
	return ret;
}

/*
 * Waits until a connection to the pages is up: nothing is risked on pages that cannot be had.
 * Return: 0, or -errno, having said why.
 */
int incoming_wait_source(struct incoming *in)
{
	struct transfer *t = &in->transfer;
	uint64_t deadline = now_ns() + in->timeout_s * NS_PER_S;

	while (!atomic_load(&t->connected) && !transfer_exit_code(t)) {
		struct pollfd pfd = { .fd = in->signal_fd, .events = POLLIN };

		if (now_ns() > deadline) {
			incoming_refuse(in,
					"cannot connect to the source's pages at %s within %" PRIu64
					" s; give the sender a --pages-listen that can be reached from here",
					t->uri, in->timeout_s);
			return -ETIMEDOUT;
		}
		if (poll(&pfd, 1, 5) > 0)
			return -EINTR;
	}
	if (transfer_exit_code(t)) {
		incoming_keep(in, "the receiver cannot use the pages of the source", t->uri);
		return -EIO;
	}
	return 0;
}

/**
 * incoming_start - make QEMU wait for device state
 * @id: QEMU keeps it for an umig that has to go on with this migration; "": none
 * @hold: QEMU gets no state before state_writer_hold(false): guest RAM may be stale until then
 *
 * Return: 0 or -errno, having said why.
 */
int incoming_start(struct incoming *in, const char *id, bool hold)
{
	int pair[2], ret;

	ret = qemu_set_caps(&in->qmp, in->caps);
	in->caps_set = !ret;
	/* A QEMU that cannot keep it works all the same. */
	if (!ret && *id)
		qemu_keep_id(&in->qmp, id);
	/* While QEMU waits for a migration, 'stop' means: do not start the guest at its end. */
	if (!ret)
		ret = qmp_command(&in->qmp, "stop", NULL, NULL);
	if (ret)
		goto failed;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
		ret = -errno;
		incoming_refuse(in, "cannot make a socket for the device state: %s",
				strerror(-ret));
		return ret;
	}
	ret = qmp_send_fd(&in->qmp, STATE_FD_NAME, pair[1]);
	close(pair[1]);
	if (ret) {
		close(pair[0]);
		goto failed;
	}
	in->fd_given = true;
	ret = state_writer_start(&in->state, pair[0]);
	if (ret) {
		incoming_refuse(in, "cannot write the device state: %s", strerror(-ret));
		return ret;
	}
	state_writer_hold(&in->state, hold);
	ret = qmp_command(&in->qmp, "migrate-incoming",
			  json_pack("{s:s}", "uri", "fd:" STATE_FD_NAME), NULL);
	if (!ret) {
		in->fd_given = false;
		return 0;
	}
failed:
	incoming_refuse(in, "the destination QEMU cannot be prepared: %s", in->qmp.error);
	return ret;
}

/* Can the transfer still fill the region? Return: 0, or -EIO having said why not. */
int incoming_check_transfer(struct incoming *in)
{
	if (!transfer_exit_code(&in->transfer))
		return 0;
	incoming_refuse(in, "the destination's memory cannot be filled");
	return -EIO;
}

/* Does QEMU take the device state? Return: 0, or -EPIPE having said why not. */
int incoming_check_state_taken(struct incoming *in)
{
	int error = state_writer_error(&in->state);

	if (!error)
		return 0;
	incoming_refuse(in, "the destination QEMU takes no device state: %s; "
			"its own messages say why", strerror(-error));
	return -EPIPE;
}

/* More device state. Return: 0 or -errno, having said why. */
int incoming_push_state(struct incoming *in, const void *data, uint32_t length)
{
	int ret = state_writer_push(&in->state, data, length);

	if (!ret)
		return 0;
	if (incoming_check_state_taken(in))
		return -EPIPE;
	incoming_refuse(in, "cannot keep the device state: %s", strerror(-ret));
	return ret;
}

/* That was all device state: is it what was sent? Return: 0, or -EBADMSG having said that not. */
int incoming_end_state(struct incoming *in, uint64_t bytes, uint64_t sum)
{
	uint64_t got = state_writer_finish(&in->state);

	if (in->state.bytes != bytes || got != sum) {
		incoming_refuse(in,
				"the device state is damaged: %" PRIu64 " bytes instead of %" PRIu64
				", or another digest",
				in->state.bytes, bytes);
		return -EBADMSG;
	}
	in->state_end_ns = now_ns();
	return 0;
}

/* Takes QEMU's events. Return: 0, or -EPIPE having said that QEMU has ended. */
int incoming_take_events(struct incoming *in)
{
	if (!qemu_take_events(&in->qmp, &in->events))
		return 0;
	incoming_refuse(in, "the destination QEMU has ended: %s; its own messages say why",
			in->qmp.error);
	return -EPIPE;
}

/* Asks QEMU. Return: 1 if it has loaded everything, 0 if not yet, -errno having said why. */
static int incoming_ask_loaded(struct incoming *in)
{
	char state[64], error[256];
	int ret = qemu_migration_state(&in->qmp, state, sizeof(state), error, sizeof(error));

	if (ret) {
		incoming_refuse(in, "the destination QEMU cannot load the device state: %s; "
				    "its own messages say why",
				in->qmp.error);
		return ret;
	}
	if (!strcmp(state, "failed")) {
		incoming_refuse(in, "the destination QEMU cannot load the device state: %s", error);
		return -EIO;
	}
	return !strcmp(state, "completed");
}

/* One look at how far QEMU is. Return: as incoming_ask_loaded(). */
static int incoming_is_loaded(struct incoming *in, uint64_t *asked_ns)
{
	int ret = incoming_take_events(in);

	if (!ret && !strcmp(in->events.migration, "completed"))
		return 1;
	if (!ret)
		ret = incoming_check_transfer(in);
	if (ret || (now_ns() - *asked_ns < ASK_LOADED_NS &&
		    strcmp(in->events.migration, "failed")))
		return ret;
	ret = incoming_ask_loaded(in);
	*asked_ns = now_ns();
	return ret;
}

/**
 * incoming_wait_loaded - wait until QEMU has loaded the device state
 *
 * Return: 0, or -errno having said why.
 */
int incoming_wait_loaded(struct incoming *in, const struct peer *peer)
{
	uint64_t deadline = now_ns() + in->timeout_s * NS_PER_S;
	uint64_t asked_ns = now_ns();
	int ret;

	while (!(ret = incoming_is_loaded(in, &asked_ns))) {
		struct pollfd fds[3] = {
			{ .fd = in->signal_fd, .events = POLLIN },
			{ .fd = in->qmp.fd, .events = POLLIN },
			{ .fd = peer->fd, .events = POLLIN },
		};

		if (now_ns() > deadline) {
			incoming_refuse(in, "the destination QEMU is still loading device state; "
					"gave up after %" PRIu64 " s", in->timeout_s);
			return -ETIMEDOUT;
		}
		ret = peer_ready(peer);
		if (ret)
			return ret;
		if (poll(fds, 3, 100) < 0 && errno != EINTR)
			return -errno;
		if (fds[0].revents) {
			incoming_refuse(in, "the receiver was stopped by a signal");
			return -EINTR;
		}
	}
	if (ret < 0)
		return ret;
	/* Events that QEMU sent before its answer. */
	ret = incoming_take_events(in);
	if (ret)
		return ret;
	if (in->events.runs) {
		/* 'stop' forbids it. If it happened all the same, two guests could run. */
		incoming_refuse(in,
				"the destination guest has started by itself; it must be ended");
		return -EIO;
	}
	in->load_ms = ms_since(in->state_end_ns);
	return 0;
}

/* With @in->resume: does the guest run already? */
bool incoming_runs(struct incoming *in)
{
	char state[64];

	return !qemu_run_state(&in->qmp, state, sizeof(state)) && !strcmp(state, "running");
}

/* Lets the guest run, if it ran before. Return: 0 or -errno, having said why. */
int incoming_resume(struct incoming *in, const struct guest *guest)
{
	uint64_t begin = now_ns();
	char state[64] = "?";
	int ret;

	if (guest->running) {
		ret = qmp_command(&in->qmp, "cont", NULL, NULL);
		if (!ret)
			ret = qemu_run_state(&in->qmp, state, sizeof(state));
		if (ret) {
			incoming_refuse(in, "the destination QEMU does not resume the guest: %s; "
					    "mend that and say 'cont' on %s, its pages go on being served meanwhile only by 'umig pull'",
					in->qmp.error, in->qmp_path);
			return ret;
		}
	}
	in->resume_ms = in->load_ms + ms_since(begin);
	if (guest->running)
		log_info("the guest runs here; loading took %.1f ms, resuming %.1f ms", in->load_ms,
			 in->resume_ms - in->load_ms);
	return 0;
}

/*
 * While pages come: the region tells when QEMU ends, so a QMP connection that is closed does not
 * matter any more.
 */
void incoming_watch_qemu(struct incoming *in)
{
	if (in->qmp.fd >= 0 && qmp_pump(&in->qmp)) {
		close(in->qmp.fd);
		in->qmp.fd = -1;
	}
}

/*
 * Undoes what umig has changed in QEMU. @arrived: no umig will have to go on with this migration.
 */
void incoming_put_back(struct incoming *in, bool arrived)
{
	if (in->qmp.fd < 0)
		return;
	if (in->caps_set)
		qemu_restore_caps(&in->qmp, in->caps);
	in->caps_set = false;
	if (arrived)
		qemu_forget_id(&in->qmp);
}

void incoming_close(struct incoming *in)
{
	if (in->fd_given)
		qmp_command(&in->qmp, "closefd", json_pack("{s:s}", "fdname", STATE_FD_NAME), NULL);
	state_writer_stop(&in->state);
	if (in->transfer_open) {
		transfer_stop(&in->transfer);
		transfer_destroy(&in->transfer);
	}
	if (in->context >= 0)
		close(in->context);
	qmp_close(&in->qmp);
}
