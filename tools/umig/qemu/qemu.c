// SPDX-License-Identifier: GPL-2.0
/* What umig asks of a QEMU, over QMP and in /proc. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device/device.h"
#include "device/regions.h"
#include "lib/log.h"
#include "lib/mappings.h"
#include "lib/lib.h"
#include "qemu/qemu.h"

static int qemu_get_property(struct qmp *q, const char *id, const char *property, char *value,
			     size_t size)
{
	char path[256];
	json_t *ret;
	int err;

	snprintf(path, sizeof(path), "/objects/%s", id);
	err = qmp_command(q, "qom-get", json_pack("{s:s, s:s}", "path", path, "property",
						  property), &ret);
	if (err)
		return err;
	if (!json_is_string(ret) || json_string_length(ret) >= size)
		err = -EPROTO;
	else
		strcpy(value, json_string_value(ret));
	json_decref(ret);
	return err;
}

static int qemu_base_memory(struct qmp *q, uint64_t *base, uint64_t *plugged)
{
	json_t *ret;
	int err = qmp_command(q, "query-memory-size-summary", NULL, &ret);

	if (err)
		return err;
	*base = (uint64_t)json_integer_value(json_object_get(ret, "base-memory"));
	*plugged = (uint64_t)json_integer_value(json_object_get(ret, "plugged-memory"));
	json_decref(ret);
	return 0;
}

/**
 * qemu_find_ram - the memory backend that holds all of the machine's RAM
 * @side: "source" or "destination", for messages
 *
 * Return: 0; -EOPNOTSUPP the machine is of a kind that umig cannot move; another -errno, having
 * said why.
 */
int qemu_find_ram(struct qmp *q, const char *side, struct qemu_ram *ram)
{
	uint64_t base = 0, plugged = 0;
	json_t *list, *dev;
	int ret = qmp_command(q, "query-memdev", NULL, &list);

	memset(ram, 0, sizeof(*ram));
	if (!ret)
		ret = qemu_base_memory(q, &base, &plugged);
	if (ret) {
		log_error("cannot ask the %s QEMU for its memory: %s", side, q->error);
		return ret;
	}
	dev = json_array_get(list, 0);
	if (json_array_size(list) != 1 || plugged) {
		log_error("the %s has %zu memory backends%s; "
			  "umig can move a machine whose RAM is one: -object memory-backend-file,id=r0,... -machine memory-backend=r0",
			  side, json_array_size(list), plugged ? " and hotplugged memory" : "");
		json_decref(list);
		return -EOPNOTSUPP;
	}
	snprintf(ram->id, sizeof(ram->id), "%s",
		 json_string_value(json_object_get(dev, "id")) ?: "");
	ram->size = (uint64_t)json_integer_value(json_object_get(dev, "size"));
	ram->share = json_is_true(json_object_get(dev, "share"));
	ram->prealloc = json_is_true(json_object_get(dev, "prealloc"));
	json_decref(list);
	ret = qemu_get_property(q, ram->id, "type", ram->type, sizeof(ram->type));
	if (!ret && strcmp(ram->type, "memory-backend-file")) {
		log_error("the %s's RAM is a %s; "
			  "umig needs -object memory-backend-file,id=r0,size=...,mem-path=... -machine memory-backend=r0",
			  side, ram->type);
		return -EOPNOTSUPP;
	}
	if (!ret)
		ret = qemu_get_property(q, ram->id, "mem-path", ram->path, sizeof(ram->path));
	if (ret) {
		log_error("cannot ask the %s QEMU about its memory backend '%s': %s", side,
			  ram->id, q->error);
		return ret;
	}
	if (ram->size != base) {
		log_error("the %s's memory backend '%s' has %" PRIu64
			  " bytes but the machine has %" PRIu64 "; "
			  "use it as -machine memory-backend=%s",
			  side, ram->id, ram->size, base, ram->id);
		return -EOPNOTSUPP;
	}
	return 0;
}

/**
 * qemu_check_caps - learn the present values, and refuse what cannot work
 * @caps: ends with an entry without a name; gets @former
 */
