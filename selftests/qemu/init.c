// SPDX-License-Identifier: GPL-2.0
/*
 * The first process of the test VM: builds the root from the host's files, runs
 * one command, writes its exit status to /out/status and switches the VM off.
 *
 * vm.sh packs three things beside it: /modules/NNN, loaded in that order;
 * /command, the working directory and the words of the command, each ended by
 * NUL. /out/started tells vm.sh that the boot is over.
 *
 * With vm.probe on the kernel's command line it only says whether this machine's processors
 * can run guests: see accel.sh.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define ROOT		"/root"
/* How a directory of the host is mounted. Its files do not change, or need not be seen to. */
#define HOST_9P		"trans=virtio,version=9p2000.L,msize=512000,cache=loose"

static void power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

/* To the kernel log, and so to console.log. */
static void say(const char *format, ...)
{
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	char line[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	if (fd >= 0) {
		dprintf(fd, "<3>init: %s\n", line);
		close(fd);
	}
}

static void die(const char *what)
{
	say("%s: %s", what, strerror(errno));
	power_off();
}

static void must_mount(const char *source, const char *target, const char *type,
		       unsigned long flags, const char *options)
{
	mkdir(target, 0755);
	if (mount(source, target, type, flags, options))
		die(target);
}

static void try_mount(const char *source, const char *target, const char *type)
{
	mkdir(target, 0755);
	if (mount(source, target, type, 0, NULL))
		say("no %s: %s", target, strerror(errno));
}

static void write_file(const char *path, const char *format, ...)
{
	FILE *file = fopen(path, "w");
	va_list ap;

	if (!file) {
		say("%s: %s", path, strerror(errno));
		return;
	}
	va_start(ap, format);
	vfprintf(file, format, ap);
	va_end(ap);
	if (fclose(file))
		say("%s: %s", path, strerror(errno));
}

static void load_boot_modules(void)
{
	struct dirent **names;
	char path[300];
	int i, n, fd;

	n = scandir("/modules", &names, NULL, alphasort);
	for (i = 0; i < n; i++) {
		if (names[i]->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/modules/%s", names[i]->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)
			say("%s: %s", path, strerror(errno));
		close(fd);
	}
}

static void bring_up_loopback(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr))
		say("lo: %s", strerror(errno));
	close(fd);
}

/* The value of a word "name=value" on the kernel's command line, or "". */
static const char *kernel_argument(const char *name)
{
	static char line[4096], value[1024];
	char *word, *save = NULL;
	FILE *file = fopen("/proc/cmdline", "r");

	value[0] = '\0';
	if (!file || !fgets(line, sizeof(line), file))
		line[0] = '\0';
	if (file)
		fclose(file);
	for (word = strtok_r(line, "\n ", &save); word; word = strtok_r(NULL, "\n ", &save)) {
		size_t len = strlen(name);

		if (strncmp(word, name, len))
			continue;
		if (word[len] == '=' && word[len + 1])
			snprintf(value, sizeof(value), "%s", word + len + 1);
		else if (word[len] == '\0' || word[len] == '=')
			strcpy(value, "y");
	}
	return value;
}

