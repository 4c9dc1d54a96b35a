/* SPDX-License-Identifier: GPL-2.0 */
/* TLS of the page connections: done by libnbd and nbdkit, asked for here. */
#ifndef UMIG_TLS_H
#define UMIG_TLS_H

#include <stdbool.h>

/**
 * struct tls - of this process; set while the command line is parsed
 * @psk: file with lines USER:KEY
 * @certificates: directory with ca-cert.pem and {client,server}-{cert,key}.pem
 * @user: of @psk, for the client; NULL: the login name
 */
struct tls {
	const char *psk;
	const char *certificates;
	const char *user;
};

extern struct tls tls;

#define TLS_OPTIONS						\
	{ "tls-psk", required_argument, NULL, 'K' },		\
	{ "tls-certificates", required_argument, NULL, 'C' },	\
	{ "tls-user", required_argument, NULL, 'U' }

static inline bool tls_is_on(void)
{
	return tls.psk || tls.certificates;
}

bool tls_option(int c, const char *value);
const char *tls_problem(void);

#endif
