/* SPDX-License-Identifier: GPL-2.0 */
/* What a helper gives up before it talks to a server. */
#ifndef UMIG_SANDBOX_H
#define UMIG_SANDBOX_H

void sandbox_drop_capabilities(void);
int sandbox_enter(void);

#endif
