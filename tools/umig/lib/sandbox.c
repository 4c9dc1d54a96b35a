// SPDX-License-Identifier: GPL-2.0
/*
 * What a helper gives up once it has its regions. From then on it parses what a server sends, and
 * needs neither privileges nor other programs.
 *
 * The helper fd alone lets it fill guest memory, so filling takes no privilege. The user stays the
 * same, because sockets and keys that must be opened again after a lost connection belong to that
 * user.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/lib.h"
#include "lib/log.h"
#include "lib/sandbox.h"

/* Files, memory, threads, time, sockets, signals to child processes; no execve. */
static const char *const allowed[] = {
	"access", "close", "dup", "dup2", "dup3", "eventfd2", "faccessat", "faccessat2",
	"fcntl", "fstat", "fstatfs", "fsync", "getcwd", "getdents64", "ioctl", "lseek", "lstat",
	"mkdir", "mkdirat", "newfstatat", "open", "openat", "pipe2", "poll", "ppoll", "pread64",
	"preadv", "pselect6", "pwrite64", "pwritev", "read", "readlink", "readlinkat", "readv",
	"rename", "renameat", "rmdir", "select", "signalfd4", "stat", "statfs", "statx", "umask",
	"unlink", "unlinkat", "write", "writev",
	"brk", "madvise", "mmap", "mprotect", "mremap", "munmap",
	"arch_prctl", "clone", "clone3", "exit", "exit_group", "futex", "futex_time64",
	"get_robust_list", "getpriority", "membarrier", "prctl", "restart_syscall", "rseq",
	"sched_getaffinity", "sched_yield", "set_robust_list", "set_tid_address", "setpriority",
	"clock_getres", "clock_gettime", "clock_nanosleep", "getrandom", "gettimeofday",
	"nanosleep", "time",
	"accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt",
	"listen", "recvfrom", "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto",
	"setsockopt", "shutdown", "socket", "socketpair",
	"getegid", "geteuid", "getgid", "getpid", "getppid", "getrlimit", "gettid", "getuid",
	"prlimit64", "sysinfo", "uname",
	"kill", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait",
	"sigaltstack", "tgkill", "wait4", "waitid",
};

/* Drops all capabilities but CAP_SYS_NICE, for the calling thread and threads it starts later. */
void sandbox_drop_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	if (syscall(SYS_capget, &header, data))
		return;
	/* The demand thread raises its priority: a guest waits for it. */
	data[0].effective &= 1U << CAP_SYS_NICE;
	data[0].permitted &= 1U << CAP_SYS_NICE;
	data[0].inheritable = 0;
	data[1] = (struct __user_cap_data_struct){ 0 };
	/* Giving up a capability cannot fail. */
	syscall(SYS_capset, &header, data);
}

/**
 * sandbox_enter - no capabilities, no new privileges, and only the system calls above
 *
 * Call it before any thread talks to the source; the filter applies to all threads.
 *
 * Return: 0 or -errno, having said why.
 */
int sandbox_enter(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	unsigned int i;
	int ret = filter ? 0 : -ENOMEM;

	sandbox_drop_capabilities();
	for (i = 0; !ret && i < ARRAY_SIZE(allowed); i++) {
		int nr = seccomp_syscall_resolve_name(allowed[i]);

		/* Not every architecture has all of them. */
		if (nr >= 0)
			ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, nr, 0);
	}
	if (!ret)
		ret = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 1);
	if (!ret)
		ret = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	if (!ret)
		ret = seccomp_load(filter);
	if (filter)
		seccomp_release(filter);
	if (ret)
		log_error("cannot give up privileges: %s", strerror(-ret));
	return ret;
}
