/*
 * stop.h - named places at which a test can hold a backend.
 *
 * STOP("name") is nothing unless compiled with -DIOTMQ_STOPS, which tools/test does
 * and a build to be installed does not. Then it calls what test/modules/stop has
 * left in a rendezvous variable, if that module is loaded into the backend: whoever
 * armed the name waits there until another session lets it go. The head of the
 * module says how a test does that, and which moments of a transaction's end it can
 * be held at without a STOP.
 *
 * A name says what has been done just before, module noun first: "stable_listed".
 * A STOP waits for a heavyweight lock: not under a spinlock, a buffer lock or
 * another LWLock. It processes no invalidation messages.
 *
 * INJECTION_POINT of PostgreSQL 17 and later is the same thing: a STOP would be an
 * injection point "iotmq-name" with the action "wait" attached. It isn't made of one,
 * because such points do nothing in a server that was built without
 * --enable-injection-points, and packaged servers are.
 */
#ifndef IOTMQ_STOP_H
#define IOTMQ_STOP_H

#include "postgres.h"

#define STOP_VARIABLE "iotmq_stop"	/* a StopHook */

typedef void (*StopHook) (const char *name);

#ifdef IOTMQ_STOPS
#include "fmgr.h"

static inline void
stop_here(const char *name)
{
	static void **hook = NULL;

	if (hook == NULL)
		hook = find_rendezvous_variable(STOP_VARIABLE);
	if (*hook != NULL)
		((StopHook) *hook) (name);
}

#define STOP(name) stop_here(name)
#else
#define STOP(name) ((void) 0)
#endif

#endif
