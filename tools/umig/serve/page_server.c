// SPDX-License-Identifier: GPL-2.0
/*
 * The page server: guest RAM in a file, or in the memory of a process, as an NBD export.
 *
 * umig opens the listening socket and hands it to nbdkit (socket activation): the kernel can choose
 * the port, the address survives a restart of nbdkit, and no client is refused while nbdkit comes
 * up.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/lib.h"
#include "serve/serve.h"
#include "wire/address.h"
#include "wire/tls.h"

#ifndef UMIG_LIB_DIR
#define UMIG_LIB_DIR "/usr/local/lib/umig"
#endif

#define PLUGIN_NAME "nbdkit-umig-plugin.so"

/* In $UMIG_PLUGIN_DIR, or beside the program (a build tree), or where make install puts it. */
static int find_plugin(char *path, size_t size)
{
	const char *dir = getenv("UMIG_PLUGIN_DIR");
	char self[4096];
	ssize_t n;

	if (dir) {
		snprintf(path, size, "%s/%s", dir, PLUGIN_NAME);
		return access(path, R_OK) ? -errno : 0;
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n > 0) {
		self[n] = '\0';
		*strrchr(self, '/') = '\0';
		if ((size_t)snprintf(path, size, "%s/%s", self, PLUGIN_NAME) < size &&
		    !access(path, R_OK))
			return 0;
	}
	snprintf(path, size, "%s/%s", UMIG_LIB_DIR, PLUGIN_NAME);
	return access(path, R_OK) ? -errno : 0;
}

/* In the child. */
static void page_server_exec(const struct page_server *s, const char *plugin)
{
	const char *argv[16] = {
		"nbdkit", "--exit-with-parent", "--foreground", "--readonly", "--log=stderr",
		"--threads=16",
	};
	char pid[24], file_arg[4200], range_arg[64], tls_arg[4200];
	unsigned int nr = 6;
	int memory = -1;
	sigset_t none;

	/* nbdkit wants the socket as fd 3. */
	if (s->memory.fd >= 0)
		memory = fcntl(s->memory.fd, F_DUPFD, 4);
	if (s->listen_fd != 3 && dup2(s->listen_fd, 3) < 0)
		_exit(126);
	if (fcntl(3, F_SETFD, 0) < 0)
		_exit(126);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", "1", 1);
	unsetenv("LISTEN_FDNAMES");
	snprintf(file_arg, sizeof(file_arg), "file=%s", s->file);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* Ctrl-C must reach only umig, which decides when the pages may go. */
	setpgid(0, 0);
	if (tls.psk)
		snprintf(tls_arg, sizeof(tls_arg), "--tls-psk=%s", tls.psk);
	if (tls.certificates)
		snprintf(tls_arg, sizeof(tls_arg), "--tls-certificates=%s", tls.certificates);
	if (tls_is_on()) {
		argv[nr++] = "--tls=require";
		argv[nr++] = tls_arg;
	}
	/* The client must show a certificate, too. */
	if (tls.certificates)
		argv[nr++] = "--tls-verify-peer";
	argv[nr++] = plugin;
	if (memory >= 0) {
		snprintf(file_arg, sizeof(file_arg), "memory=%d", memory);
		snprintf(range_arg, sizeof(range_arg), "range=%" PRIu64 "-%" PRIu64,
			 s->memory.start, s->memory.end);
		argv[nr++] = range_arg;
	}
	argv[nr++] = file_arg;
	execvp("nbdkit", (char *const *)argv);
	_exit(errno == ENOENT ? 127 : 126);
}

static int page_server_spawn(struct page_server *s)
{
	char plugin[4200];

	if (find_plugin(plugin, sizeof(plugin))) {
		log_error("cannot serve pages: %s is not beside umig nor in %s; "
			  "build it, or set UMIG_PLUGIN_DIR",
			  PLUGIN_NAME, UMIG_LIB_DIR);
		return -ENOENT;
	}
	s->pid = fork();
	if (s->pid < 0)
		return -errno;
	if (!s->pid)
		page_server_exec(s, plugin);
	return 0;
}

/* Return: 0 if an NBD server greets, -ETIMEDOUT if it does not yet, another -errno. */
static int page_server_greets(const struct page_server *s)
{
	struct timeval limit = { .tv_usec = 500000 };
	struct sockaddr_storage ss = { 0 };
	socklen_t length = sizeof(ss);
	char magic[8];
	int fd, ret = 0;

	if (getsockname(s->listen_fd, (struct sockaddr *)&ss, &length))
		return -errno;
	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&ss, length))
		ret = -errno;
	else if (recv(fd, magic, sizeof(magic), MSG_WAITALL) != sizeof(magic))
		ret = -ETIMEDOUT;
	else if (memcmp(magic, "NBDMAGIC", sizeof(magic)))
		ret = -EPROTO;
	close(fd);
	return ret;
}

