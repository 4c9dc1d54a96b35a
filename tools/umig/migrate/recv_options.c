// SPDX-License-Identifier: GPL-2.0
/* Options that umig recv and umig restore have in common. */
#include <errno.h>

#include "lib/umig.h"
#include "migrate/recv.h"
#include "wire/tls.h"

/* Before any option is seen. */
void recv_defaults(struct recv *r)
{
	r->timeout_s = 60;
	r->connections = 2;
}

/* One of RECV_OPTIONS. Return: 0; -EINVAL the value is no good; -ENOENT it is another option. */
int recv_option(struct recv *r, int c, const char *value)
{
	uint64_t pid = 0;
	bool bad = false;

	switch (c) {
	case 'q':
		r->qmp_path = value;
		break;
	case 'p':
		bad = umig_parse_u64(value, &pid) || !pid || pid > INT32_MAX;
		r->pid = (pid_t)pid;
		break;
	case 'c':
		bad = umig_parse_u64(value, &r->connections) || !r->connections ||
			r->connections > MAX_CONNECTIONS;
		break;
	case 'R':
		bad = umig_parse_size(value, &r->rate);
		break;
	case 'j':
		r->json = true;
		break;
	default:
		return tls_option(c, value) ? 0 : -ENOENT;
	}
	return bad ? -EINVAL : 0;
}
