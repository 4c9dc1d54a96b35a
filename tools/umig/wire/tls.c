// SPDX-License-Identifier: GPL-2.0
/* Which keys the command line names for TLS, of page connections and the control connection. */
#include <unistd.h>

#include "wire/tls.h"

struct tls tls;

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