/* vm.TAG=PATH: a directory of the host that is where it is there, in a root from elsewhere. */
static void mount_share(const char *tag)
{
	char argument[32], target[1100], *slash;
	const char *path;

	snprintf(argument, sizeof(argument), "vm.%s", tag);
	path = kernel_argument(argument);
	if (!*path)
		return;
	snprintf(target, sizeof(target), ROOT "%s", path);
	for (slash = target + sizeof(ROOT); (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		mkdir(target, 0755);
		*slash = '/';
	}
	must_mount(tag, target, "9p", MS_RDONLY, HOST_9P);
}

static void build_root(void)
{
	char source[2048], target[1024];
	const char *modules;
	struct utsname uts;

	must_mount("host", "/host", "9p", MS_RDONLY, HOST_9P);
	must_mount("tmpfs", "/rw", "tmpfs", 0, "mode=755");
	mkdir("/rw/upper", 0755);
	mkdir("/rw/work", 0755);
	must_mount("overlay", ROOT, "overlay", 0,
		   "lowerdir=/host,upperdir=/rw/upper,workdir=/rw/work");
	must_mount("out", ROOT "/out", "9p", 0,
		   "trans=virtio,version=9p2000.L,msize=512000,cache=none");
	try_mount("proc", ROOT "/proc", "proc");
	try_mount("sysfs", ROOT "/sys", "sysfs");
	try_mount("devtmpfs", ROOT "/dev", "devtmpfs");
	try_mount("tmpfs", ROOT "/dev/shm", "tmpfs");
	try_mount("devpts", ROOT "/dev/pts", "devpts");
	try_mount("tmpfs", ROOT "/run", "tmpfs");
	try_mount("debugfs", ROOT "/sys/kernel/debug", "debugfs");
	try_mount("tracefs", ROOT "/sys/kernel/tracing", "tracefs");
	try_mount("cgroup2", ROOT "/sys/fs/cgroup", "cgroup2");
	symlink("/proc/self/fd", ROOT "/dev/fd");

	mount_share("share0");
	mount_share("share1");

	/* Modules of a kernel that is not installed on the host. */
	modules = kernel_argument("vm.modules");
	if (*modules && !uname(&uts)) {
		snprintf(source, sizeof(source), ROOT "%s/%s", modules, uts.release);
		snprintf(target, sizeof(target), ROOT "/lib/modules/%s", uts.release);
		mkdir(ROOT "/lib/modules", 0755);
		mkdir(target, 0755);
		if (mount(source, target, NULL, MS_BIND, NULL))
			say("%s: %s", source, strerror(errno));
	}

	if (chdir(ROOT) || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		die("chroot");
}

/* The words of /command; the first is the working directory. */
static char **read_command(void)
{
	static char text[65536], *words[1024];
	int fd = open("/command", O_RDONLY | O_CLOEXEC);
	ssize_t len = read(fd, text, sizeof(text) - 1);
	size_t n = 0;
	char *word;

	if (len <= 0)
		die("/command");
	close(fd);
	for (word = text; word < text + len && n < 1023; word += strlen(word) + 1)
		words[n++] = word;
	if (n < 2)
		die("/command is too short");
	return words;
}

/* The second serial port carries the command's output, as it is. */
static int open_terminal(int raw)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/dev/%s", kernel_argument("vm.terminal"));
	fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct termios tio;

	if (fd < 0)
		die(path);
	if (!tcgetattr(fd, &tio)) {
		cfsetspeed(&tio, B115200);
		if (raw)
			cfmakeraw(&tio);
		tcsetattr(fd, TCSANOW, &tio);
	}
	return fd;
}

static void set_terminal_size(int fd, const char *rows_x_columns)
{
	struct winsize size;

	memset(&size, 0, sizeof(size));
	if (sscanf(rows_x_columns, "%hux%hu", &size.ws_row, &size.ws_col) != 2) {
		size.ws_row = 24;
		size.ws_col = 80;
	}
	ioctl(fd, TIOCSWINSZ, &size);
}

static void run_command(char **words, int in, int out, int interactive)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	if (interactive)
		ioctl(in, TIOCSCTTY, 0);
	dup2(in, 0);
	dup2(out, 1);
	dup2(out, 2);
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("HOME", "/root", 1);
	setenv("LANG", "C.UTF-8", 1);
	setenv("TERM", interactive ? "vt220" : "dumb", 1);
	if (chdir(words[0]))
		dprintf(2, "init: %s: %s\n", words[0], strerror(errno));
	else
		execvp(words[1], words + 1);
	dprintf(2, "init: %s: %s\n", words[1], strerror(errno));
	_exit(127);
}

/* Passes on what is in the pipe; false if its last writer is gone. */
static int pass_on(int from, int to)
{
	char buf[4096];
	ssize_t len = read(from, buf, sizeof(buf)), done = 0, n;

	if (len < 0)
		return errno == EAGAIN || errno == EINTR;
	while (done < len) {
		n = write(to, buf + done, len - done);
		if (n < 0 && errno != EINTR)
			return 0;
		if (n > 0)
			done += n;
	}
	return len > 0;
}

/*
 * Returns the command's exit status, 128 + N if signal N ended it. Orphans are
 * reaped as they come.
 */
