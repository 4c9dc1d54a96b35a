// SPDX-License-Identifier: GPL-2.0
/*
 * Rows 8, 9 and 10: umig pull, from an nbdkit of this machine.
 *
 * 8:  how long a touch of a missing page takes (median) while background pulls as
 *     fast as it can / while it is held to next to nothing.
 * 9:  pages per second with a source that takes 1 ms for each answer / a puller that
 *     has one page in flight, as Cloud Hypervisor does: read, UFFDIO_COPY, next.
 * 10: how long the whole pull takes, from the start of umig to the region converted /
 *     the same number of bytes over a TCP connection into memory that is there; over
 *     a link of 1 Gbit/s, and over the loopback as fast as the processor can.
 *
 * In a VM that counts instructions the clock also jumps over the time when nothing
 * runs: figures are those of a machine with one processor that does 1000 MIPS. Files of
 * the host take time of the host's, during which it jumps too: umig is started from a copy.
 *
 * Ours and the rival in turns; the medians, and the spread of the rounds' ratios.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libnbd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include "bench.h"

#define MIB		(1UL << 20)
#define UMIG_DIR	"/dev/shm/bench-umig"

static const char *const uri_unix = "nbd+unix:///?socket=/tmp/bench-nbd.sock";
static const char *const uri_tcp = "nbd://127.0.0.1:10811/";

static pid_t spawn(char *const argv[])
{
	pid_t pid = fork();
	int null;

	must(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	null = open("/dev/null", O_RDWR);
	dup2(null, 0);
	dup2(null, 1);
	if (!getenv("BENCH_VERBOSE"))
		dup2(null, 2);
	execvp(argv[0], argv);
	_exit(127);
}

static void end(pid_t pid)
{
	kill(pid, SIGTERM);
	must(waitpid(pid, NULL, 0) == pid);
}

/* A file in memory with data that is nowhere zero: the source's RAM */
static void source_file(size_t length)
{
	int fd = open("/dev/shm/bench-nbd.ram", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct stat st;
	char *p;

	must(fd >= 0 && !fstat(fd, &st));
	if ((size_t)st.st_size != length) {
		must(!ftruncate(fd, length));
		p = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		must(p != MAP_FAILED);
		memset(p, 0x5a, length);
		munmap(p, length);
	}
	close(fd);
}

static pid_t source_start(size_t length, const char *delay, bool tcp)
{
	char *const argv[] = {
		"nbdkit", "-f", tcp ? "-i127.0.0.1" : "-U", tcp ? "-p10811" : "/tmp/bench-nbd.sock",
		"--filter=delay", "file", "/dev/shm/bench-nbd.ram", (char *)delay, NULL,
	};
	struct nbd_handle *nbd;
	uint64_t until = now_ms() + PATIENCE_MS;
	pid_t pid;
	int ret;

	source_file(length);
	unlink("/tmp/bench-nbd.sock");
	pid = spawn(argv);
	do {
		nbd = nbd_create();
		must(nbd);
		ret = nbd_connect_uri(nbd, tcp ? uri_tcp : uri_unix);
		nbd_close(nbd);
		if (ret)
			pause_ms(20);
	} while (ret && now_ms() < until);
	must(!ret);
	return pid;
}

static pid_t pull_start(const char *uri, const char *rate)
{
	char pid[32];
	char *const argv[] = {
		UMIG_DIR "/umig", "pull", "--pid", pid, "--from", (char *)uri,
		rate ? "--rate" : NULL, (char *)rate, NULL,
	};

	snprintf(pid, sizeof(pid), "%d", getpid());
	return spawn(argv);
}

static struct region map_region(size_t length)
{
	struct region r;

	must(!region_map(&r, 0, length / PAGE));
	return r;
}

static uint64_t nr_present(struct region *r)
{
	struct postcopy_region_info info;

	/* Gone from the table: converted */
	if (region_info(r, &info))
		return r->length / PAGE;
	return info.out_nr_present;
}

static void wait_present(struct region *r, uint64_t nr, pid_t pull)
{
	while (nr_present(r) < nr) {
		must(!waitpid(pull, NULL, WNOHANG) || nr_present(r) >= nr);
		pause_ms(1);
	}
}

/* Row 8 */

#define NR_TOUCHES	101

static double demand_latency(const char *rate)
{
	size_t length = 512 * MIB, i, nr = 0;
	pid_t source = source_start(length, "rdelay=0", false);
	struct region r = map_region(length);
	pid_t pull = pull_start(uri_unix, rate);
	double taken[NR_TOUCHES];
	uint64_t start;
	unsigned int seed = 1;

	wait_present(&r, 1, pull);
	for (i = 0; nr < NR_TOUCHES; i++) {
		struct postcopy_region_info info;
		uint64_t faults;
		size_t page = rand_r(&seed) % (length / PAGE);

		must(!region_info(&r, &info) && info.out_nr_present < info.out_nr_pages);
		faults = info.out_total_faults;
		start = clock_now();
		(void)*(volatile char *)page_at(&r, page);
		start = clock_now() - start;
		/* Only those that found the page missing */
		must(!region_info(&r, &info));
		if (info.out_total_faults != faults)
			taken[nr++] = start;
	}
	kill(pull, SIGKILL);
	waitpid(pull, NULL, 0);
	region_close(&r);
	end(source);
	return median(taken, NR_TOUCHES);
}

static double latency_busy(void)
{
	return demand_latency(NULL);
}

static double latency_idle(void)
{
	return demand_latency("64K");
}

/* Row 9: pages per second */

static double rate_ours(void)
{
	size_t length = 256 * MIB, nr = length / PAGE;
	pid_t source = source_start(length, "rdelay=1ms", false);
	struct region r = map_region(length);
	pid_t pull = pull_start(uri_unix, NULL);
	uint64_t start;

	wait_present(&r, nr / 16, pull);
	start = clock_now();
	nr -= nr_present(&r);
	wait_present(&r, length / PAGE, pull);
	start = clock_now() - start;
	waitpid(pull, NULL, 0);
	region_close(&r);
	end(source);
	return nr * 1e9 / start;
}

static double rate_rival(void)
{
	size_t nr = 512, i;
	pid_t source = source_start(nr * PAGE, "rdelay=1ms", false);
	char *address = memory_missing(nr * PAGE);
	struct nbd_handle *nbd = nbd_create();
	char *page = memory_populated(PAGE);
	int uffd = uffd_open(0, 0);
	uint64_t start;

	must(nbd && !nbd_connect_uri(nbd, uri_unix));
	uffd_register(uffd, address, nr * PAGE, UFFDIO_REGISTER_MODE_MISSING);
	start = clock_now();
	for (i = 0; i < nr; i++) {
		must(!nbd_pread(nbd, page, PAGE, i * PAGE, 0));
		uffd_copy(uffd, address + i * PAGE, page, PAGE);
	}
	start = clock_now() - start;
	nbd_close(nbd);
	munmap(address, nr * PAGE);
	munmap(page, PAGE);
	close(uffd);
	end(source);
	return nr * 1e9 / start;
}

/* Row 10: nanoseconds */

#define WHOLE	(256 * MIB)

static double whole_ours(void)
{
	pid_t source = source_start(WHOLE, "rdelay=0", true);
	struct region r = map_region(WHOLE);
	uint64_t start = clock_now();
	pid_t pull = pull_start(uri_tcp, NULL);
	int status;

	must(waitpid(pull, &status, 0) == pull && !status);
	start = clock_now() - start;
	region_close(&r);
	end(source);
	return start;
}

static void *tcp_send(void *arg)
{
	char *buffer = memory_populated(MIB);
	int fd = *(int *)arg;
	size_t done, n;

	for (done = 0; done < WHOLE; done += n) {
		ssize_t ret = send(fd, buffer, MIB, 0);

		must(ret > 0);
		n = ret;
	}
	shutdown(fd, SHUT_WR);
	munmap(buffer, MIB);
	return NULL;
}

static double whole_rival(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t len = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	int to = socket(AF_INET, SOCK_STREAM, 0), from;
	char *memory = memory_populated(WHOLE);
	size_t done = 0;
	pthread_t thread;
	uint64_t start;
	ssize_t ret;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	must(!bind(listener, (struct sockaddr *)&address, len) && !listen(listener, 1));
	must(!getsockname(listener, (struct sockaddr *)&address, &len));
	start = clock_now();
	must(!connect(to, (struct sockaddr *)&address, len));
	from = accept(listener, NULL, NULL);
	must(from >= 0);
	must(!pthread_create(&thread, NULL, tcp_send, &to));
	while ((ret = recv(from, memory + done, WHOLE - done, 0)) > 0)
		done += ret;
	start = clock_now() - start;
	must(done == WHOLE);
	pthread_join(thread, NULL);
	close(to);
	close(from);
	close(listener);
	munmap(memory, WHOLE);
	return start;
}

/* To make the pages is not in the raw copy, and no pull can do without. */
static double floor_fill(void)
{
	char *data = memory_populated(HUGE);
	struct region r = bench_region(WHOLE / PAGE);
	uint64_t start = clock_now();
	size_t done;

	for (done = 0; done < WHOLE; done += HUGE)
		bench_fill(&r, done, HUGE, data);
	start = clock_now() - start;
	region_close(&r);
	munmap(data, HUGE);
	return start;
}

void bench_pull(void)
{
	size_t nr_rounds = bench_short ? 3 : 9;
	struct row row = {
		.id = "8",
		.name = "touch of missing page, median, background busy / background idle",
		.unit = "touch",
		.target = 1.5,
	};

	must(!system("selftests/bench/copy_program.sh tools/umig/umig " UMIG_DIR));
	must(!setenv("LD_LIBRARY_PATH", UMIG_DIR, 1));
	row_rounds(&row, nr_rounds, latency_busy, latency_idle);
	row = (struct row){
		.id = "9",
		.name = "background, 1 ms round trip / one page in flight",
		.unit = "second",
		.target = 100,
		.more_is_better = true,
	};
	row_rounds(&row, nr_rounds, rate_ours, rate_rival);
	row = (struct row){
		.id = "10c",
		.name = "pull of 256 MiB over TCP loopback, start to converted / raw TCP copy",
		.unit = "pull",
		.target = 1.15,
		.floor = floor_fill() + whole_rival(),
	};
	row_rounds(&row, nr_rounds, whole_ours, whole_rival);
	must(!system("tc qdisc add dev lo root tbf rate 1gbit burst 512kb latency 50ms"));
	row.id = "10";
	row.name = "pull of 256 MiB over TCP at 1 Gbit/s, start to converted / raw TCP copy";
	row.floor = 0;
	row_rounds(&row, nr_rounds, whole_ours, whole_rival);
	must(!system("tc qdisc del dev lo root"));
}