/* Waits until nbdkit answers on its socket. */
static int page_server_wait(struct page_server *s)
{
	int ret, status;

	for (;;) {
		ret = page_server_greets(s);
		if (!ret)
			break;
		if (waitpid(s->pid, &status, WNOHANG) == s->pid) {
			s->pid = 0;
			if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
				log_error("cannot serve pages; "
					  "nbdkit is not installed (apt-get install nbdkit)");
			else
				log_error("cannot serve pages of %s; "
					  "nbdkit has ended, see its message above",
					  s->file);
			ret = -ECHILD;
			break;
		}
		if (ret != -ETIMEDOUT) {
			struct timespec ts = { .tv_nsec = 10000000 };

			nanosleep(&ts, NULL);
		}
	}
	return ret;
}

/* @s says what to serve. Return: as page_server_start(). */
static int page_server_begin(struct page_server *s, const char *address, const char *host)
{
	const char *path = address_unix_path(address);
	int ret;

	s->listen_fd = address_listen(address);
	if (s->listen_fd < 0) {
		ret = s->listen_fd;
		log_error("cannot listen on %s: %s", address, strerror(-ret));
		return ret;
	}
	if (path)
		snprintf(s->unix_path, sizeof(s->unix_path), "%s", path);
	ret = address_nbd_uri(s->listen_fd, address, host, s->uri, sizeof(s->uri));
	if (ret) {
		log_error("cannot name the socket %s in an NBD URI: %s", address, strerror(-ret));
		goto err;
	}
	/* nbds://..., nbds+unix://... */
	if (tls_is_on() && strlen(s->uri) + 1 < sizeof(s->uri)) {
		memmove(s->uri + 4, s->uri + 3, strlen(s->uri + 3) + 1);
		s->uri[3] = 's';
	}
	ret = page_server_spawn(s);
	if (!ret)
		ret = page_server_wait(s);
	if (ret)
		goto err;
	return 0;
err:
	page_server_stop(s);
	return ret;
}

/**
 * page_server_start - serve @file at @address
 * @host: names this host in the URI if @address is any address of this host; may be NULL
 *
 * Return: 0 once it answers, @s->uri is set; -errno, having said why.
 */
int page_server_start(struct page_server *s, const char *file, const char *address,
		      const char *host)
{
	char real[4096];
	int ret;

	memset(s, 0, sizeof(*s));
	s->memory.fd = -1;
	/* A file without a name is reached only through its link in /proc, which stays as it is. */
	if (strncmp(file, "/proc/", 6) ? !realpath(file, real) : access(file, R_OK)) {
		ret = -errno;
		log_error("cannot serve %s: %s", file, strerror(errno));
		return ret;
	}
	snprintf(s->file, sizeof(s->file), "%s", strncmp(file, "/proc/", 6) ? real : file);
	return page_server_begin(s, address, host);
}

/* The same for memory of a process. @memory's fd stays the caller's. */
int page_server_start_process(struct page_server *s, const struct process_memory *memory,
			      const char *address, const char *host)
{
	memset(s, 0, sizeof(*s));
	s->memory = *memory;
	snprintf(s->file, sizeof(s->file), "the process");
	return page_server_begin(s, address, host);
}

/* The same on a Unix socket in a directory of its own, for this user alone. */
int page_server_start_private(struct page_server *s, const char *file)
{
	char dir[] = "/tmp/umig-XXXXXX", address[64];
	int ret;

	if (!mkdtemp(dir)) {
		log_error("cannot make a directory for the page socket: %s", strerror(errno));
		return -EIO;
	}
	snprintf(address, sizeof(address), "unix:%s/pages.sock", dir);
	ret = page_server_start(s, file, address, NULL);
	if (ret)
		rmdir(dir);
	else
		snprintf(s->private_dir, sizeof(s->private_dir), "%s", dir);
	return ret;
}

/* Starts nbdkit again if it has died. Does nothing if none was started. Return: 0 or -errno. */
int page_server_check(struct page_server *s)
{
	int status;

	if (!*s->uri)
		return 0;
	if (s->pid && waitpid(s->pid, &status, WNOHANG) != s->pid)
		return 0;
	log_error("nbdkit has ended; starting it again");
	s->pid = 0;
	return page_server_spawn(s);
}

void page_server_stop(struct page_server *s)
{
	unsigned int i;

	if (s->pid > 0)
		kill(s->pid, SIGTERM);
	/* nbdkit waits for its clients to leave, which may never happen. */
	for (i = 0; s->pid > 0 && waitpid(s->pid, NULL, WNOHANG) != s->pid; i++) {
		if (i == 100)
			kill(s->pid, SIGKILL);
		usleep(10000);
	}
	s->pid = 0;
	if (s->listen_fd >= 0)
		close(s->listen_fd);
	s->listen_fd = -1;
	if (*s->unix_path)
		unlink(s->unix_path);
	*s->unix_path = '\0';
	if (*s->private_dir)
		rmdir(s->private_dir);
	*s->private_dir = '\0';
}