int qemu_check_caps(struct qmp *q, const char *side, struct qemu_cap *caps)
{
	json_t *list, *item;
	struct qemu_cap *cap;
	size_t i;
	int ret = qmp_command(q, "query-migrate-capabilities", NULL, &list);

	if (ret) {
		log_error("cannot ask the %s QEMU for its migration capabilities: %s", side,
			  q->error);
		return ret;
	}
	for (cap = caps; cap->name; cap++)
		cap->former = -1;
	json_array_foreach(list, i, item) {
		const char *name = json_string_value(json_object_get(item, "capability"));
		bool on = json_is_true(json_object_get(item, "state"));

		if (name && on && !strcmp(name, "postcopy-ram")) {
			log_error("the %s QEMU has postcopy-ram on, which excludes shared memory; "
				  "switch it off: migrate_set_capability postcopy-ram off",
				  side);
			ret = -EOPNOTSUPP;
		}
		for (cap = caps; name && cap->name; cap++) {
			if (!strcmp(cap->name, name))
				cap->former = on;
		}
	}
	json_decref(list);
	for (cap = caps; cap->name && !ret; cap++) {
		if (cap->former < 0 && cap->required) {
			log_error("the %s QEMU lacks the migration capability %s; "
				  "QEMU 4.0 or later is needed",
				  side, cap->name);
			ret = -EOPNOTSUPP;
		}
	}
	return ret;
}

static int qemu_apply_caps(struct qmp *q, const struct qemu_cap *caps, bool restore)
{
	json_t *list = json_array();

	for (; caps->name; caps++) {
		bool value = restore ? caps->former : caps->want;

		if (caps->former < 0 || caps->former == caps->want)
			continue;
		json_array_append_new(list, json_pack("{s:s, s:b}", "capability", caps->name,
						      "state", value));
	}
	if (!json_array_size(list)) {
		json_decref(list);
		return 0;
	}
	return qmp_command(q, "migrate-set-capabilities", json_pack("{s:o}", "capabilities",
								    list), NULL);
}

int qemu_set_caps(struct qmp *q, const struct qemu_cap *caps)
{
	return qemu_apply_caps(q, caps, false);
}

int qemu_restore_caps(struct qmp *q, const struct qemu_cap *caps)
{
	return qemu_apply_caps(q, caps, true);
}

/* Takes the events that have arrived; never waits. Return: 0 or -errno (QEMU is gone). */
int qemu_take_events(struct qmp *q, struct qemu_events *e)
{
	int ret = qmp_pump(q);
	json_t *event;

	while ((event = qmp_next_event(q))) {
		const char *name = json_string_value(json_object_get(event, "event")) ?: "";
		json_t *data = json_object_get(event, "data");

		if (!strcmp(name, "STOP") && !e->stop_ns)
			e->stop_ns = now_ns();
		else if (!strcmp(name, "RESUME"))
			e->runs = true;
		else if (!strcmp(name, "MIGRATION"))
			snprintf(e->migration, sizeof(e->migration), "%s",
				 json_string_value(json_object_get(data, "status")) ?: "");
		json_decref(event);
	}
	return ret;
}

int qemu_run_state(struct qmp *q, char *state, size_t size)
{
	json_t *ret;
	int err = qmp_command(q, "query-status", NULL, &ret);

	if (err)
		return err;
	snprintf(state, size, "%s", json_string_value(json_object_get(ret, "status")) ?: "?");
	json_decref(ret);
	return 0;
}

/* "none" if there has been no migration. */
int qemu_migration_state(struct qmp *q, char *state, size_t size, char *error, size_t error_size)
{
	json_t *ret;
	int err = qmp_command(q, "query-migrate", NULL, &ret);

	if (err)
		return err;
	snprintf(state, size, "%s", json_string_value(json_object_get(ret, "status")) ?: "none");
	snprintf(error, error_size, "%s",
		 json_string_value(json_object_get(ret, "error-desc")) ?: "no reason given");
	json_decref(ret);
	return 0;
}

/*
 * The destination QEMU keeps the id of its migration, as the data of a secret object, the one kind
 * of object that holds a string and can be read. If umig is killed, the umig that goes on can tell
 * the sender of this migration from a sender that another guest left behind.
 */
