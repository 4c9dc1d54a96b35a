// SPDX-License-Identifier: GPL-2.0
/*
 * TLS of the control connection. NBD carries blocks and not a stream in both directions, so the
 * control connection cannot go through libnbd and nbdkit. It uses the library that they use, and
 * the same key files.
 *
 * The receiver listens, so it is the TLS server. Each side must know the other: with certificates,
 * the client shows its certificate too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/lib.h"
#include "wire/tls.h"
#include "wire/tls_session.h"

#define PSK_PRIORITY	"NORMAL:-KX-ALL:+ECDHE-PSK:+DHE-PSK"

/*
 * The keys of this process. They are read once, because the sandbox may forbid it later. Every
 * session points to @identity: what the other side's certificate must be good for and, for a
 * client, the @host it must name.
 */
static struct {
	enum tls_side side;
	gnutls_certificate_credentials_t certificates;
	gnutls_psk_server_credentials_t psk_server;
	gnutls_psk_client_credentials_t psk_client;
	char host[256];
	gnutls_typed_vdata_st identity[2];
	unsigned int nr_identity;
} tls_keys;

/* The line "USER:KEY" of --tls-psk. Return: 0 or -errno. */
static int tls_load_psk_client(void)
{
	const struct passwd *pw = tls.user ? NULL : getpwuid(geteuid());
	const char *user = pw ? pw->pw_name : tls.user;
	FILE *f = fopen(tls.psk, "re");
	int ret = -ENOENT;
	char *line = NULL;
	size_t size = 0;

	if (!f)
		return -errno;
	while (ret == -ENOENT && user && getline(&line, &size, f) > 0) {
		char *key = strchr(line, ':');
		gnutls_datum_t datum;

		if (!key)
			continue;
		*key++ = '\0';
		if (strcmp(line, user))
			continue;
		key[strcspn(key, "\r\n")] = '\0';
		datum.data = (unsigned char *)key;
		datum.size = (unsigned int)strlen(key);
		ret = gnutls_psk_set_client_credentials(tls_keys.psk_client, user, &datum,
							GNUTLS_PSK_KEY_HEX) ? -EINVAL : 0;
	}
	if (line)
		explicit_bzero(line, size);
	free(line);
	fclose(f);
	if (ret)
		log_error("%s: %s key of user '%s'; "
			  "psktool -u NAME -p FILE makes one, --tls-user NAME chooses one",
			  tls.psk, ret == -ENOENT ? "there is no" : "that is no good",
			  user ? user : "?");
	return ret;
}

/* One more thing that the certificate of the other side must say. */
static void tls_must_be(gnutls_vdata_types_t type, const char *what)
{
	gnutls_typed_vdata_st *v = &tls_keys.identity[tls_keys.nr_identity++];

	v->type = type;
	v->data = (unsigned char *)what;
}

static int tls_load_certificates(void)
{
	bool server = tls_keys.side == TLS_SERVER;
	const char *who = server ? "server" : "client";
	char ca[4200], cert[4200], key[4200];
	int ret;

	snprintf(ca, sizeof(ca), "%s/ca-cert.pem", tls.certificates);
	snprintf(cert, sizeof(cert), "%s/%s-cert.pem", tls.certificates, who);
	snprintf(key, sizeof(key), "%s/%s-key.pem", tls.certificates, who);
	ret = gnutls_certificate_set_x509_trust_file(tls_keys.certificates, ca,
						     GNUTLS_X509_FMT_PEM);
	if (ret <= 0) {
		log_error("%s: no certificate of an authority there: %s", ca,
			  ret ? gnutls_strerror(ret) : "it is empty");
		return -EINVAL;
	}
	ret = gnutls_certificate_set_x509_key_file(tls_keys.certificates, cert, key,
						   GNUTLS_X509_FMT_PEM);
	if (ret) {
		log_error("%s and %s are not a certificate and its key: %s", cert, key,
			  gnutls_strerror(ret));
		return -EINVAL;
	}
	tls_must_be(GNUTLS_DT_KEY_PURPOSE_OID, server ? GNUTLS_KP_TLS_WWW_CLIENT :
							 GNUTLS_KP_TLS_WWW_SERVER);
	if (*tls_keys.host)
		tls_must_be(GNUTLS_DT_DNS_HOSTNAME, tls_keys.host);
	return 0;
}

/**
 * tls_load - read the keys that the command line names, once
 * @host: TLS_CLIENT: the name or IP address that the server's certificate must have; NULL: any
 *	that the authority has signed for a server
 *
 * Return: 0, also without TLS; -errno, having said why.
 */
int tls_load(enum tls_side side, const char *host)
{
	int ret;

	tls_keys.side = side;
	snprintf(tls_keys.host, sizeof(tls_keys.host), "%s", host ? host : "");
	if (tls.certificates) {
		ret = gnutls_certificate_allocate_credentials(&tls_keys.certificates);
		return ret ? -ENOMEM : tls_load_certificates();
	}
	if (!tls.psk)
		return 0;
	if (side == TLS_CLIENT) {
		ret = gnutls_psk_allocate_client_credentials(&tls_keys.psk_client);
		return ret ? -ENOMEM : tls_load_psk_client();
	}
	ret = gnutls_psk_allocate_server_credentials(&tls_keys.psk_server);
	if (!ret)
		ret = gnutls_psk_set_server_credentials_file(tls_keys.psk_server, tls.psk);
	if (ret)
		log_error("cannot use the keys in %s: %s", tls.psk, gnutls_strerror(ret));
	return ret ? -EINVAL : 0;
}

