/* Which machines a request may make us talk to.  Every transfer whose URL came with a request (a
 * picture to fetch, a webhook, an upload, a URL some service answered with) goes through here: the
 * text is checked before anything is resolved, and the address curl really connects to is checked
 * in its socket callback, so that no spelling and no name server can get around it.  Must never
 * send anything itself. */
#ifndef RV_GUARD_H
#define RV_GUARD_H

#include <curl/curl.h>
#include <sys/socket.h>

#include "base/status.h"

/* The rules.  Never change once made; any thread. */
typedef struct rv__guard rv__guard;

typedef enum rv__guard_mode {
    RV__GUARD_PUBLIC, /* public addresses, and what is allowed by name or address */
    RV__GUARD_LIST,   /* only what is allowed by name or address                  */
    RV__GUARD_OFF     /* nothing                                                  */
} rv__guard_mode;

/* Lists are separated by spaces: "10.1.0.0/16 2001:db8::/32 192.0.2.7 cdn.example.org
 * *.example.net"; a star stands for one or more labels in front.  Deny wins over allow, allow over
 * the built-in list of addresses that are not public. */
typedef struct rv__guard_options {
    rv__guard_mode mode;
    bool https_only;
    const char *allow, *deny; /* NULL: empty                                        */
    const char *ports;        /* NULL: "80 443 8080 8443"; "*": any; "8000-8999"    */
} rv__guard_options;

/* RV_VALIDATION names the entry that cannot be understood.  out (rv__guard_free). */
rv_status rv__guard_new(const rv__guard_options *o, rv__guard **out, rv_error *err);
void rv__guard_free(rv__guard *g);

/* RV_VALIDATION when the list cannot be understood; err names the entry.  `ports` says which kind. */
rv_status rv__guard_check_list(const char *list, bool ports, rv_error *err);

/* One URL that passed the first check, for one transfer.  Must stay where it is until the transfer
 * has ended. */
typedef struct rv__guard_pass {
    const rv__guard *guard; /* borrowed */
    CURLU *parsed;
    char *target;       /* path and query, byte for byte as they were written */
    bool host_is_named; /* an allow list names the host: its address may be any */
    bool was_refused;   /* a connection was refused because of its address      */
} rv__guard_pass;

/* Judges the text alone: scheme, credentials, port, host, and the address where the host is one
 * (RV_VALIDATION; the sentence says nothing that the caller does not know).  No name is resolved.
 * Fills *pass (rv__guard_pass_free); pass may be NULL. */
rv_status rv__guard_url(const rv__guard *g, const char *url, rv__guard_pass *pass, rv_error *err);

/* Sets the URL and everything that keeps the transfer on it: the socket callback, no proxy, no
 * redirects, a connection of its own.  Call it last, on a handle that is not in use. */
bool rv__guard_arm(rv__guard_pass *pass, CURL *easy);
void rv__guard_pass_free(rv__guard_pass *pass);

/* May a connection to this address be made?  `named`: the host itself is on the allow list. */
bool rv__guard_address(const rv__guard *g, const struct sockaddr *address, bool named);

/* Public in the sense of the built-in list, addresses of this machine not counted. */
bool rv__guard_is_public(const struct sockaddr *address);

/* For logs: scheme, host, port and path; a query becomes "?…", credentials vanish.  out (rv__free),
 * NULL when out of memory. */
char *rv__guard_log_form(const char *url);

#endif