#define ID_OBJECT	"umig-migration"

void qemu_keep_id(struct qmp *q, const char *id)
{
	qemu_forget_id(q);
	qmp_command(q, "object-add", json_pack("{s:s, s:s, s:s}", "qom-type", "secret", "id",
					       ID_OBJECT, "data", id), NULL);
}

/* @id is empty if QEMU keeps none. */
void qemu_kept_id(struct qmp *q, char *id, size_t size)
{
	if (qemu_get_property(q, ID_OBJECT, "data", id, size))
		id[0] = '\0';
}

void qemu_forget_id(struct qmp *q)
{
	qmp_command(q, "object-del", json_pack("{s:s}", "id", ID_OBJECT), NULL);
}

bool qemu_migration_is_active(const char *state)
{
	return strcmp(state, "none") && strcmp(state, "completed") && strcmp(state, "failed") &&
		strcmp(state, "cancelled");
}

/* mem-lock=on waits for every page. QMP does not show it, /proc does. */
bool qemu_has_locked_memory(pid_t pid)
{
	unsigned long kib = 0;
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "VmLck: %lu kB", &kib) == 1)
			break;
	}
	fclose(f);
	return kib > 0;
}

/*
 * Has process @pid mapped the file at @path? The file may have been replaced since, or the path may
 * mean another file in QEMU's mount namespace. True if /proc does not let us look.
 */
bool qemu_maps_file(pid_t pid, const char *path)
{
	struct mapping m;
	bool found = false;
	struct stat st;
	FILE *f;

	if (stat(path, &st))
		return false;
	f = mappings_open(pid);
	if (!f)
		return true;
	while (!found && mappings_next(f, &m))
		found = m.inode == st.st_ino && m.dev == st.st_dev;
	fclose(f);
	return found;
}

/* The link in /proc to the memory of a region that has been converted. Return: 0 or -errno. */
static int qemu_find_backing(pid_t pid, uint64_t size, char *path, size_t path_size)
{
	FILE *f = mappings_open(pid);
	int ret = -ENOENT;
	struct mapping m;
	struct stat st;

	if (!f)
		return -errno;
	while (ret && mappings_next(f, &m)) {
		if (!m.shared || m.offset || strcmp(m.name, "/postcopy (deleted)"))
			continue;
		snprintf(path, path_size, "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, (int)pid,
			 m.start, m.end);
		if (stat(path, &st))
			ret = -errno;
		else if ((uint64_t)st.st_size == size)
			ret = 0;
	}
	fclose(f);
	return ret;
}

/**
 * qemu_find_arrived - where to read RAM that came by postcopy into a shared region
 * @ram: its path is /dev/postcopy; it gets the path of the file with the contents
 *
 * Refuses as long as the region is not converted: missing pages would read as zeros there.
 *
 * Return: 0 or -EOPNOTSUPP, having said why.
 */
int qemu_find_arrived(pid_t pid, struct qemu_ram *ram)
{
	int context = dev_open(), ret;
	uint64_t *ids = NULL;
	size_t nr = 0;

	/* -ENOENT: without the module there are no regions. */
	ret = context < 0 ? context : regions_of(context, pid, &ids, &nr);
	free(ids);
	if (context >= 0)
		close(context);
	if (ret && ret != -ENOENT) {
		log_error("cannot ask whether the source's RAM has arrived: %s: %s", dev_path(),
			  strerror(-ret));
		return -EOPNOTSUPP;
	}
	if (nr) {
		log_error("the source's RAM is still arriving (see 'umig list'); "
			  "try again when that has ended");
		return -EOPNOTSUPP;
	}
	ret = qemu_find_backing(pid, ram->size, ram->path, sizeof(ram->path));
	if (!ret)
		return 0;
	log_error("the source's RAM came by postcopy; /proc/%d/map_files does not show it: %s%s",
		  (int)pid, strerror(-ret),
		  ret == -EPERM || ret == -EACCES ? "; run umig as root" : "");
	return -EOPNOTSUPP;
}