static ssize_t tls_push(gnutls_transport_ptr_t fd, const void *data, size_t length)
{
	return send((int)(intptr_t)fd, data, length, MSG_NOSIGNAL);
}

static ssize_t tls_pull(gnutls_transport_ptr_t fd, void *buf, size_t size)
{
	return recv((int)(intptr_t)fd, buf, size, MSG_DONTWAIT);
}

/* For the end of a session, which waits for nobody. */
static ssize_t tls_push_now(gnutls_transport_ptr_t fd, const void *data, size_t length)
{
	return send((int)(intptr_t)fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int tls_session_prepare(gnutls_session_t s)
{
	bool server = tls_keys.side == TLS_SERVER;
	int ret;

	if (!tls.certificates) {
		ret = gnutls_priority_set_direct(s, PSK_PRIORITY, NULL);
		if (ret)
			return ret;
		return gnutls_credentials_set(s, GNUTLS_CRD_PSK,
					      server ? (void *)tls_keys.psk_server :
						       (void *)tls_keys.psk_client);
	}
	ret = gnutls_set_default_priority(s);
	if (!ret)
		ret = gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, tls_keys.certificates);
	if (ret)
		return ret;
	if (server)
		gnutls_certificate_server_set_request(s, GNUTLS_CERT_REQUIRE);
	gnutls_session_set_verify_cert2(s, tls_keys.identity, tls_keys.nr_identity, 0);
	return 0;
}

static int tls_shake_hands(gnutls_session_t s, int fd, unsigned int timeout_ms)
{
	uint64_t deadline = now_ns() + timeout_ms * 1000000ULL;
	int ret;

	for (;;) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		uint64_t now = now_ns();

		ret = gnutls_handshake(s);
		if (ret == GNUTLS_E_SUCCESS || gnutls_error_is_fatal(ret))
			return ret;
		if (now >= deadline)
			return GNUTLS_E_TIMEDOUT;
		if (ret == GNUTLS_E_AGAIN)
			poll(&pfd, 1, (int)((deadline - now) / 1000000 + 1));
	}
}

/**
 * tls_session_open - the handshake on a connected socket, which stays the caller's
 * @timeout_ms: for the handshake
 *
 * Return: 0; -EKEYREJECTED if the two do not trust each other or the other side does not speak
 * TLS, having said so; -ENOMEM.
 */
int tls_session_open(gnutls_session_t *session, int fd, unsigned int timeout_ms)
{
	bool server = tls_keys.side == TLS_SERVER;
	gnutls_session_t s;
	int ret;

	ret = gnutls_init(&s, GNUTLS_NO_SIGNAL | (server ? GNUTLS_SERVER : GNUTLS_CLIENT));
	if (ret)
		return -ENOMEM;
	gnutls_transport_set_int(s, fd);
	gnutls_transport_set_push_function(s, tls_push);
	gnutls_transport_set_pull_function(s, tls_pull);
	ret = tls_session_prepare(s);
	if (!ret)
		ret = tls_shake_hands(s, fd, timeout_ms);
	if (!ret) {
		*session = s;
		return 0;
	}
	gnutls_transport_set_push_function(s, tls_push_now);
	gnutls_alert_send_appropriate(s, ret);
	log_error("no TLS with the %s: %s; "
		  "both sides need the same --tls-psk, or certificates of the same authority",
		  server ? "sender" : "receiver", gnutls_strerror(ret));
	gnutls_deinit(s);
	return -EKEYREJECTED;
}

/* Tells the peer and does not wait for its answer. */
void tls_session_close(gnutls_session_t session)
{
	gnutls_transport_set_push_function(session, tls_push_now);
	gnutls_bye(session, GNUTLS_SHUT_WR);
	gnutls_deinit(session);
}

static ssize_t tls_errno(ssize_t ret)
{
	switch (ret) {
	case GNUTLS_E_AGAIN:
		errno = EAGAIN;
		break;
	case GNUTLS_E_INTERRUPTED:
		errno = EINTR;
		break;
	case GNUTLS_E_PREMATURE_TERMINATION:
		errno = ECONNRESET;
		break;
	/* With TLS 1.3 a client hears only now that its certificate was refused. */
	case GNUTLS_E_FATAL_ALERT_RECEIVED:
		errno = EKEYREJECTED;
		break;
	default:
		errno = EPROTO;
	}
	return -1;
}

/* As send(2) on a blocking socket. Only one thread at a time may call it. */
ssize_t tls_session_send(gnutls_session_t session, const void *data, size_t length)
{
	ssize_t n = gnutls_record_send(session, data, length);

	return n < 0 ? tls_errno(n) : n;
}

/* As recv(2) with MSG_DONTWAIT. One thread receives; another may send at the same time. */
ssize_t tls_session_receive(gnutls_session_t session, void *buf, size_t size)
{
	ssize_t n = gnutls_record_recv(session, buf, size);

	return n < 0 ? tls_errno(n) : n;
}

/* Has GnuTLS received bytes that poll() on the socket does not show? */
bool tls_session_has_more(gnutls_session_t session)
{
	return gnutls_record_check_pending(session) > 0;
}
