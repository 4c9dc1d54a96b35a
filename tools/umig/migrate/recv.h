/* SPDX-License-Identifier: GPL-2.0 */
/*
 * umig recv's parts: recv_link.c talks to the sender, recv_check.c says whether it can
 * work, recv_precopy.c fills while the source runs, recv_switch.c goes as far as RESUMED,
 * recv_pages.c from there on.
 */
#ifndef UMIG_RECV_H
#define UMIG_RECV_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/log.h"
#include "qemu/qemu.h"
#include "qemu/state.h"
#include "transfer/transfer.h"
#include "watch/monitor.h"
#include "watch/progress.h"
#include "wire/link.h"
#include "wire/tls.h"

/* The name under which QEMU gets the socket for its device state. */
#define RECV_FD_NAME	"umig-state"

struct recv {
	/* Options. */
	const char *qmp_path;
	const char *listen;
	uint64_t timeout_s;
	uint64_t connections;
	uint64_t rate;
	bool json;
	bool resume;
	pid_t pid;

	int signal_fd;
	int listen_fd;
	struct qmp qmp;
	struct qemu_ram ram;
	struct qemu_cap caps[QEMU_MAX_CAPS];
	bool caps_set;
	bool fd_given;
	int context;
	uint64_t region;
	/* With --resume: of the migration to go on with; empty: not known. */
	char id[CONTROL_ID_SIZE];
	struct control_message hello;
	struct link links[2];
	struct link *link;
	struct state_writer state;
	struct transfer transfer;
	bool transfer_open;
	struct working_set *replay;
	struct working_set *record;
	struct progress progress;
	struct monitor monitor;

	uint64_t state_end_ns;
	double load_ms;
	double resume_ms;
	struct qemu_events events;
	bool go;
	bool precopy_runs;
	bool resumed;
	bool converted;
	uint64_t lost_ns;
	uint64_t told_ns;
};

static inline bool recv_is_connected(const struct recv *r)
{
	return r->link->fd >= 0;
}

/* For getopt_long(); what recv_option() knows. */
#define RECV_OPTIONS						\
	{ "qmp", required_argument, NULL, 'q' },		\
	{ "pid", required_argument, NULL, 'p' },		\
	{ "connections", required_argument, NULL, 'c' },	\
	{ "rate", required_argument, NULL, 'R' },		\
	{ "json", no_argument, NULL, 'j' },			\
	TLS_OPTIONS

/* Says @fmt to the sender and to the user. */
#define recv_refuse_as(r, error, fmt, ...)					\
do {										\
	log_error(fmt, ##__VA_ARGS__);						\
	link_send_error((r)->link, error, fmt, ##__VA_ARGS__);			\
} while (0)

#define recv_refuse(r, fmt, ...) recv_refuse_as(r, CONTROL_FAILED, fmt, ##__VA_ARGS__)

void recv_defaults(struct recv *r);
int recv_option(struct recv *r, int c, const char *value);
int recv_frame(struct recv *r, struct link *link, int timeout_ms, struct control_frame *frame);
int recv_message(struct recv *r, struct link *link, int timeout_ms, struct control_message *msg);
int recv_accept(struct recv *r, struct control_message *msg);
void recv_turn_away(struct recv *r, const char *why);
void recv_use_spare(struct recv *r);
int recv_accept_again(struct recv *r);
int recv_lost(struct recv *r, int error);
int recv_send_resumed(struct recv *r);
int recv_check_qemu(struct recv *r);
int recv_find_region(struct recv *r);
int recv_check_hello(struct recv *r);
int recv_open_transfer(struct recv *r);
int recv_start_incoming(struct recv *r);
int recv_wait_loaded(struct recv *r);
int recv_resume_guest(struct recv *r);
int recv_switch_over(struct recv *r);
int recv_init(struct recv *r);
void recv_cleanup(struct recv *r);
int recv_precopy_start(struct recv *r);
int recv_precopy_tell(struct recv *r);
int recv_precopy_ranges(struct recv *r, const struct control_frame *frame);
int recv_precopy_round(struct recv *r);
void recv_precopy_stop(struct recv *r);
int recv_pages(struct recv *r);
void recv_linger(struct recv *r);

#endif
