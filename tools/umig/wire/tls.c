// SPDX-License-Identifier: GPL-2.0
/* TLS of the page connections: done by libnbd and nbdkit, asked for here. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "wire/tls.h"

struct tls tls;

/* Return: was it one of TLS_OPTIONS? */
bool tls_option(int c, const char *value)
{
	switch (c) {
	case 'K':
		tls.psk = value;
		return true;
	case 'C':
		tls.certificates = value;
		return true;
	case 'U':
		tls.user = value;
		return true;
	default:
		return false;
	}
}

/* Return: what is wrong with the options together, or NULL. */
const char *tls_problem(void)
{
	if (tls.psk && tls.certificates)
		return "--tls-psk and --tls-certificates exclude each other";
	if (tls.user && !tls.psk)
		return "--tls-user goes with --tls-psk";
	if (tls.psk && access(tls.psk, R_OK))
		return "the file of --tls-psk cannot be read";
	if (tls.certificates && access(tls.certificates, R_OK | X_OK))
		return "the directory of --tls-certificates cannot be read";
	return NULL;
}
