// SPDX-License-Identifier: GPL-2.0
/*
 * umig send: the source's side of a live migration.
 *
 * Until GO the guest is the source's: whatever fails, send_recover() makes it run again. With GO
 * it is the destination's: from then on the source is never resumed by umig, only its pages are
 * served until the receiver has acknowledged END. In between, when GO was sent and no RESUMED
 * came, nobody knows; send_reconnect() asks.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "lib/umig.h"
#include "migrate/send.h"
#include "wire/address.h"
#include "wire/tls.h"
#include "wire/tls_session.h"

static void send_finish(struct send *s)
{
	double seconds = (double)(now_ns() - s->started_ns) / 1e9;

	/* Tells the receiver that its ACK has come. */
	link_close(&s->link);
	progress_end(&s->progress);
	if (s->caps_set)
		qemu_restore_caps(&s->qmp, s->caps);
	log_info("%.1f s: moved; downtime %.1f ms (of that, the receiver's part %.1f ms), %" PRIu64
		 " pages: %" PRIu64 " with data, %" PRIu64 " zero, %" PRIu64 " by demand; "
		 "digest agreed",
		 seconds, s->downtime_ms, s->resume_ms, s->digest.nr_data + s->digest.nr_zero,
		 s->digest.nr_data, s->digest.nr_zero, s->demand);
	if (s->json)
		progress_print_json(json_pack("{s:s, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:I}",
					      "event", "summary", "seconds", seconds,
					      "downtime_ms", s->downtime_ms,
					      "resume_ms", s->resume_ms,
					      "data_pages", (json_int_t)s->digest.nr_data,
					      "zero_pages", (json_int_t)s->digest.nr_zero,
					      "demand_pages", (json_int_t)s->demand,
					      "state_bytes", (json_int_t)s->state.bytes,
					      "dirty_pages", (json_int_t)s->nr_dirty));
	if (s->quit)
		qmp_command(&s->qmp, "quit", NULL, NULL);
	else
		log_info("the source QEMU is no longer needed and may be ended");
}

static int send_migrate(struct send *s)
{
	int code, ret;

	if (qmp_open(&s->qmp, s->qmp_path, 10000)) {
		log_error("cannot talk to the source QEMU on %s: %s", s->qmp_path, s->qmp.error);
		return UMIG_FAILED;
	}
	if (send_check_source(s))
		return UMIG_REFUSED;
	if (s->precopy && precopy_start(s))
		return UMIG_REFUSED;
	ret = send_connect_first(s);
	if (ret < 0)
		return send_recover(s);
	/* Much may have happened to the source in the meantime. */
	if (ret && (send_check_source(s) || (s->precopy && precopy_check(s))))
		return UMIG_REFUSED;
	s->ram_fd = open(s->ram.path, O_RDONLY | O_CLOEXEC);
	if (s->ram_fd < 0) {
		log_error("cannot read the source's RAM file %s: %s", s->ram.path,
			  strerror(errno));
		return UMIG_REFUSED;
	}
	if (send_prepare(s))
		code = send_recover(s);
	else
		code = send_commit(s);
	if (code == UMIG_OK)
		send_finish(s);
	return code;
}

void send_cleanup(struct send *s)
{
	monitor_stop(&s->monitor);
	state_reader_stop(&s->state);
	precopy_stop(s);
	s->digest_stop = true;
	if (s->digest_started)
		pthread_join(s->digest_thread, NULL);
	if (s->server.pid)
		page_server_stop(&s->server);
	link_destroy(&s->link);
	qmp_close(&s->qmp);
	if (s->ram_fd >= 0)
		close(s->ram_fd);
}

