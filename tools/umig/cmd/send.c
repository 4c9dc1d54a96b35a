// SPDX-License-Identifier: GPL-2.0
/* umig send: migrate a QEMU guest to where umig recv waits. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "cmd/cmd.h"
#include "lib/options.h"
#include "migrate/sender.h"
#include "wire/address.h"
#include "wire/tls.h"
#include "wire/tls_session.h"

/* If the user says how much may be left but not how many rounds that may take. */
#define ROUNDS_AT_MOST	30

static int send_parse(struct sender *s, int argc, char **argv)
{
	const struct option_entry options[] = {
		OPTION_OF_TEXT("qmp", &s->out.qmp_path),
		OPTION_OF_TAKE("to", &s->to, address_take),
		OPTION_OF_TAKE("pages-listen", &s->pages_listen, address_take),
		OPTION_OF_NUMBER("timeout", &s->out.timeout_s, 1, OPTION_MAX_SECONDS),
		OPTION_OF_NUMBER("wait", &s->wait_s, 0, OPTION_MAX_SECONDS),
		OPTION_OF_FLAG("json", &s->json),
		OPTION_OF_FLAG("quit", &s->quit),
		OPTION_OF_FLAG("precopy", &s->precopy),
		OPTION_OF_NUMBER("rounds", &s->rounds, 1, 1000),
		OPTION_OF_SIZE("switch-when", &s->switch_bytes, UINT64_MAX),
		TLS_OPTIONS,
		{ 0 }
	};
	char host[256];
	int ret;

	s->out.timeout_s = 60;
	ret = options_parse("send", options, argc, argv, 0);
	if (ret)
		return ret;
	if ((s->rounds || s->switch_bytes) && !s->precopy)
		return options_bad("send", "--rounds and --switch-when need --precopy");
	if (!s->rounds)
		s->rounds = s->switch_bytes ? ROUNDS_AT_MOST : 1;
	if (!s->out.qmp_path || !s->to)
		return options_bad("send", "--qmp SOCKET and --to ADDRESS are needed");
	if (tls_problem())
		return options_bad("send", "%s", tls_problem());
	return tls_load(TLS_CLIENT, address_host(s->to, host, sizeof(host)) ? NULL : host) ?
		UMIG_REFUSED : 0;
}

static int send_run(int argc, char **argv)
{
	struct sender *s = calloc(1, sizeof(*s));
	int code;

	if (!s)
		return UMIG_FAILED;
	code = send_parse(s, argc, argv);
	if (!code)
		code = sender_run(s);
	free(s);
	return code;
}

const struct subcommand send_subcommand = {
	.name = "send",
	.purpose = "migrate a QEMU guest to where 'umig recv' waits",
	.help =
	"usage: umig send --qmp SOCKET --to unix:PATH|tcp:HOST:PORT [OPTIONS]\n\n"
	"Stops the guest, sends its device state, lets it run at the destination and serves its\n"
	"pages until they are all there. The guest's RAM must be a memory-backend-file,share=on.\n"
	"If anything fails before the destination may run, the source guest runs again.\n\n"
	"  --qmp SOCKET            QMP socket of the source QEMU\n"
	"  --to ADDRESS            where 'umig recv' listens\n"
	"  --pages-listen ADDRESS  where to serve the pages (default: beside the connection)\n"
	"  --timeout SECONDS       how long to wait for each answer of the other side (60)\n"
	"  --wait SECONDS          how long to wait for 'umig recv' to listen (0: fail at once)\n"
	"  --precopy               pages flow while the source runs; pages it writes to follow\n"
	"  --rounds N              with --precopy: send pages written to N - 1 times before (1)\n"
	"  --switch-when BYTES     with --precopy: switch over once no more than this was written\n"
	"  --quit                  end the source QEMU when everything has arrived\n"
	"  --tls-psk FILE | --tls-certificates DIR\n"
	"                          encrypt, and accept only a receiver with the key (see umig(1))\n"
	"  --json                  JSON lines on stdout: progress, then a summary\n",
	.run = send_run,
};
