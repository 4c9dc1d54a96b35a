/* SPDX-License-Identifier: GPL-2.0 */
/* Which keys the command line names for TLS, of page connections and the control connection. */
#ifndef UMIG_TLS_H
#define UMIG_TLS_H

#include <stdbool.h>

#include "lib/options.h"

/**
 * struct tls - of this process; set while the command line is parsed
 * @psk: file with lines USER:KEY
 * @certificates: directory with ca-cert.pem and {client,server}-{cert,key}.pem
 * @user: for the client: which line of @psk; NULL: that of the login name
 */
struct tls {
	const char *psk;
	const char *certificates;
	const char *user;
};

extern struct tls tls;

/* For an option table. */
#define TLS_OPTIONS						\
	OPTION_OF_TEXT("tls-psk", &tls.psk),			\
	OPTION_OF_TEXT("tls-certificates", &tls.certificates),	\
	OPTION_OF_TEXT("tls-user", &tls.user)

static inline bool tls_is_on(void)
{
	return tls.psk || tls.certificates;
}

const char *tls_problem(void);

#endif