static int send_parse(struct send *s, int argc, char **argv)
{
	static const struct option options[] = {
		{ "qmp", required_argument, NULL, 'q' },
		{ "to", required_argument, NULL, 't' },
		{ "pages-listen", required_argument, NULL, 'p' },
		{ "timeout", required_argument, NULL, 'T' },
		{ "wait", required_argument, NULL, 'w' },
		{ "json", no_argument, NULL, 'j' },
		TLS_OPTIONS,
		{ "quit", no_argument, NULL, 'Q' },
		{ "precopy", no_argument, NULL, 'P' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "switch-when", required_argument, NULL, 's' },
		{ 0 }
	};
	char host[256];
	int c;

	s->timeout_s = 60;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'q':
			s->qmp_path = optarg;
			break;
		case 't':
			s->to = optarg;
			break;
		case 'p':
			s->pages_listen = optarg;
			break;
		case 'T':
			if (umig_parse_u64(optarg, &s->timeout_s) || !s->timeout_s ||
			    s->timeout_s > 86400)
				return umig_usage(&send_subcommand, "--timeout %s is no good",
						  optarg);
			break;
		case 'w':
			if (umig_parse_u64(optarg, &s->wait_s) || s->wait_s > 86400)
				return umig_usage(&send_subcommand, "--wait %s is no good", optarg);
			break;
		case 'j':
			s->json = true;
			break;
		case 'Q':
			s->quit = true;
			break;
		case 'P':
			s->precopy = true;
			break;
		case 'r':
			if (umig_parse_u64(optarg, &s->rounds) || !s->rounds || s->rounds > 1000)
				return umig_usage(&send_subcommand, "--rounds %s is no good",
						  optarg);
			break;
		case 's':
			if (umig_parse_size(optarg, &s->switch_bytes))
				return umig_usage(&send_subcommand, "--switch-when %s is no good",
						  optarg);
			break;
		default:
			if (tls_option(c, optarg))
				break;
			return umig_usage(&send_subcommand,
					  "the option is not known or lacks its value");
		}
	}
	if (optind != argc)
		return umig_usage(&send_subcommand, "'%s' is too much", argv[optind]);
	if ((s->rounds || s->switch_bytes) && !s->precopy)
		return umig_usage(&send_subcommand, "--rounds and --switch-when go with --precopy");
	if (!s->rounds)
		s->rounds = s->switch_bytes ? 30 : 1;
	if (!s->qmp_path || !s->to)
		return umig_usage(&send_subcommand, "--qmp SOCKET and --to ADDRESS are needed");
	if (address_check(s->to))
		return umig_usage(&send_subcommand, "'%s' is neither unix:PATH nor tcp:HOST:PORT",
				  s->to);
	if (s->pages_listen && address_check(s->pages_listen))
		return umig_usage(&send_subcommand, "'%s' is neither unix:PATH nor tcp:HOST:PORT",
				  s->pages_listen);
	if (tls_problem())
		return umig_usage(&send_subcommand, "%s", tls_problem());
	return tls_load(TLS_CLIENT, address_host(s->to, host, sizeof(host)) ? NULL : host) ?
		UMIG_REFUSED : 0;
}

/* After the options. */
void send_init(struct send *s)
{
	s->ram_fd = -1;
	s->qmp.fd = -1;
	s->link.fd = -1;
	s->sink = state_to_link;
	s->sink_arg = &s->link;
	s->caps[0] = (struct qemu_cap){ .name = "x-ignore-shared", .want = true, .required = true };
	/* Each of these would want more than the one stream umig carries. */
	s->caps[1] = (struct qemu_cap){ .name = "return-path" };
	s->caps[2] = (struct qemu_cap){ .name = "multifd" };
	s->caps[3] = (struct qemu_cap){ .name = "pause-before-switchover" };
	s->caps[4] = (struct qemu_cap){ .name = "events", .want = true };
	s->started_ns = now_ns();
	s->signal_fd = umig_signal_fd();
	progress_init(&s->progress, s->json);
}

static int send_run(int argc, char **argv)
{
	struct send *s = calloc(1, sizeof(*s));
	uint8_t random[16];
	size_t i;
	int code;

	if (!s)
		return UMIG_FAILED;
	code = send_parse(s, argc, argv);
	if (code) {
		free(s);
		return code;
	}
	send_init(s);
	code = UMIG_FAILED;
	if (getrandom(random, sizeof(random), 0) == sizeof(random) && s->signal_fd >= 0 &&
	    !link_init(&s->link)) {
		for (i = 0; i < sizeof(random); i++)
			snprintf(s->id + 2 * i, 3, "%02x", random[i]);
		monitor_start(&s->monitor, "send");
		code = send_migrate(s);
		send_cleanup(s);
	}
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
	"  --timeout SECONDS       how long to wait for each step of the other side (60)\n"
	"  --wait SECONDS          how long to wait for 'umig recv' to listen (0: fail at once)\n"
	"  --precopy               pages flow while the source runs; what it writes to follows\n"
	"  --rounds N              with --precopy: send what was written to N - 1 times before (1)\n"
	"  --switch-when BYTES     with --precopy: switch over once no more than this is written to\n"
	"  --quit                  end the source QEMU when everything has arrived\n"
	"  --tls-psk FILE | --tls-certificates DIR\n"
	"                          only encrypted, and only with a receiver one knows (see umig(1))\n"
	"  --json                  JSON lines on stdout: progress, then a summary\n",
	.run = send_run,
};
