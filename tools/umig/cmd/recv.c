// SPDX-License-Identifier: GPL-2.0
/* umig recv: receive a guest that umig send migrates. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "cmd/cmd.h"
#include "lib/options.h"
#include "migrate/receiver.h"
#include "wire/address.h"
#include "wire/tls.h"
#include "wire/tls_session.h"

static int recv_parse(struct receiver *r, int argc, char **argv)
{
	const struct option_entry options[] = {
		INCOMING_OPTIONS(&r->in),
		OPTION_OF_TAKE("listen", &r->listen, address_take),
		OPTION_OF_NUMBER("timeout", &r->in.timeout_s, 1, OPTION_MAX_SECONDS),
		OPTION_OF_FLAG("resume", &r->in.resume),
		TLS_OPTIONS,
		{ 0 }
	};
	int ret;

	r->in.timeout_s = INCOMING_TIMEOUT_S;
	r->in.connections = INCOMING_CONNECTIONS;
	ret = options_parse("recv", options, argc, argv, 0);
	if (ret)
		return ret;
	if (!r->in.qmp_path || !r->listen)
		return options_bad("recv", "--qmp SOCKET and --listen ADDRESS are needed");
	if (tls_problem())
		return options_bad("recv", "%s", tls_problem());
	return tls_load(TLS_SERVER, NULL) ? UMIG_REFUSED : 0;
}

static int recv_run(int argc, char **argv)
{
	struct receiver *r = calloc(1, sizeof(*r));
	int code;

	if (!r)
		return UMIG_FAILED;
	code = recv_parse(r, argc, argv);
	if (!code)
		code = receiver_run(r);
	free(r);
	return code;
}

const struct subcommand recv_subcommand = {
	.name = "recv",
	.purpose = "receive a guest that 'umig send' migrates",
	.help =
	"usage: umig recv --qmp SOCKET --listen unix:PATH|tcp:HOST:PORT [OPTIONS]\n\n"
	"Waits for 'umig send', loads the device state, resumes the guest when the sender gives it\n"
	"up, and fills its memory. The destination QEMU is started with\n"
	"  -object memory-backend-file,id=r0,size=SIZE,mem-path=/dev/postcopy,share=off\n"
	"  -machine TYPE,memory-backend=r0 -incoming defer\n"
	"and otherwise like the source; with share=on if the guest has vhost-user devices, or shall\n"
	"move on by 'umig send' later.\n\n"
	"  --qmp SOCKET       QMP socket of the destination QEMU\n"
	"  --listen ADDRESS   where the sender connects\n"
	"  --resume           an earlier 'umig recv' was killed: go on with its guest. With the same\n"
	"                     --listen the sender connects again by itself\n"
	"  --pid PID          QEMU's process id, if the QMP socket does not tell it\n"
	"  --connections N    background connections, 1 to 16 (2)\n"
	"  --rate BYTES       background reads per second at most (suffix K, M, G)\n"
	"  --timeout SECONDS  how long to wait for each answer of the other side (60)\n"
	"  --tls-psk FILE | --tls-certificates DIR\n"
	"                     encrypt, and accept only a sender with the key (see umig(1))\n"
	"  --json             JSON lines on stdout: progress, then a summary\n",
	.run = recv_run,
};
