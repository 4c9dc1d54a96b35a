/* SPDX-License-Identifier: GPL-2.0 */
/* A QEMU that a guest enters: checked, given device state, resumed, put back as it was. */
#ifndef UMIG_INCOMING_H
#define UMIG_INCOMING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/options.h"
#include "migrate/migrate.h"
#include "qemu/qemu.h"
#include "qemu/state.h"
#include "transfer/transfer.h"

/**
 * struct incoming
 * @qmp_path, @pid, @timeout_s, @connections, @rate, @json: options, see INCOMING_OPTIONS
 * @resume: the guest is in QEMU already, but not all of its pages
 * @replay, @record: set by the caller before incoming_attach(), see struct transfer
 * @signal_fd: set by incoming_init()
 * @kept_id: with @resume: the id of the migration that QEMU keeps; empty: none
 * @region: of QEMU's RAM;  @context: closed by @transfer once that is open
 * @transfer: fills the region, once @transfer_open
 * @caps_set, @fd_given: what incoming_put_back() and incoming_close() have to undo: capabilities, a
 *	descriptor in QEMU
 * @state_end_ns: when the last byte of device state came
 * @load_ms, @resume_ms: from then until everything was loaded, until the guest ran
 * @why: the last refusal, for the caller's peer; empty: none
 */
struct incoming {
	const char *qmp_path;
	uint64_t pid;
	uint64_t timeout_s;
	uint64_t connections;
	uint64_t rate;
	bool json;
	bool resume;
	struct working_set *replay;
	struct working_set *record;
	int signal_fd;

	struct qmp qmp;
	struct qemu_ram ram;
	struct qemu_cap caps[QEMU_MAX_CAPS];
	struct qemu_events events;
	char kept_id[64];
	int context;
	uint64_t region;
	struct transfer transfer;
	bool transfer_open;
	struct state_writer state;

	bool caps_set;
	bool fd_given;
	uint64_t state_end_ns;
	double load_ms;
	double resume_ms;
	char why[640];
};

#define INCOMING_TIMEOUT_S	60
#define INCOMING_CONNECTIONS	2

/* For the option table of a subcommand that has a struct incoming. */
#define INCOMING_OPTIONS(in)						\
	OPTION_OF_TEXT("qmp", &(in)->qmp_path),				\
	OPTION_OF_NUMBER("pid", &(in)->pid, 1, INT32_MAX),		\
	OPTION_OF_NUMBER("connections", &(in)->connections, 1, MAX_CONNECTIONS),	\
	OPTION_OF_SIZE("rate", &(in)->rate, OPTION_MAX_BYTES),		\
	OPTION_OF_FLAG("json", &(in)->json)

void incoming_init(struct incoming *in);
int incoming_open(struct incoming *in);
int incoming_check(struct incoming *in);
int incoming_find_region(struct incoming *in);
int incoming_check_page_size(struct incoming *in, const struct guest *guest);
int incoming_check_guest(struct incoming *in, const struct guest *guest);
int incoming_attach(struct incoming *in, const char *uri);
int incoming_wait_source(struct incoming *in);
int incoming_start(struct incoming *in, const char *id, bool hold);
int incoming_check_transfer(struct incoming *in);
int incoming_check_state_taken(struct incoming *in);
int incoming_take_events(struct incoming *in);
int incoming_push_state(struct incoming *in, const void *data, uint32_t length);
int incoming_end_state(struct incoming *in, uint64_t bytes, uint64_t sum);
int incoming_wait_loaded(struct incoming *in, const struct peer *peer);
int incoming_resume(struct incoming *in, const struct guest *guest);
bool incoming_runs(struct incoming *in);
void incoming_watch_qemu(struct incoming *in);
void incoming_put_back(struct incoming *in, bool arrived);
void incoming_close(struct incoming *in);

#endif