static int wait_for_command(pid_t command, int signals, int from, int terminal)
{
	struct pollfd polls[2] = {
		{ .fd = signals, .events = POLLIN },
		{ .fd = from, .events = POLLIN },
	};
	struct signalfd_siginfo si;
	int status;
	pid_t pid;

	for (;;) {
		poll(polls, 2, -1);
		if (polls[1].revents && !pass_on(from, terminal))
			polls[1].fd = -1;
		if (!(polls[0].revents & POLLIN))
			continue;
		if (read(signals, &si, sizeof(si)) < 0)
			continue;
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
			if (pid != command)
				continue;
			return WIFEXITED(status) ? WEXITSTATUS(status) :
						   128 + WTERMSIG(status);
		}
	}
}

static long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Writes to @wake, which the next processor reads, 20 times a second; sleeps in between. */
static void beat(int cpu, int woken, int wake)
{
	struct pollfd fd = { .fd = woken, .events = POLLIN };
	long next = now_ms();
	cpu_set_t set;
	char buf[64];

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	for (;;) {
		long left = next - now_ms();

		if (left <= 0) {
			left = 50;
			next = now_ms() + left;
			if (write(wake, "", 1) < 0 && errno != EAGAIN)
				_exit(1);
		}
		if (poll(&fd, 1, (int)left) > 0 && read(woken, buf, sizeof(buf)) <= 0)
			_exit(1);
	}
}

/*
 * Wakes each processor from another one all the time: see "lost interrupts" in emulator.sh.
 */
static void keep_processors_awake(void)
{
	int nr = (int)sysconf(_SC_NPROCESSORS_ONLN), pipes[64][2], i;

	if (nr < 2 || nr > 64)
		return;
	for (i = 0; i < nr; i++) {
		if (pipe2(pipes[i], O_CLOEXEC | O_NONBLOCK))
			die("pipe");
	}
	for (i = 0; i < nr; i++) {
		if (!fork())
			beat(i, pipes[i][0], pipes[(i + 1) % nr][1]);
	}
}

/* Says what accel.sh looks for in the console's log. */
static void probe(void)
{
	static char info[65536];
	int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);
	ssize_t len = read(fd, info, sizeof(info) - 1);

	close(fd);
	if (len > 0 && (strstr(info, " svm") || strstr(info, " vmx")))
		say("processors: guests can run here");
	else
		say("processors: no guests can run here");
	power_off();
}

int main(void)
{
	struct rlimit core = { RLIM_INFINITY, RLIM_INFINITY };
	int terminal, interactive, signals, status, out[2];
	sigset_t chld;
	char **words;
	pid_t pid;

	must_mount("proc", "/proc", "proc", 0, NULL);
	must_mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	if (*kernel_argument("vm.probe"))
		probe();
	load_boot_modules();
	words = read_command();
	build_root();
	write_file("/out/started", "1\n");

	bring_up_loopback();
	sethostname("postcopy", 8);
	setrlimit(RLIMIT_CORE, &core);
	write_file("/proc/sys/kernel/panic_on_oops", "1\n");

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	signals = signalfd(-1, &chld, SFD_CLOEXEC);
	keep_processors_awake();
	interactive = *kernel_argument("vm.interactive");
	terminal = open_terminal(!interactive);
	if (interactive)
		set_terminal_size(terminal, kernel_argument("vm.interactive"));
	/*
	 * Without --interactive the command sees a pipe, so that it behaves as
	 * in a script.
	 */
	if (pipe2(out, O_CLOEXEC))
		die("pipe");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		if (interactive)
			run_command(words, terminal, terminal, 1);
		run_command(words, open("/dev/null", O_RDONLY), out[1], 0);
	}
	close(out[1]);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	status = wait_for_command(pid, signals, out[0], terminal);

	kill(-1, SIGKILL);
	do {
		struct pollfd more = { .fd = out[0], .events = POLLIN };

		if (poll(&more, 1, 1000) <= 0)
			break;
	} while (pass_on(out[0], terminal));
	tcdrain(terminal);
	write_file("/out/status", "%d\n", status);
	power_off();
}
